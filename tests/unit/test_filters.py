# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The selection as the playbooks use it, and the lookup that names a campaign."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from ansible.errors import AnsibleFilterError
from unit.campaign_rig import vm_uuid

from ansible_collections.isolift.vm.plugins.filter.selection import FilterModule
from ansible_collections.isolift.vm.plugins.lookup.campaign_id import LookupModule

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


def test_media_results_are_added_to_the_chosen_vms() -> None:
    chosen = select_vms(NODES)
    results = [{"vm": vm_uuid(1), "changed": False, "reason": "drive_in_use"}]
    assert with_media_results(chosen, results) == [{**chosen[0], "reason": "drive_in_use"}]
    assert with_media_results(chosen, []) == chosen


def test_every_campaign_gets_an_id_of_its_own() -> None:
    made = {LookupModule().run([])[0] for _campaign in range(100)}
    assert len(made) == 100
    assert {UUID(campaign).version for campaign in made} == {7}
