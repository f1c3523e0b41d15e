# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs with something odd about them: an outcome of their own, with its reason, while the others go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from e2e import actors

from lab import campaigns, commands, console, drives, inside, plays, runs, ssh
from lab.cast import GUESTS, NODES, node_of, stable_uuid
from lab.progress import Progress
from lab.runs import Run

DEADLINE_S = 25
FOREIGN_DISC = "/var/lib/libvirt/images/foreign.iso"
AGENT = "/usr/bin/isolift-agent"
ASKED = {guest.name: guest for guest in GUESTS}["desk-03"]

DRIVE = "<disk type='file' device='cdrom'>{source}<target dev='sda' bus='sata'/><readonly/></disk>"
CHANNEL = "<channel type='unix'><target type='virtio' name='org.isolift.agent.0'/></channel>"


def domain(name: str, *, uuid: str = "", disc: str = "", has_channel: bool = True) -> str:
    """The definition of a domain without an operating system."""
    drive = DRIVE.format(source=f"<source file='{disc}'/>" if disc else "")
    return f"""
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid or stable_uuid(name)}</uuid>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><tcg><tb-cache unit='MiB'>8</tb-cache></tcg></features>
  <devices>{drive}{CHANNEL if has_channel else ""}<memballoon model='none'/></devices>
</domain>"""


# What the guest of desk-06 does in place of its agent: it opens the session as an agent would, takes its start, and answers with
# one line of each kind that no agent sends.
HOSTILE_AGENT = r"""
import json, os, select, time
port = os.open("/dev/virtio-ports/org.isolift.agent.0", os.O_RDWR)
def say(raw):
    while raw:
        raw = raw[os.write(port, raw):]
def frame(**body):
    say(json.dumps(body).encode() + b"\n")
say(b"\n")
frame(type="hello", nonce="n1", agent_version="0", vm="", generation="g", counter=0)
changes = select.epoll()  # edge-triggered: a port whose host is away can always be read, and holds nothing
changes.register(port, select.EPOLLIN | select.EPOLLET)
buffer, until = b"", time.monotonic() + 120
while time.monotonic() < until:
    changes.poll(1)
    while select.select([port], [], [], 0)[0]:
        chunk = os.read(port, 65536)
        if not chunk:
            break
        buffer += chunk
    *lines, buffer = buffer.split(b"\n")
    for line in filter(None, lines):
        body = json.loads(line)
        if body["type"] != "carry":
            continue
        session, start = body["session"], body["message"]
        frame(type="ack", session=session, message_id=start["message_id"])
        request = dict(start, type="request", message_id="g.1", payload={"installed_version": "1.0.0"})
        say(b"this is not JSON\n")
        frame(type="carry", session=session, now=0, message=dict(request, type="reformat"))
        say(b"x" * 100000 + b"\n")
        frame(type="carry", session=session, now=0, message=dict(request, attempt=7, message_id="g.2"))
        raise SystemExit
"""


@pytest.fixture(scope="module")
def odd_domains() -> Iterator[None]:
    """Domains beside the lab's guests: a foreign disc, no channel, and a second definition of desk-05."""
    commands.guests_stop(Progress())
    commands.guests_start(Progress())
    commands.guests_wait(Progress())
    first = NODES[0]
    ssh.run_on(first, f"truncate -s 64K {FOREIGN_DISC}")
    definitions = {
        "odd-foreign": domain("odd-foreign", disc=FOREIGN_DISC),
        "odd-mute": domain("odd-mute", has_channel=False),
        "odd-twin": domain("odd-twin", uuid=str(stable_uuid("desk-05"))),
    }
    for definition in definitions.values():
        ssh.run_on(first, "virsh -q define /dev/stdin", stdin=definition)
    yield
    for name in definitions:
        ssh.run_on(first, f"virsh -q undefine {name}")
    commands.guests_stop(Progress())
    commands.guests_start(Progress())


@pytest.fixture(scope="module")
def hostile_guest(odd_domains: None) -> None:
    """desk-06 with another program on the agent's port."""
    stop = f"mv {AGENT} {AGENT}.off; kill $(pidof python3)"
    console.run("node2", "desk-06", stop)
    console.run("node2", "desk-06", f"cat > /run/hostile.py <<'END'\n{HOSTILE_AGENT}\nEND")
    console.run("node2", "desk-06", "setsid python3 /run/hostile.py > /run/hostile.log 2>&1 < /dev/null &")


@pytest.fixture(scope="module")
def typing_user(odd_domains: None) -> None:
    """desk-01 with a dialog that gets no answer, and a user who types one as soon as there is a question."""
    console.run("node1", "desk-01", "printf '#!/bin/sh\\nexit 2\\n' > /etc/isolift/prompt")
    answer = f"until {AGENT} answer confirm; do sleep 0.2; done"
    console.run("node1", "desk-01", f"setsid sh -c '{answer}' > /run/answer.log 2>&1 < /dev/null &")


@pytest.fixture(scope="module")
def results(
    odd_domains: None, hostile_guest: None, typing_user: None, iso: Path
) -> Mapping[str, dict[str, Any]]:
    """One campaign for the odd ones and some others: its results by name."""
    variables = {
        "target_version": "2.0.0",
        "upgrade_deadline_s": DEADLINE_S,
        "upgrade_vms": ["odd-*", "desk-01", "desk-05", "desk-06"],
    }
    run = plays.ansible("playbooks/upgrade.yml", variables=variables)
    plays.require(run, "the upgrade", plays.SOME_FAILED)
    summary = campaigns.summary(campaigns.newest(1)[0])
    assert summary["selected"] == sum(summary["counts"].values()) == len(summary["results"])
    return {result["name"]: result for result in summary["results"]}


def test_a_foreign_disc_is_left_in_its_drive(results: Mapping[str, dict[str, Any]]) -> None:
    assert (results["odd-foreign"]["state"], results["odd-foreign"]["reason"]) == (
        "ineligible",
        "drive_in_use",
    )
    assert FOREIGN_DISC in ssh.run_on(node_of("node1"), "virsh domblklist --inactive odd-foreign")


def test_a_vm_without_the_channel_is_ineligible(results: Mapping[str, dict[str, Any]]) -> None:
    assert (results["odd-mute"]["state"], results["odd-mute"]["reason"]) == ("ineligible", "no_channel")


def test_a_uuid_on_two_nodes_is_one_vm_the_running_one(results: Mapping[str, dict[str, Any]]) -> None:
    assert "odd-twin" not in results
    assert (results["desk-05"]["node"], results["desk-05"]["state"]) == ("node2", "succeeded")


def test_a_guest_that_talks_nonsense_fails_alone(results: Mapping[str, dict[str, Any]]) -> None:
    assert (results["desk-06"]["state"], results["desk-06"]["stage"]) == ("failed", "protocol")
    assert results["desk-01"]["state"] == "succeeded"


def test_an_answer_typed_in_the_guest_confirms(results: Mapping[str, dict[str, Any]]) -> None:
    assert results["desk-01"]["state"] == "succeeded"
    history = campaigns.history(results["desk-01"]["upgrade_id"])
    answers = [record["payload"] for record in history if record["type"] == "confirmation"]
    assert [(answer["answer"], answer["by"]) for answer in answers] == [("confirm", "user")]


def test_what_it_sent_is_in_its_trace(results: Mapping[str, dict[str, Any]]) -> None:
    history = campaigns.history(results["desk-06"]["upgrade_id"])
    refused = [record["payload"]["reason"] for record in history if record["type"] == "refused"]
    assert refused == ["not_json", "unknown_type", "too_long", "wrong_upgrade"]


@pytest.fixture(scope="module")
def open_run(odd_domains: None, iso: Path) -> Iterator[Run]:
    """A run whose campaign goes on until it is cancelled, because the user of its only VM says nothing."""
    inside.set_prompt(ASKED.node, ASKED.name, inside.NO_ANSWER)
    try:
        run = actors.begin("odd-open", [ASKED], 200)
        inside.await_state(ASKED.node, ASKED.name, "asking")
        yield run
    finally:
        runs.end_all()


def test_status_tells_our_discs_from_others_and_says_which_campaign_is_open(open_run: Run) -> None:
    campaign = open_run.campaign_id()
    shown = plays.ansible("playbooks/status.yml")
    plays.require(shown, "showing campaigns and discs")
    assert f"odd-foreign: foreign {FOREIGN_DISC}" in shown.output
    assert f"{ASKED.name}: ours {campaigns.media_path(campaign)}" in shown.output
    assert f"{campaign} guest-tools 2.0.0 open" in " ".join(shown.output.split())


def test_a_run_for_a_vm_of_an_open_campaign_is_refused_before_any_disc_moves(open_run: Run) -> None:
    campaign, before = open_run.campaign_id(), drives.discs()
    refused = plays.ansible(
        "playbooks/upgrade.yml", variables={"target_version": "2.0.0", "upgrade_vms": [ASKED.name, "desk-05"]}
    )
    said = " ".join(refused.output.split())
    assert refused.status != 0
    taken = f"is open and has no outcome yet for 1 of the selected VMs ({ASKED.name})"
    assert f"campaign {campaign} {taken}" in said
    assert f"isolift.vm.upgrade -e campaign_id={campaign}" in said
    assert drives.discs() == before
    assert campaigns.newest(1) == [campaign]


def test_a_campaign_that_is_cancelled_while_the_user_is_asked_installs_nothing_and_leaves_no_disc(
    open_run: Run,
) -> None:
    campaign = open_run.campaign_id()
    wish = {"control_action": "cancel", "campaign_id": campaign}
    plays.require(plays.ansible("playbooks/control.yml", variables=wish), "cancelling the campaign")
    open_run.finish()
    assert actors.results(campaign)[ASKED.name]["state"] == "cancelled"
    assert actors.begun(ASKED, ASKED.node) == 0
    assert drives.drive_of(ASKED, ASKED.node) == "-"
