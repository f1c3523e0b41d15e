# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole upgrade on real parts: the demonstration, and what it leaves to look at."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_id
from lab import campaigns, commands, demonstration, paths, plays, ssh
from lab.cast import GUESTS, NODES, node_of
from lab.progress import Progress
from lab.runs import Run
from lab.waiting import wait_until


@pytest.fixture(scope="module")
def closing_line() -> str:
    """What the demonstration says at its end, after it upgraded fresh guests twice."""
    progress = Progress()
    commands.guests_stop(progress)
    return demonstration.demonstrate(progress)


@pytest.fixture(scope="module")
def campaign_ids(closing_line: str) -> tuple[str, str]:
    """The IDs of the demonstration's two campaigns, in their order."""
    second, first = campaigns.newest(2)
    return first, second


def test_every_vm_ends_as_it_should(closing_line: str) -> None:
    counted = "2 succeeded + 1 up_to_date + 1 declined + 1 failed + 2 ineligible + 1 unreachable"
    assert closing_line == f"DEMO OK: 8 selected = {counted}"


def test_an_upgrade_is_traced_by_its_id_alone(campaign_ids: tuple[str, str]) -> None:
    results = campaigns.summary(campaign_ids[0])["results"]
    (upgrade,) = (result for result in results if result["name"] == "desk-01")
    run = plays.ansible("playbooks/status.yml", variables={"upgrade_id": upgrade["upgrade_id"]})
    plays.require(run, "tracing the upgrade")
    course = ["delivered", "request", "notified", "delivered", "confirmation", "progress", "result"]
    found = [
        line.split(" s  ", 1)[1].split()[0].strip("'") for line in run.output.splitlines() if " s  " in line
    ]
    steps = iter(found)
    assert all(step in steps for step in course), found


def test_status_shows_a_campaign(campaign_ids: tuple[str, str]) -> None:
    run = plays.ansible("playbooks/status.yml", variables={"campaign_id": campaign_ids[0]})
    plays.require(run, "showing the campaign")
    assert run.output.count("UPGRADE ID") == 1
    assert "8 selected = 2 succeeded + 1 up_to_date" in run.output
    for result in campaigns.summary(campaign_ids[0])["results"]:
        assert f"{result['upgrade_id']}  {result['name']}" in run.output


def test_status_lists_the_campaigns_the_newest_first(campaign_ids: tuple[str, str]) -> None:
    first, second = campaign_ids
    run = plays.ansible("playbooks/status.yml")
    plays.require(run, "listing the campaigns")
    lines = [line.split() for line in run.output.splitlines() if "guest-tools" in line]
    assert [line[:4] for line in lines[:2]] == [
        [second, "guest-tools", "2.0.0", "closed"],
        [first, "guest-tools", "2.0.0", "closed"],
    ]


def test_every_upgrade_has_an_id_of_its_own(campaign_ids: tuple[str, str]) -> None:
    ids = [
        result["upgrade_id"] for campaign in campaign_ids for result in campaigns.summary(campaign)["results"]
    ]
    assert len(set(ids)) == len(ids) == 2 * len(GUESTS)


def test_no_disc_of_ours_stays_in_a_drive(campaign_ids: tuple[str, str]) -> None:
    for node in NODES:
        drives = ssh.run_on(node, "for d in $(virsh -q list --all --name); do virsh domblklist $d; done")
        assert ".iso" not in drives


def test_a_finished_campaign_is_shown_again_when_it_is_resumed(campaign_ids: tuple[str, str]) -> None:
    run = plays.ansible("playbooks/upgrade.yml", variables={"campaign_id": campaign_ids[0]})
    plays.require(run, "resuming a finished campaign", plays.SOME_FAILED)
    assert run.output.count("UPGRADE ID") == 1
    assert "8 selected = 2 succeeded + 1 up_to_date" in run.output


def test_without_the_callback_the_playbook_shows_the_results(
    campaign_ids: tuple[str, str], tmp_path: Path
) -> None:
    settings = tmp_path / "ansible.cfg"
    settings.write_text(f"[defaults]\ncollections_path = {paths.COLLECTIONS}\n")
    run = plays.ansible(
        "playbooks/upgrade.yml",
        variables={"campaign_id": campaign_ids[0]},
        environment={"ANSIBLE_CONFIG": str(settings)},
    )
    plays.require(run, "showing a campaign without the callback", plays.SOME_FAILED)
    assert run.output.count("UPGRADE ID") == 1
    assert "8 selected = 2 succeeded + 1 up_to_date" in run.output


def test_a_campaign_can_be_cancelled_while_a_run_conducts_it(campaign_ids: tuple[str, str]) -> None:
    waiting = Run("cancelled", target_version="2.0.0", upgrade_vms=["desk-08"], upgrade_deadline_s=400)
    campaign = waiting.campaign_id()
    wait_until(
        lambda: "TASK [Conduct it" in waiting.output, what="the campaign to be conducted", timeout=120.0
    )
    wish = {"control_action": "cancel", "campaign_id": campaign, "control_reason": "a freeze of changes"}
    cancelling = plays.ansible("playbooks/control.yml", variables=wish)
    plays.require(cancelling, "cancelling the campaign")
    assert "cancel: 1 accepted, 0 refused" in cancelling.output
    waiting.finish()
    (result,) = campaigns.summary(campaign)["results"]
    assert (result["name"], result["state"], result["reason"]) == (
        "desk-08",
        "cancelled",
        "a freeze of changes",
    )


def test_cleanup_clears_what_is_over_and_nothing_else(campaign_ids: tuple[str, str]) -> None:
    node, media = node_of("node1"), "/var/lib/isolift/media"
    leaked, young = (
        "0192f0e0-1111-7abc-8def-0123456789ab",
        campaign_id(time.time_ns() // 1_000_000, bytes(10)),
    )
    for kept in ("somebody-elses", young):
        ssh.run_on(node, f"mkdir -p {media}/{kept} && touch {media}/{kept}/file")
    disc = f"{media}/{leaked}/{'0' * 64}.iso"
    ssh.run_on(
        node,
        f"mkdir -p {media}/{leaked} && truncate -s 64K {disc} && virsh change-media desk-01 sdz {disc} --live --config",
    )
    # A time zone west of Greenwich must make no campaign look older than it is.
    run = plays.ansible("playbooks/cleanup.yml", environment={"TZ": "America/New_York"})
    plays.require(run, "cleaning up")
    assert disc not in ssh.run_on(node, "virsh domblklist desk-01; virsh domblklist desk-01 --inactive")
    assert sorted(ssh.run_on(node, f"ls {media}").split()) == sorted(["somebody-elses", young])
    assert ssh.run_on(node_of("node2"), f"ls {media}") == ""
    assert campaigns.summary(campaign_ids[0])["finished"]
    ssh.run_on(node, f"rm -r {media}/somebody-elses {media}/{young}")
