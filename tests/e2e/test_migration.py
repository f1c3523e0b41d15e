# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs that move to the other node in mid-upgrade, and drives that lose their disc by it."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from e2e import actors
from faults.intercept import Breakpoint, Hit, Stop
from faults.stage import interceptor, through

from lab import campaigns, drives, inside, plays, ssh
from lab.cast import CELLS, Guest, node_of
from lab.migration import migrate

BY_NAME = {guest.name: guest for guest in CELLS}
BEFORE_START = BY_NAME["cell-02"]
ASKED = BY_NAME["cell-04"]
INSTALLING = BY_NAME["cell-06"]
EMPTIED = BY_NAME["cell-08"]
THERE_AND_BACK = BY_NAME["cell-01"]
STRANDED = BY_NAME["cell-10"]
MOVING = (BEFORE_START, ASKED, INSTALLING, EMPTIED, THERE_AND_BACK)

HERE, THERE = "node1", "node2"
HIT_S = 120.0
SHORT_DEADLINE_S = 60


@pytest.fixture(scope="module")
def guests() -> Iterator[None]:
    with actors.on_stage((*MOVING, STRANDED)):
        yield


@pytest.fixture(scope="module")
def results(guests: None, iso: Path) -> Mapping[str, dict[str, Any]]:
    """One campaign, during which each guest moves at another moment: its results by name."""
    for guest in (ASKED, EMPTIED, THERE_AND_BACK):
        inside.set_prompt(guest.node, guest.name, inside.NO_ANSWER)
    inside.hold_installer(HERE, INSTALLING.name)
    hits: queue.Queue[Hit] = queue.Queue()
    with interceptor(hits) as proxy:
        proxy.stop_at([Breakpoint(Stop.PUBLISHING, "start", str(BEFORE_START.uuid))])
        run = actors.begin("migration", MOVING, 300, **through(proxy))
        hit = hits.get(timeout=HIT_S)
        migrate(BEFORE_START.name, HERE, THERE)
        hit.resume()

        inside.await_state(HERE, ASKED.name, "asking")
        migrate(ASKED.name, HERE, THERE)
        inside.answer(THERE, ASKED.name, "confirm")

        inside.await_state(HERE, INSTALLING.name, "installing")
        migrate(INSTALLING.name, HERE, THERE)
        inside.let_installer_go(THERE, INSTALLING.name)

        inside.await_state(THERE, THERE_AND_BACK.name, "asking")
        migrate(THERE_AND_BACK.name, THERE, HERE)
        migrate(THERE_AND_BACK.name, HERE, THERE)
        inside.answer(THERE, THERE_AND_BACK.name, "confirm")

        inside.await_state(HERE, EMPTIED.name, "asking")
        _move_to_where_the_iso_is_missing(EMPTIED, campaigns.media_path(run.campaign_id()))
        inside.answer(THERE, EMPTIED.name, "confirm")
        run.finish()
    return actors.results(run.campaign_id())


def _move_to_where_the_iso_is_missing(guest: Guest, iso: str) -> None:
    """Migrate; the disc is lost by it. The ISO is back before the relay there looks."""
    there = node_of(THERE)
    ssh.run_on(there, f"systemctl stop isolift-relay && mv {iso} {iso}.away")
    migrate(guest.name, HERE, THERE)
    assert drives.drive_of(guest, THERE) == "-"
    ssh.run_on(there, f"mv {iso}.away {iso} && systemctl start isolift-relay")


@pytest.mark.parametrize("guest", MOVING, ids=lambda guest: guest.name)
def test_the_upgrade_goes_on_through_the_other_relay(
    guest: Guest, results: Mapping[str, dict[str, Any]]
) -> None:
    assert results[guest.name]["state"] == "succeeded"
    assert actors.installs(guest, THERE) == 1


def test_no_disc_is_left_behind_by_those_that_moved(results: Mapping[str, dict[str, Any]]) -> None:
    assert drives.discs() == ""


@pytest.mark.deep
def test_without_the_iso_on_its_new_node_the_outcome_says_so(
    results: Mapping[str, dict[str, Any]],
) -> None:
    inside.set_prompt(HERE, STRANDED.name, inside.NO_ANSWER)
    run = actors.begin("migration-stranded", [STRANDED], 240)
    inside.await_state(HERE, STRANDED.name, "asking")
    migrate(STRANDED.name, HERE, THERE)
    inside.answer(THERE, STRANDED.name, "confirm")
    run.finish(plays.SOME_FAILED)
    result = actors.results(run.campaign_id())[STRANDED.name]
    assert result["state"] == "failed"
    assert result["reason"].startswith("no_disc"), result
    history = campaigns.history(result["upgrade_id"])
    assert "no_media" in [record["payload"].get("reason") for record in history], (
        "the new node's relay says why"
    )
    assert actors.installs(STRANDED, THERE) == 0


@pytest.mark.deep
def test_a_vm_that_moved_and_never_said_how_it_ended_is_rid_of_its_disc(
    results: Mapping[str, dict[str, Any]],
) -> None:
    """No relay ejects without a result, and the node on which the VM was found has it no more."""
    silent, staying = THERE_AND_BACK, ASKED
    migrate(silent.name, THERE, HERE)
    for guest, node in ((silent, HERE), (staying, THERE)):
        inside.set_back(node, guest.name)
        inside.set_prompt(node, guest.name, inside.NO_ANSWER)
    run = actors.begin("migration-silent", [silent, staying], SHORT_DEADLINE_S)
    inside.await_state(HERE, silent.name, "asking")
    inside.await_state(THERE, staying.name, "asking")
    migrate(silent.name, HERE, THERE)
    assert drives.drive_of(silent, THERE) == campaigns.media_path(run.campaign_id())
    run.finish()
    assert {one["state"] for one in actors.results(run.campaign_id()).values()} == {"expired"}
    assert drives.discs() == ""


def test_a_disc_whose_iso_is_gone_stops_no_domain_from_starting(
    results: Mapping[str, dict[str, Any]],
) -> None:
    guest, node = BEFORE_START, node_of(THERE)
    directory = "/var/lib/isolift/media/0192f0e0-1111-7abc-8def-0123456789ab"
    disc = f"{directory}/{'0' * 64}.iso"
    ssh.run_on(node, f"mkdir -p {directory} && truncate -s 64K {disc}")
    insert = f"state=inserted vms={guest.name} path={disc}"
    run = plays.ansible(node.name, "-m", "isolift.vm.cdrom_media", "-a", insert, command="ansible")
    plays.require(run, "inserting a disc")
    ssh.run_on(node, f"rm -r {directory}; virsh -q destroy {guest.name}; virsh -q start {guest.name}")
    assert ssh.run_on(node, f"virsh -q domstate {guest.name}").strip() == "running"
    assert drives.drive_of(guest, THERE) == "-"
