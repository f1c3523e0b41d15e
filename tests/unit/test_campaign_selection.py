# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a journal must hold before its campaign starts, and what deciding costs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest
from unit.campaign_rig import (
    BEGIN,
    CAMPAIGN,
    DEADLINE,
    OPENED,
    REQUEST,
    SUCCEEDED,
    Rig,
    met,
    rows,
    snapshot,
    unfit,
    vm_uuid,
)

from ansible_collections.isolift.vm.plugins.module_utils import campaign as core
from ansible_collections.isolift.vm.plugins.module_utils import turns
from ansible_collections.isolift.vm.plugins.module_utils.campaign import (
    Campaign,
)
from ansible_collections.isolift.vm.plugins.module_utils.records import (
    Sealed,
    Selected,
)
from ansible_collections.isolift.vm.plugins.module_utils.wire import (
    Message,
    Progress,
)

# The selection.


def unsealed(records: list[Message]) -> Campaign:
    campaign = Campaign(CAMPAIGN, "nonce-1")
    for record in records:
        campaign.apply(record)
    campaign.apply(campaign.claim("control", BEGIN))
    assert not campaign.sealed and not campaign.finished
    assert campaign.decide(BEGIN, met) == []
    assert campaign.decide(DEADLINE, met) == []
    return campaign


@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_unsealed_campaign_never_starts(count: int) -> None:
    assert not unsealed(Campaign(CAMPAIGN, "n").opening(OPENED, rows(3), BEGIN)[:count]).problem


@pytest.mark.parametrize("missing", [1, 2])
def test_a_seal_that_does_not_fit_the_selection_is_none(missing: int) -> None:
    opening = Campaign(CAMPAIGN, "n").opening(OPENED, rows(450), BEGIN)
    del opening[missing]
    assert "450" in unsealed(opening).problem


def test_a_seal_of_as_many_other_vms_is_none() -> None:
    opening = Campaign(CAMPAIGN, "n").opening(OPENED, rows(2), BEGIN)
    opening[-1] = replace(opening[-1], payload=Sealed(2, "0" * 64))
    assert unsealed(opening).problem


def test_a_seal_covers_what_was_known_of_a_vm() -> None:
    opening = Campaign(CAMPAIGN, "n").opening(OPENED, rows(1), BEGIN)
    (row,) = rows(1)
    opening[1] = replace(opening[1], payload=Selected((unfit(row, "no_drive"),)))
    assert unsealed(opening).problem


def test_a_campaign_that_was_never_opened_is_not_sealed() -> None:
    opening = Campaign(CAMPAIGN, "n").opening(OPENED, rows(2), BEGIN)
    assert "opening" in unsealed(opening[1:]).problem


@pytest.mark.parametrize("row", [("no-uuid", "a", "b", ""), (vm_uuid(5), "a", "b"), (), ("",) * 4])
def test_a_row_that_names_no_vm_leaves_the_campaign_unsealed(row: tuple[str, ...]) -> None:
    opening = Campaign(CAMPAIGN, "n").opening(OPENED, rows(2), BEGIN)
    damaged: Any = (*rows(1), row)
    opening[1] = replace(opening[1], payload=Selected(damaged))
    assert unsealed(opening).problem


def test_the_same_vm_selected_twice_leaves_the_campaign_unsealed() -> None:
    assert unsealed(Campaign(CAMPAIGN, "n").opening(OPENED, rows(2) + rows(1), BEGIN)).problem


def test_records_of_the_opening_that_come_twice_or_after_the_seal_change_nothing() -> None:
    rig = Rig(3)
    before = snapshot(rig.campaign)
    for record in rig.journal[:3]:
        rig.campaign.apply(record)
    rig.campaign.apply(replace(rig.journal[0], payload=replace(OPENED, target_version="9")))
    rig.campaign.apply(replace(rig.journal[1], payload=Selected((*rows(9)[8:],))))
    rig.campaign.apply(replace(rig.journal[2], payload=Sealed(0, "")))
    assert snapshot(rig.campaign) == before
    assert rig.campaign.opened == OPENED


@pytest.mark.parametrize("count", [1, 200, 201, 1000])
def test_a_selection_of_any_size_is_sealed_and_started(count: int) -> None:
    rig = Rig(count)
    assert rig.campaign.sealed
    assert list(rig.campaign.upgrades) == [row.vm for row in rows(count)]
    assert len(rig.settle()) == count


# Cost.


def lines_run(work: Callable[[], None]) -> int:
    """How many lines of the core ``work`` runs."""
    count = 0
    files = (core.__file__, turns.__file__)

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in files:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def cost_of_requests(count: int) -> int:
    """Lines run for ``count`` VMs that request, are notified and install one after the other, each with a decision."""
    rig = Rig(count)
    rig.settle()

    def work() -> None:
        for vm in range(count):
            rig.agent(REQUEST, vm=vm)
            rig.settle(0.001)
            rig.agent(Progress("installing"), SUCCEEDED, vm=vm)
            rig.decide()
            rig.campaign.next_due()

    return lines_run(work)


def test_the_cost_of_a_request_does_not_grow_with_the_campaign() -> None:
    assert cost_of_requests(400) < 4.2 * cost_of_requests(100)


def cost_of_turns(count: int) -> int:
    """Lines run for ``count`` VMs that all asked, and install two at a time."""
    rig = Rig(count, opened=replace(OPENED, at_once=2))
    rig.settle()
    for vm in range(count):
        rig.agent(REQUEST, vm=vm)
    rig.settle()

    def work() -> None:
        for vm in range(count):
            rig.agent(Progress("installing"), SUCCEEDED, vm=vm)
            rig.settle(0.001)
            if vm + 2 < count:
                rig.agent(REQUEST, vm=vm + 2)
                rig.settle()
            rig.campaign.next_due()

    cost = lines_run(work)
    assert rig.campaign.closed
    return cost


def test_the_cost_of_a_turn_does_not_grow_with_the_queue() -> None:
    assert cost_of_turns(400) < 4.2 * cost_of_turns(100)


def test_the_deadline_costs_one_look_at_every_upgrade_and_no_more() -> None:
    rig = Rig(300)
    rig.settle()
    decisions, _unused = rig.decide(DEADLINE - BEGIN)
    assert len(decisions) == 300

    def read_back() -> None:
        for decision in decisions:
            rig.append(decision)
            rig.decide()

    assert lines_run(read_back) < 300 * 100
    assert rig.campaign.finished
