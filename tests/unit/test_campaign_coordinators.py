# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinators that take over, and messages that do not belong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from unit.campaign_rig import (
    BEGIN,
    CAMPAIGN,
    DEADLINE,
    PERMIT_DELIVERED,
    PERMIT_S,
    REQUEST,
    SUCCEEDED,
    Rig,
    kinds,
    notified,
    requested,
    rows,
    snapshot,
    unfit,
    unless,
    vm_uuid,
)

from ansible_collections.isolift.vm.plugins.module_utils.fold import PATIENCE_S
from ansible_collections.isolift.vm.plugins.module_utils.records import (
    Claim,
    Closed,
    Ended,
    Held,
    Notified,
)
from ansible_collections.isolift.vm.plugins.module_utils.states import State
from ansible_collections.isolift.vm.plugins.module_utils.wire import (
    Message,
    Notification,
    Request,
)

# Strange and repeated messages.


def test_an_agents_message_that_comes_twice_counts_once() -> None:
    rig = Rig()
    requested(rig)
    repeated = rig.journal[-1]
    rig.settle()
    rig.append(repeated)
    assert rig.state() is State.NOTIFIED
    assert not rig.settle()


def test_an_agent_of_a_new_generation_counts_from_the_beginning() -> None:
    rig = Rig()
    for _request in range(3):
        rig.agent(REQUEST)
    rig.settle()
    rig.agent(Request("1.5.0"), generation="h")
    assert (rig.state(), rig.upgrade().installed_version) == (State.REQUESTED, "1.5.0")


@pytest.mark.parametrize("message_id", ["", "x", "g.", ".", "g.x", "g.-1", "g." + "9" * 80, "g.²", "\x00.1"])
def test_an_agents_message_without_a_counter_is_taken_as_new(message_id: str) -> None:
    rig = Rig()
    rig.append(rig.message(REQUEST, message_id=message_id))
    assert rig.state() is State.REQUESTED


@pytest.mark.parametrize(
    "changed",
    [
        {"vm": vm_uuid(1)},
        {"vm": vm_uuid(9)},
        {"vm": ""},
        {"upgrade_id": ""},
        {"upgrade_id": CAMPAIGN},
        {"vm": "", "upgrade_id": ""},
    ],
)
def test_a_message_of_another_vm_or_upgrade_changes_nothing_but_the_count_of_strays(
    changed: dict[str, Any],
) -> None:
    rig = Rig(2)
    before = snapshot(rig.campaign)
    assert rig.campaign.apply(replace(rig.message(REQUEST, message_id="g.1"), **changed)) is None
    assert snapshot(rig.campaign) == {**before, "strays": 1}


def test_messages_before_the_seal_are_strays() -> None:
    rig = Rig()
    campaign = rig.folded(records=rig.journal[:2])
    campaign.apply(rig.message(SUCCEEDED))
    assert (campaign.strays, campaign.counts()) == (1, {"pending": 1})


# Coordinators.


def claim(nonce: str, epoch: int, rig: Rig) -> Message:
    return replace(rig.message(Claim(nonce)), vm="", upgrade_id="", epoch=epoch)


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_first_claim_of_an_epoch_wins(epoch: int) -> None:
    rig = Rig()
    rig.append(claim("nonce-2", epoch, rig))
    assert (rig.campaign.epoch, rig.campaign.claimed_by, rig.campaign.mine) == (1, "nonce-1", True)


def test_a_coordinator_whose_claim_was_superseded_does_nothing_more() -> None:
    rig = Rig()
    requested(rig)
    rig.append(claim("nonce-2", 2, rig))
    assert not rig.campaign.mine
    assert rig.decide() == ([], [])
    assert rig.decide(DEADLINE - rig.now) == ([], [])


@pytest.mark.parametrize(
    ("nonce", "epoch"), [("nonce-1", 1), ("nonce-1", 2), ("nonce-2", 1), ("nonce-2", 3), ("", 2), ("", 0)]
)
@pytest.mark.parametrize("kind", [Held, Notified, Ended, Closed])
def test_a_decision_counts_only_under_the_claim_in_force(kind: type[Any], nonce: str, epoch: int) -> None:
    rig = Rig()
    requested(rig)
    rig.append(claim("nonce-2", 2, rig))
    decision: Any = {
        Held: Held(nonce, "x"),
        Notified: Notified(nonce, 1, DEADLINE),
        Ended: Ended(nonce, "cancelled", "x"),
        Closed: Closed(nonce, ()),
    }[kind]
    before = snapshot(rig.campaign)
    rig.append(rig.message(decision, epoch=epoch))
    assert {**snapshot(rig.campaign), "strays": 0} == before
    rig.append(rig.message(replace(decision, nonce="nonce-2"), epoch=2))
    assert {**snapshot(rig.campaign), "strays": 0} != before


def test_results_count_at_any_epoch() -> None:
    rig = Rig()
    rig.append(claim("nonce-2", 2, rig))
    rig.append(rig.message(SUCCEEDED, message_id="g.1", epoch=1))
    assert rig.outcome()[0] is State.SUCCEEDED


def test_a_resumed_campaign_sends_again_what_was_not_acknowledged_with_its_own_nonce_and_epoch() -> None:
    rig = Rig(3, judge=unless("user"))
    rig.settle()
    notified(rig, 0)
    requested(rig, 1)
    rig.settle()
    rig.relay(PERMIT_DELIVERED, 1)
    expires_at = rig.upgrade(0).expires_at
    rig.now += PATIENCE_S
    rig.resume("nonce-2")
    sent = rig.settle()
    assert [(one.vm, one.payload.TYPE) for one in sent] == [
        (vm_uuid(0), "start"),
        (vm_uuid(0), "notification"),
        (vm_uuid(2), "start"),  # of the same node as the first
        (vm_uuid(1), "start"),
    ]
    assert sent[1].payload == Notification(1, expires_at, "nonce-2")
    assert {one.epoch for one in sent} == {2}


def test_a_coordinator_that_follows_closely_leaves_the_first_starts_their_time() -> None:
    rig = Rig()
    rig.settle()
    rig.now += 3.0
    rig.resume("nonce-2")
    assert not rig.settle()
    assert rig.campaign.next_due() == BEGIN + PATIENCE_S
    assert kinds(rig.settle(PATIENCE_S - 3.0)) == ["start"]


def test_a_claim_by_a_clock_that_was_ahead_does_not_hold_the_starts_back() -> None:
    rig = Rig()
    rig.settle()
    rig.now += 3000.0
    rig.resume("nonce-2")
    rig.now -= 2999.0
    rig.resume("nonce-3")
    assert kinds(rig.settle(PATIENCE_S)) == ["start"]


def test_a_decision_that_died_with_its_coordinator_is_made_again() -> None:
    rig = Rig()
    requested(rig)
    rig.decide()  # and never journaled
    rig.resume("nonce-2")
    assert kinds(rig.settle()) == ["notification"]
    assert rig.recorded(Notified) == [Notified("nonce-2", 1, BEGIN + PERMIT_S)]


def test_a_decision_that_came_after_the_next_claim_is_made_again() -> None:
    rig = Rig()
    requested(rig)
    (late,), _unused = rig.decide()
    rig.resume("nonce-2")
    rig.append(late)
    assert rig.state() is State.REQUESTED
    assert kinds(rig.settle()) == ["notification"]


def test_a_campaign_that_is_resumed_after_its_deadline_is_settled_at_once() -> None:
    rig = Rig(4)
    rig.settle()
    notified(rig, 1)
    rig.relay(PERMIT_DELIVERED, 1)
    rig.now = DEADLINE + 86400.0
    rig.resume("nonce-2")
    assert not rig.settle()
    assert rig.campaign.closed
    assert rig.campaign.counts() == {"expired": 1, "unreachable": 3}


@pytest.mark.parametrize("late_s", [0.0, 86400.0])
@pytest.mark.parametrize("why", ["no_channel", "duplicate_uuid"])
def test_what_was_known_of_a_vm_outlives_the_run_that_selected_it(why: str, late_s: float) -> None:
    """That run died between its claim and what follows from it; where a UUID runs twice, a start would go to either."""
    first, second = rows(2)
    rig = Rig(selection=[unfit(first, why), second])
    rig.now += late_s
    rig.resume("nonce-2")
    assert vm_uuid(0) not in [message.vm for message in rig.settle(PATIENCE_S)]
    assert rig.outcome() == (State.INELIGIBLE, "selection", why)


def test_a_closed_campaign_stays_closed() -> None:
    rig = Rig()
    rig.settle(DEADLINE - BEGIN)
    before = rig.campaign.counts()
    rig.resume("nonce-2")
    assert rig.decide(1.0) == ([], [])
    assert (rig.campaign.closed, rig.campaign.counts()) == (True, before)
