# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs an upgrade is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from unit.campaign_rig import vm_uuid

from ansible_collections.isolift.vm.plugins.module_utils.selection import (
    Candidate,
    SelectionError,
    select,
    with_media,
)

Nodes = dict[str, list[dict[str, Any]]]


def domain(number: int, name: str, state: str = "running", has_channel: bool = True) -> dict[str, Any]:
    return {"uuid": vm_uuid(number), "name": name, "state": state, "has_channel": has_channel}


NODES: Nodes = {
    "node1": [
        domain(0xA, "desk-01"),
        domain(0xB, "desk-02", "shut_off"),
        domain(2, "web", has_channel=False),
    ],
    "node2": [domain(3, "desk-10"), domain(4, "db")],
}


def names(
    patterns: Sequence[str] = (), excludes: Sequence[str] = (), nodes: Nodes | None = None
) -> list[str]:
    return [candidate.name for candidate in select(NODES if nodes is None else nodes, patterns, excludes)]


@pytest.mark.parametrize(
    ("patterns", "excludes", "chosen"),
    [
        ([], [], ["db", "desk-01", "desk-02", "desk-10"]),
        (["desk-01"], [], ["desk-01"]),
        (["desk-*"], [], ["desk-01", "desk-02", "desk-10"]),
        (["desk-0?", "d[b]"], [], ["db", "desk-01", "desk-02"]),
        (["*"], [], ["db", "desk-01", "desk-02", "desk-10", "web"]),
        (["desk-01", "desk-*", "desk-01"], [], ["desk-01", "desk-02", "desk-10"]),
        ([vm_uuid(3)], [], ["desk-10"]),
        ([vm_uuid(0xA).upper(), "db"], [], ["db", "desk-01"]),
        ([], ["desk-*"], ["db"]),
        (["desk-*"], ["desk-02", vm_uuid(3)], ["desk-01"]),
    ],
)
def test_names_uuids_and_globs_choose_and_exclude(
    patterns: list[str], excludes: list[str], chosen: list[str]
) -> None:
    assert names(patterns, excludes) == chosen


def test_an_exclude_that_matches_nothing_is_a_misspelt_name() -> None:
    with pytest.raises(SelectionError, match="no domain on node1, node2 matches the exclude 'desk-O1'"):
        names(["desk-*"], ["desk-02", "desk-O1"])


def test_a_vm_is_told_with_its_uuid_name_and_node() -> None:
    assert select(NODES, ["db"], []) == [Candidate(vm_uuid(4), "db", "node2", "")]


def test_case_counts_in_names() -> None:
    with pytest.raises(SelectionError, match="'DB'"):
        names(["DB"])


@pytest.mark.parametrize("name", ["vm[1]", "vm*", "vm?", "[x", "[!a]"])
def test_a_name_that_looks_like_a_pattern_can_be_named(name: str) -> None:
    nodes = {"node1": [domain(1, name), domain(2, "other")]}
    assert name in names([name], nodes=nodes)
    assert name not in names(excludes=[name], nodes={"node1": [*nodes["node1"], domain(3, "y" * 9)]})


# What cannot be meant so.


def test_a_pattern_that_matches_nothing_is_named_with_where_it_was_looked_for() -> None:
    with pytest.raises(SelectionError) as raised:
        names(["desk-*", "desk-99"])
    assert str(raised.value) == (
        "no domain on node1, node2 matches 'desk-99'; check the name, and that its node was reached"
    )


def test_a_pattern_whose_only_match_is_excluded_is_told_apart_from_a_typing_mistake() -> None:
    with pytest.raises(SelectionError, match="no domain on node1, node2 matches 'db' that is not excluded"):
        names(["db"], ["d*"])


@pytest.mark.parametrize("nodes", [{}, {"node1": []}, {"node1": [domain(1, "web", has_channel=False)]}])
def test_an_empty_selection_is_an_error(nodes: Nodes) -> None:
    with pytest.raises(SelectionError, match="nothing to upgrade: .*; give the domains the channel"):
        names(nodes=nodes)


def test_everything_excluded_is_an_empty_selection() -> None:
    with pytest.raises(SelectionError, match="nothing to upgrade: .*; exclude fewer of them"):
        names([], ["*"])


def test_where_no_node_was_reached_the_error_says_so() -> None:
    with pytest.raises(SelectionError, match="no domain on any compute node matches 'db'"):
        names(["db"], nodes={})


# What cannot be upgraded.


def test_a_vm_without_the_port_is_left_out_unless_it_is_named_and_then_the_reason_is_known() -> None:
    assert "web" not in names()
    assert select(NODES, ["web"], []) == [Candidate(vm_uuid(2), "web", "node1", "no_channel")]


@pytest.mark.parametrize("states", [("running", "shut_off"), ("shut_off", "running")])
def test_the_same_uuid_on_two_nodes_is_the_running_one(states: tuple[str, str]) -> None:
    nodes = {f"node{at}": [domain(1, "desk", state)] for at, state in enumerate(states)}
    running = f"node{states.index('running')}"
    assert select(nodes, [], []) == [Candidate(vm_uuid(1), "desk", running, "")]


@pytest.mark.parametrize("off", ["shut_off", "crashed"])
def test_the_same_uuid_on_two_nodes_is_rather_a_paused_one_than_one_that_is_off(off: str) -> None:
    nodes = {"node1": [domain(1, "desk", off)], "node2": [domain(1, "desk", "paused")]}
    assert select(nodes, [], []) == [Candidate(vm_uuid(1), "desk", "node2", "")]


def test_the_same_uuid_running_on_two_nodes_cannot_be_told_apart() -> None:
    nodes = {"node1": [domain(1, "desk")], "node2": [domain(1, "desk"), domain(2, "other")]}
    assert select(nodes, [], []) == [
        Candidate(vm_uuid(1), "desk", "node1", "duplicate_uuid"),
        Candidate(vm_uuid(2), "other", "node2", ""),
    ]


def test_the_same_uuid_stopped_on_two_nodes_is_one_vm() -> None:
    nodes = {node: [domain(1, "desk", "shut_off")] for node in ("node1", "node2")}
    assert [(one.vm, one.reason) for one in select(nodes, [], [])] == [(vm_uuid(1), "")]


def test_two_vms_of_one_name_are_two_vms() -> None:
    nodes = {"node1": [domain(1, "desk")], "node2": [domain(2, "desk")]}
    assert [(one.vm, one.node) for one in select(nodes, ["desk"], [])] == [
        (vm_uuid(1), "node1"),
        (vm_uuid(2), "node2"),
    ]


@pytest.mark.parametrize("state", ["paused", "suspended", "crashed", "unknown"])
def test_a_vm_that_is_not_running_just_now_is_chosen_all_the_same(state: str) -> None:
    assert names(nodes={"node1": [domain(1, "desk", state)]}) == ["desk"]


# The media's word.


def test_what_was_known_first_goes_before_what_the_media_say() -> None:
    vms = [Candidate("a", "a", "n", "no_channel"), Candidate("b", "b", "n"), Candidate("c", "c", "n")]
    results = [
        {"vm": "a", "reason": "no_drive"},
        {"vm": "b", "reason": "drive_in_use"},
        {"vm": "x", "reason": "y"},
    ]
    assert [one.reason for one in with_media(vms, results)] == ["no_channel", "drive_in_use", ""]


@pytest.mark.parametrize("result", [{"vm": "a"}, {"vm": "a", "reason": None}, {"vm": "a", "reason": ""}])
def test_media_without_a_reason_have_nothing_against_a_vm(result: dict[str, Any]) -> None:
    assert with_media([Candidate("a", "a", "n")], [result]) == [Candidate("a", "a", "n", "")]
