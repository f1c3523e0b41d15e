# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests whose disk is set back, or is a copy of another guest's: nobody takes the one history for the other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from e2e import actors

from lab import campaigns, drives, inside, plays, ssh, state_disk
from lab.cast import CELLS, Guest, node_of

ORIGINAL, COPY = CELLS[1], CELLS[0]
REVERTED = CELLS[2]

pytestmark = pytest.mark.deep


@pytest.fixture(scope="module", autouse=True)
def guests(iso: Path) -> Iterator[None]:
    assert ORIGINAL.node != COPY.node, "each has a relay of its own"
    with actors.on_stage((ORIGINAL, COPY, REVERTED)):
        yield


def switch(guest: Guest, deed: str) -> None:
    """Start a guest, or destroy it as a power cut would."""
    ssh.run_on(node_of(guest.node), f"virsh -q {deed} {guest.name}")


@contextmanager
def without_relay(node: str) -> Iterator[None]:
    """The relay of the node is stopped: what its guests report stays with them."""
    ssh.run_on(node_of(node), "systemctl stop isolift-relay")
    try:
        yield
    finally:
        ssh.run_on(node_of(node), "systemctl start isolift-relay")


def heard_of(upgrade_id: str) -> set[str]:
    """The types of what the journal holds of an upgrade."""
    return {record["type"] for record in campaigns.history(upgrade_id)}


def test_a_guest_that_is_set_back_while_it_installs_is_interrupted_and_not_upgraded_again(
    tmp_path: Path,
) -> None:
    older = tmp_path / "older.qcow2"
    switch(REVERTED, "destroy")
    shutil.copyfile(state_disk.disk_path(REVERTED), older)
    switch(REVERTED, "start")
    inside.await_status(REVERTED.node, REVERTED.name, "session: open")

    inside.hold_installer(REVERTED.node, REVERTED.name)
    run = actors.begin("set-back", [REVERTED], 300)
    inside.await_state(REVERTED.node, REVERTED.name, "installing")
    switch(REVERTED, "destroy")
    shutil.copyfile(older, state_disk.disk_path(REVERTED))
    switch(REVERTED, "start")
    run.finish(plays.SOME_FAILED)

    result = actors.results(run.campaign_id())[REVERTED.name]
    assert (result["state"], result["stage"]) == ("interrupted", "state_lost")
    assert inside.installed(REVERTED.node, REVERTED.name) == ("1.0.0", 0)
    assert actors.begun(REVERTED, REVERTED.node) == 0
    assert drives.discs() == ""


def test_a_copy_of_a_guest_sends_nothing_that_the_original_had_still_to_say_and_is_upgraded_itself() -> None:
    inside.set_prompt(ORIGINAL.node, ORIGINAL.name, inside.NO_ANSWER)
    first = actors.begin("original", [ORIGINAL], 400)
    inside.await_state(ORIGINAL.node, ORIGINAL.name, "asking")
    upgrade_id = actors.results(first.campaign_id())[ORIGINAL.name]["upgrade_id"]
    with without_relay(ORIGINAL.node):
        inside.answer(ORIGINAL.node, ORIGINAL.name, "decline")
        inside.await_status(ORIGINAL.node, ORIGINAL.name, "unacknowledged: 2", "upgrade: -")
        for guest in (ORIGINAL, COPY):
            switch(guest, "destroy")
        shutil.copyfile(state_disk.disk_path(ORIGINAL), state_disk.disk_path(COPY))
        switch(COPY, "start")
        inside.await_status(COPY.node, COPY.name, f"vm: {COPY.uuid}", "session: open", "unacknowledged: 0")

        inside.set_prompt(COPY.node, COPY.name, inside.YES)
        second = actors.begin("copy", [COPY], 300)
        second.finish()
        assert actors.results(second.campaign_id())[COPY.name]["state"] == "succeeded"
        assert actors.begun(COPY, COPY.node) == actors.installs(COPY, COPY.node) == 1
        assert not heard_of(upgrade_id) & {"confirmation", "result"}
        log = ssh.run_on(node_of(COPY.node), "journalctl --unit isolift-relay --output cat")
        assert not [line for line in log.splitlines() if COPY.name in line and "refused" in line]

    switch(ORIGINAL, "start")
    first.finish()
    assert actors.results(first.campaign_id())[ORIGINAL.name]["state"] == "declined"
    assert "result" in heard_of(upgrade_id)
    assert drives.discs() == ""
