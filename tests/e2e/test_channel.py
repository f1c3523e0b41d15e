# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything on the way to an agent begins anew in mid-upgrade, in one order and in its reverse: the campaign goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from e2e import actors

from lab import drives, inside, plays, ssh
from lab.cast import CELLS, Guest, node_of

BY_NAME = {guest.name: guest for guest in CELLS}
ALL_IN_ORDER = BY_NAME["cell-02"]
ALL_IN_REVERSE = BY_NAME["cell-01"]
INSTALLING = BY_NAME["cell-04"]
RESET_INSTALLING = BY_NAME["cell-03"]
STOPPED_INSTALLING = BY_NAME["cell-05"]
LATE = BY_NAME["cell-07"]
ACTORS = (ALL_IN_ORDER, ALL_IN_REVERSE, RESET_INSTALLING, STOPPED_INSTALLING, LATE)


def restart_relay(guest: Guest) -> None:
    ssh.run_on(node_of(guest.node), "systemctl restart isolift-relay")


def restart_libvirtd(guest: Guest) -> None:
    ssh.run_on(node_of(guest.node), "systemctl restart libvirtd")


def reset_guest(guest: Guest) -> None:
    ssh.run_on(node_of(guest.node), f"virsh -q reset {guest.name}")


def kill_agent(guest: Guest) -> None:
    inside.kill_agent(guest.node, guest.name)


def stop_and_start(guest: Guest) -> None:
    ssh.run_on(node_of(guest.node), f"virsh -q destroy {guest.name} && virsh -q start {guest.name}")


Disturbance = Callable[[Guest], None]
ORDER: tuple[Disturbance, ...] = (restart_relay, reset_guest, restart_libvirtd, kill_agent, stop_and_start)


def disturb_and_answer(guest: Guest, disturbances: tuple[Disturbance, ...]) -> None:
    """One disturbance after the other while the user is being asked; then the user says yes."""
    for disturbance in disturbances:
        inside.await_state(guest.node, guest.name, "asking")
        disturbance(guest)
    inside.await_state(guest.node, guest.name, "asking")
    inside.answer(guest.node, guest.name, "confirm")


def disturb_installation(guest: Guest, *disturbances: Disturbance) -> None:
    """One disturbance after the other while the installer runs; then the installer goes on."""
    inside.await_installer(guest.node, guest.name)
    for disturbance in disturbances:
        inside.await_state(guest.node, guest.name, "installing")
        disturbance(guest)
    if disturbances[-1] not in (reset_guest, stop_and_start):
        inside.let_installer_go(guest.node, guest.name)


def test_an_installer_outlives_its_agent_the_relay_and_libvirtd(iso: Path) -> None:
    with actors.on_stage([INSTALLING]):
        inside.hold_installer(INSTALLING.node, INSTALLING.name)
        run = actors.begin("channel-installing", [INSTALLING], 240)
        disturb_installation(INSTALLING, kill_agent, restart_libvirtd, restart_relay, kill_agent)
        run.finish()
        assert actors.results(run.campaign_id())[INSTALLING.name]["state"] == "succeeded"
        assert actors.begun(INSTALLING, INSTALLING.node) == actors.installs(INSTALLING, INSTALLING.node) == 1
        assert drives.discs() == ""


@pytest.fixture(scope="module")
def results(iso: Path) -> Iterator[Mapping[str, dict[str, Any]]]:
    """One campaign with all the rest: its results by name."""
    with actors.on_stage(ACTORS):
        for guest in (ALL_IN_ORDER, ALL_IN_REVERSE):
            inside.set_prompt(guest.node, guest.name, inside.NO_ANSWER)
        for guest in (RESET_INSTALLING, STOPPED_INSTALLING):
            inside.hold_installer(guest.node, guest.name)
        ssh.run_on(node_of(LATE.node), f"virsh -q destroy {LATE.name}")
        run = actors.begin("channel", ACTORS, 400)
        plans: list[Callable[[], None]] = [
            lambda: disturb_and_answer(ALL_IN_ORDER, ORDER),
            lambda: disturb_and_answer(ALL_IN_REVERSE, ORDER[::-1]),
            lambda: disturb_installation(RESET_INSTALLING, reset_guest),
            lambda: disturb_installation(STOPPED_INSTALLING, kill_agent, stop_and_start),
        ]
        with ThreadPoolExecutor(max_workers=len(plans)) as pool:
            list(pool.map(lambda plan: plan(), plans))
        ssh.run_on(node_of(LATE.node), f"virsh -q start {LATE.name}")
        run.finish(plays.SOME_FAILED)  # two installations were interrupted
        yield actors.results(run.campaign_id())


@pytest.mark.deep
@pytest.mark.parametrize("guest", (ALL_IN_ORDER, ALL_IN_REVERSE), ids=lambda guest: guest.name)
def test_whatever_begins_anew_while_the_user_is_asked(
    guest: Guest, results: Mapping[str, dict[str, Any]]
) -> None:
    assert results[guest.name]["state"] == "succeeded"
    assert actors.installs(guest, guest.node) == 1


@pytest.mark.deep
@pytest.mark.parametrize("guest", (RESET_INSTALLING, STOPPED_INSTALLING), ids=lambda guest: guest.name)
def test_an_installation_that_the_guest_did_not_survive_is_interrupted_and_not_begun_again(
    guest: Guest, results: Mapping[str, dict[str, Any]]
) -> None:
    assert results[guest.name]["state"] == "interrupted"
    assert (actors.begun(guest, guest.node), actors.installs(guest, guest.node)) == (1, 0)


@pytest.mark.deep
def test_a_vm_that_is_switched_on_later_is_upgraded_then(results: Mapping[str, dict[str, Any]]) -> None:
    assert results[LATE.name]["state"] == "succeeded"
    assert actors.installs(LATE, LATE.node) == 1


@pytest.mark.deep
def test_no_disc_is_left_after_all_that(results: Mapping[str, dict[str, Any]]) -> None:
    assert drives.discs() == ""
