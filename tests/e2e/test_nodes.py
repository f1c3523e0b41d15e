# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Campaigns whose compute nodes are not all alike: one is gone, has the ISO on its storage, or only VMs that another
campaign has; or none has its libvirt at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from e2e import actors, inventories

from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_id
from lab import campaigns, drives, inside, paths, plays, ssh
from lab.cast import CELLS, Guest, node_of
from lab.waiting import wait_until

ON_SECOND, ON_FIRST = CELLS[:2]


@pytest.fixture(scope="module", autouse=True)
def guests(iso: Path) -> Iterator[None]:
    """One guest on each node."""
    with actors.on_stage([ON_FIRST, ON_SECOND]):
        yield


def upgraded(guest: Guest, inventory: Path, **variables: Any) -> plays.Run:
    """The run of the playbook in which ``guest`` alone was upgraded."""
    options = {"target_version": actors.TARGET, "upgrade_vms": [guest.name], **variables}
    run = plays.ansible("playbooks/upgrade.yml", inventory=inventory, variables=options)
    plays.require(run, f"upgrading {guest.name}")
    assert "1 selected = 1 succeeded" in run.output
    (result,) = actors.results(campaigns.newest(1)[0]).values()
    assert (result["name"], result["state"]) == (guest.name, "succeeded")
    assert inside.installed(guest.node, guest.name) == (actors.TARGET, 1)
    assert drives.discs() == ""
    return run


def test_by_option_a_node_that_cannot_be_reached_stops_nobody_else(lost_node: Path) -> None:
    run = upgraded(ON_FIRST, lost_node, upgrade_allow_unreachable_nodes=True)
    assert "[node2]: UNREACHABLE!" in run.output


def test_a_node_whose_vms_all_wait_for_another_campaign_has_the_iso_when_their_turn_comes() -> None:
    inside.set_back(ON_FIRST.node, ON_FIRST.name)
    inside.set_prompt(ON_FIRST.node, ON_FIRST.name, inside.NO_ANSWER)
    first = actors.begin("before", [ON_FIRST], 300)
    inside.await_state(ON_FIRST.node, ON_FIRST.name, "asking")
    second = actors.begin("behind", [ON_FIRST], 300, upgrade_overlap="queue")
    wait_until(lambda: "TASK [Conduct it" in second.output, what="the second campaign", timeout=120.0)
    inside.answer(ON_FIRST.node, ON_FIRST.name, "decline")
    first.finish()
    inside.await_state(ON_FIRST.node, ON_FIRST.name, "asking")
    inside.answer(ON_FIRST.node, ON_FIRST.name, "confirm")
    second.finish()
    outcomes = [actors.results(run.campaign_id())[ON_FIRST.name]["state"] for run in (first, second)]
    assert outcomes == ["declined", "succeeded"]


@pytest.mark.deep
def test_the_disc_of_a_run_that_may_be_going_on_stays_until_the_relay_has_the_start() -> None:
    """No list names its campaign yet: it may be that of a run that is being begun, or what a run left that was killed."""
    unlisted = campaign_id(time.time_ns() // 1_000_000, os.urandom(10))
    disc = f"/var/lib/isolift/media/{unlisted}/{'0' * 64}.iso"
    ssh.run_on(node_of(ON_FIRST.node), f"mkdir -p $(dirname {disc}) && truncate -s 64K {disc}")
    insert = f"state=inserted vms={ON_FIRST.name} path={disc}"
    arguments = ("-m", "isolift.vm.cdrom_media", "-a", insert)
    plays.require(plays.ansible(ON_FIRST.node, *arguments, command="ansible"), "inserting a disc")
    inside.set_back(ON_FIRST.node, ON_FIRST.name)
    run = upgraded(ON_FIRST, paths.INVENTORY)
    inserting = run.output.partition("TASK [Insert it]")[2].partition("PLAY [")[0]
    assert f"ok: [{ON_FIRST.node}]" in inserting
    ssh.run_on(node_of(ON_FIRST.node), f"rm -r $(dirname {disc})")


def test_an_iso_on_the_storage_of_nodes_that_have_vms_of_the_campaign_is_taken_from_there(
    shared_iso: Path, tmp_path: Path
) -> None:
    inventory = inventories.with_variables(
        tmp_path,
        node1={"upgrade_iso_on_nodes": "/srv/nowhere.iso"},
        node2={"upgrade_iso_on_nodes": str(paths.on_node(shared_iso))},
    )
    upgraded(ON_SECOND, inventory)


@contextmanager
def without_libvirt(nodes: Sequence[str]) -> Iterator[None]:
    """libvirt is away on these nodes; their domains run on."""
    for node in nodes:
        ssh.run_on(node_of(node), "systemctl stop libvirtd.service 'libvirtd*.socket'")
    try:
        yield
    finally:
        for node in nodes:
            ssh.run_on(node_of(node), "systemctl start libvirtd-tcp.socket libvirtd.service")


@pytest.mark.deep
def test_discs_that_no_node_can_eject_are_named_beside_the_results() -> None:
    both = [ON_FIRST, ON_SECOND]
    for guest in both:
        inside.set_back(guest.node, guest.name)
        inside.set_prompt(guest.node, guest.name, inside.NO_ANSWER)
    run = actors.begin("deaf", both, 300)
    for guest in both:
        inside.await_state(guest.node, guest.name, "asking")
    with without_libvirt([guest.node for guest in both]):
        for guest in both:
            inside.answer(guest.node, guest.name, "decline")
        run.finish(plays.SOME_FAILED)
    assert "2 selected = 2 declined" in run.output
    assert "was not asked to eject" in run.output
    assert "The discs could not be ejected on node1, node2." in run.output
    assert run.campaign_id() in drives.discs()
    plays.require(plays.ansible("playbooks/cleanup.yml"), "cleaning up")
    assert drives.discs() == ""
