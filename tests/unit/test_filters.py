# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters and lookups as the playbooks use them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from ansible.errors import AnsibleFilterError
from unit.campaign_rig import vm_uuid

from ansible_collections.isolift.vm.plugins.filter.lists import as_list
from ansible_collections.isolift.vm.plugins.filter.selection import FilterModule
from ansible_collections.isolift.vm.plugins.lookup.campaign_id import LookupModule
from ansible_collections.isolift.vm.plugins.module_utils.command import playbook_command

FILTERS = FilterModule().filters()
select_vms = FILTERS["select_vms"]
with_media_results = FILTERS["with_media_results"]

NODES = {
    "node1": [
        {"uuid": vm_uuid(1), "name": "desk-1", "state": "running", "has_channel": True},
        {"uuid": vm_uuid(2), "name": "desk-2", "state": "shut_off", "has_channel": False},
    ]
}


def test_the_chosen_vms_are_plain_data() -> None:
    assert select_vms(NODES) == [{"vm": vm_uuid(1), "name": "desk-1", "node": "node1", "reason": ""}]
    assert [vm["reason"] for vm in select_vms(NODES, ["desk-*"], ["desk-1"])] == ["no_channel"]


def test_what_matches_nothing_is_an_error_of_the_filter_with_the_same_words() -> None:
    with pytest.raises(AnsibleFilterError, match="'desk-9'"):
        select_vms(NODES, ["desk-9"])
    with pytest.raises(AnsibleFilterError, match="nothing to upgrade"):
        select_vms({})


@pytest.mark.parametrize("arguments", [("desk-1",), ([], "desk-1")])
def test_one_name_that_is_not_in_a_list_is_refused_rather_than_taken_letter_by_letter(arguments: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="lists of names"):
        select_vms(NODES, *arguments)


def test_vms_are_shared_among_nodes_whose_names_differ_in_case_alone() -> None:
    rows = [{"vm": vm_uuid(number), "node": node} for number, node in enumerate(["Node1", "node1", "Node1"])]
    assert FILTERS["by_node"](rows) == {"Node1": [vm_uuid(0), vm_uuid(2)], "node1": [vm_uuid(1)]}


def test_media_results_are_added_to_the_chosen_vms() -> None:
    chosen = select_vms(NODES)
    results = [{"vm": vm_uuid(1), "changed": False, "reason": "drive_in_use"}]
    assert with_media_results(chosen, results) == [{**chosen[0], "reason": "drive_in_use"}]
    assert with_media_results(chosen, []) == chosen


def test_every_campaign_gets_an_id_of_its_own() -> None:
    made = {LookupModule().run([])[0] for _campaign in range(100)}
    assert len(made) == 100
    assert {UUID(campaign).version for campaign in made} == {7}


# Text where a list is wanted.


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", []),
        (" \n\n", []),
        ("desk-1", ["desk-1"]),
        ("desk-1\r\n desk-2 \n\ndesk-3\n", ["desk-1", "desk-2", "desk-3"]),
        ("v is version('1', '<')\nb > 5", ["v is version('1', '<')", "b > 5"]),
    ],
)
def test_text_is_the_list_of_its_lines(text: str, entries: list[str]) -> None:
    assert as_list(text, "x") == entries


def test_commas_separate_where_they_cannot_be_part_of_an_entry() -> None:
    assert as_list("desk-1, desk-2\ndesk-3,", "upgrade_vms", commas=True) == ["desk-1", "desk-2", "desk-3"]
    assert as_list("a, b", "x") == ["a, b"]


def test_a_list_stays_as_it_is_and_nothing_is_an_empty_one() -> None:
    assert as_list(["a, b", " c"], "x", commas=True) == ["a, b", " c"]
    assert as_list(None, "x") == as_list([], "x") == []


@pytest.mark.parametrize("value", [5, True, {"a": 1}, 1.5])
def test_what_is_neither_list_nor_text_is_refused_by_name(value: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="upgrade_vms is .*: give a list, or text"):
        as_list(value, "upgrade_vms")


@pytest.mark.parametrize("entry", [5, None, ["a"], {}, "", "  "])
def test_an_entry_that_is_no_text_is_refused_by_name(entry: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="upgrade_vms has the entry .*: give text"):
        as_list(["desk-1", entry], "upgrade_vms")


# Commands to copy.


def test_a_command_names_the_inventory_where_it_is_not_the_usual_one() -> None:
    told = {"campaign_id": "abc"}
    usual = ["/etc/ansible/hosts"]
    assert playbook_command("upgrade", usual, usual, told) == (
        "ansible-playbook isolift.vm.upgrade -e campaign_id=abc"
    )
    assert playbook_command("status", ["/srv/my hosts", "node1,"], usual, told) == (
        "ansible-playbook isolift.vm.status -i '/srv/my hosts' -i node1, -e campaign_id=abc"
    )
