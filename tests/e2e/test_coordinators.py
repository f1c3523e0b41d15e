# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controllers that are killed for good, that freeze, and that take over from one another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e import actors

from lab import campaigns, drives, inside, paths, plays, settings
from lab.cast import CELLS, Guest
from lab.runs import Run
from lab.waiting import wait_until

ANSWERING, DECLINING, SILENT, FAILING = CELLS[:4]
SHORT_DEADLINE_S = 60

pytestmark = pytest.mark.deep


@pytest.fixture(scope="module", autouse=True)
def guests(iso: Path) -> Iterator[None]:
    """Four guests whose users are asked and say nothing by themselves."""
    with actors.on_stage(CELLS[:4]):
        for guest in CELLS[:4]:
            inside.set_prompt(guest.node, guest.name, inside.NO_ANSWER)
        yield


@pytest.fixture(autouse=True)
def fresh_guests() -> None:
    for guest in CELLS[:4]:
        inside.set_back(guest.node, guest.name)


def asked(run: Run, *guests: Guest) -> str:
    """Wait until the users of ``guests`` are being asked; the campaign's ID."""
    for guest in guests:
        inside.await_state(guest.node, guest.name, "asking", timeout=180.0)
    return run.campaign_id()


def state_of(campaign_id: str, guest: Guest) -> str:
    return str(actors.results(campaign_id)[guest.name]["state"])


def test_without_its_controller_the_discs_go_by_themselves_or_are_named_and_cleared() -> None:
    actors_here = (ANSWERING, DECLINING, SILENT, FAILING)
    inside.fail_installer(FAILING.node, FAILING.name)
    run = actors.begin("controller-gone", actors_here, SHORT_DEADLINE_S)
    campaign_id = asked(run, *actors_here)
    iso = campaigns.media_path(campaign_id)
    run.kill()
    for guest, word in ((ANSWERING, "confirm"), (DECLINING, "decline"), (FAILING, "confirm")):
        inside.answer(guest.node, guest.name, word)
    wait_until(
        lambda: all(drives.drive_of(guest, guest.node) == "-" for guest in (ANSWERING, DECLINING, FAILING)),
        what="the relays to eject the discs of those that answered",
        timeout=60.0,
    )
    outcomes = [state_of(campaign_id, guest) for guest in actors_here]
    assert outcomes == ["succeeded", "declined", "notified", "failed"]
    assert drives.drive_of(SILENT, SILENT.node) == iso

    wait_until(lambda: campaigns.is_past(campaign_id), what="the campaign's deadline", timeout=90.0)
    shown = plays.ansible("playbooks/status.yml")
    plays.require(shown, "showing the discs")
    assert f"{SILENT.name}: leaked {iso}" in shown.output
    plays.require(plays.ansible("playbooks/cleanup.yml"), "cleaning up")
    assert drives.discs() == ""


def test_a_controller_that_was_frozen_loses_the_campaign_and_does_no_harm() -> None:
    first = actors.begin("frozen", [ANSWERING, DECLINING], 400)
    campaign_id = asked(first, ANSWERING, DECLINING)
    first.freeze()
    second = Run("took-over", campaign_id=campaign_id)
    wait_until(
        lambda: campaigns.epoch(campaign_id) >= 3, what="the second controller to take over", timeout=180.0
    )
    first.thaw()
    inside.answer(ANSWERING.node, ANSWERING.name, "confirm")
    inside.answer(DECLINING.node, DECLINING.name, "decline")
    second.finish()
    first.finish()
    assert "lost it" in " ".join(first.output.split())
    assert [state_of(campaign_id, guest) for guest in (ANSWERING, DECLINING)] == ["succeeded", "declined"]
    assert [actors.installs(guest, guest.node) for guest in (ANSWERING, DECLINING)] == [1, 0]
    assert drives.discs() == ""


def test_a_second_controller_follows_and_takes_over_when_the_first_is_killed() -> None:
    first = actors.begin("followed", [ANSWERING], 400)
    campaign_id = asked(first, ANSWERING)
    epoch = campaigns.epoch(campaign_id)
    second = Run("following", campaign_id=campaign_id)
    wait_until(
        lambda: "follows" in second.output or second.ended, what="the second run to follow", timeout=90.0
    )
    assert campaigns.epoch(campaign_id) == epoch
    first.kill()
    inside.answer(ANSWERING.node, ANSWERING.name, "confirm")
    second.finish()
    assert state_of(campaign_id, ANSWERING) == "succeeded"
    assert actors.installs(ANSWERING, ANSWERING.node) == 1
    assert drives.discs() == ""


def test_a_control_node_that_knows_nothing_but_the_broker_goes_on_with_a_campaign(tmp_path: Path) -> None:
    """It has no compute node in its inventory, no ISO and no key, and nobody's settings."""
    everybody = (ANSWERING, DECLINING, SILENT)
    run = actors.begin("elsewhere", everybody, SHORT_DEADLINE_S)
    campaign_id = asked(run, *everybody)
    run.kill()
    inside.answer(ANSWERING.node, ANSWERING.name, "confirm")
    inside.answer(DECLINING.node, DECLINING.name, "decline")
    broker = {
        "isolift_broker_host": settings.BROKER_HOST,
        "isolift_broker_password": settings.CONTROLLER_PASSWORD,
    }
    inventory = tmp_path / "inventory.json"
    inventory.write_text(json.dumps({"all": {"vars": broker}}))
    configuration = tmp_path / "ansible.cfg"
    configuration.write_text(f"[defaults]\ncollections_path = {paths.COLLECTIONS}\n")
    resumed = plays.ansible(
        "isolift.vm.upgrade",
        inventory=inventory,
        variables={"campaign_id": campaign_id},
        environment={"HOME": str(tmp_path), "ANSIBLE_CONFIG": str(configuration)},
    )
    plays.require(resumed, "going on with the campaign")
    assert "3 selected = 1 succeeded + 1 declined + 1 expired" in resumed.output
    assert f"its node {SILENT.node} was not asked to eject" in resumed.output
    assert [actors.installs(guest, guest.node) for guest in everybody] == [1, 0, 0]
    plays.require(plays.ansible("playbooks/cleanup.yml"), "cleaning up")
    assert drives.discs() == ""


def test_a_cancelled_campaign_installs_nothing_and_leaves_no_disc() -> None:
    run = actors.begin("cancelled", [ANSWERING, DECLINING], 400)
    campaign_id = asked(run, ANSWERING, DECLINING)
    wish = {"control_action": "cancel", "campaign_id": campaign_id, "control_reason": "a freeze of changes"}
    cancelling = plays.ansible("playbooks/control.yml", variables=wish)
    plays.require(cancelling, "cancelling the campaign")
    assert "2 accepted, 0 refused" in cancelling.output
    run.finish()
    assert [state_of(campaign_id, guest) for guest in (ANSWERING, DECLINING)] == ["cancelled", "cancelled"]
    assert [actors.installs(guest, guest.node) for guest in (ANSWERING, DECLINING)] == [0, 0]
    assert drives.discs() == ""
