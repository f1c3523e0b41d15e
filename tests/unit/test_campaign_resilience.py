# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents that forget, hang or move; limits of states; the coordinator's questions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.campaign_rig import (
    DEADLINE,
    NO_AGENT,
    OPENED,
    PERMIT_DELIVERED,
    PERMIT_S,
    REQUEST,
    START_DELIVERED,
    SUCCEEDED,
    Rig,
    kinds,
    notified,
    requested,
    vm_uuid,
)

from ansible_collections.isolift.vm.plugins.module_utils.campaign import ANSWER_S, RESEND_MOST_S
from ansible_collections.isolift.vm.plugins.module_utils.fold import PATIENCE_S
from ansible_collections.isolift.vm.plugins.module_utils.states import LIMITED, State
from ansible_collections.isolift.vm.plugins.module_utils.upgrade import REASK_S
from ansible_collections.isolift.vm.plugins.module_utils.wire import (
    Confirmation,
    Progress,
    Result,
    Undeliverable,
)

SHORT = replace(OPENED, request_s=100.0, verify_s=200.0, install_s=300.0)


def brought_to(state: State, rig: Rig) -> None:
    """The upgrade of the first VM comes to ``state`` in the ordinary way."""
    rig.settle()
    if state is State.STARTED:
        rig.relay(START_DELIVERED)
        return
    notified(rig)
    rig.agent(Confirmation(1, "confirm"))
    if state is State.INSTALLING:
        rig.agent(Progress("installing"))
    assert rig.state() is state


# An agent that forgot.


def test_a_request_after_installing_ends_the_upgrade_as_interrupted_and_releases_the_agent() -> None:
    rig = Rig()
    brought_to(State.INSTALLING, rig)
    rig.agent(REQUEST, generation="after the snapshot")
    assert kinds(rig.settle()) == ["cancel"]
    assert rig.outcome()[:2] == (State.INTERRUPTED, "state_lost")
    rig.agent(Result("cancelled"), generation="after the snapshot")
    assert rig.upgrade().late_result == Result("cancelled")
    assert rig.outcome()[0] is State.INTERRUPTED


def test_a_permit_that_the_agent_knows_nothing_of_brings_the_start_again() -> None:
    rig = Rig()
    notified(rig)
    rig.relay(
        Undeliverable("notification", "nonce-1.9", "refused", "unknown_upgrade: it was never started here")
    )
    assert kinds(rig.settle(1.0)) == ["start"]
    assert not rig.settle(1.0)
    rig.agent(REQUEST, generation="new")
    assert kinds(rig.settle()) == ["notification"]
    assert rig.upgrade().permit == 2


@pytest.mark.parametrize("state", [State.STARTED, State.NOTIFIED, State.CONFIRMED, State.INSTALLING])
def test_an_agent_whose_disk_is_too_full_to_answer_is_asked_again(state: State) -> None:
    rig = Rig()
    if state is State.NOTIFIED:
        notified(rig)
        rig.relay(PERMIT_DELIVERED)
    else:
        brought_to(state, rig)
    rig.campaign.present(vm_uuid(0))
    for _time in range(3):
        (question,) = rig.settle(1.0)
        rig.relay(Undeliverable("start", question.message_id, "refused", "journal_unwritable: no space left"))
        assert not rig.settle(REASK_S - 1.0)
    rig.relay(START_DELIVERED)
    assert rig.state() is state


@pytest.mark.parametrize("state", [State.STARTED, State.CONFIRMED, State.INSTALLING])
def test_a_hello_is_answered_by_the_start_because_the_drive_may_be_empty_now(state: State) -> None:
    rig = Rig()
    brought_to(state, rig)
    rig.settle()
    rig.campaign.present(vm_uuid(0))
    assert kinds(rig.settle(1.0)) == ["start"]
    assert rig.state() is state
    assert not rig.settle(1.0)


def test_after_a_claim_those_are_asked_of_whom_nothing_is_heard() -> None:
    rig = Rig(2)
    rig.settle()
    notified(rig, 0)
    notified(rig, 1)
    rig.relay(PERMIT_DELIVERED, 0)
    rig.relay(PERMIT_DELIVERED, 1)
    rig.now += 3.0
    rig.resume("nonce-2")
    assert not rig.settle()
    rig.agent(Confirmation(1, "confirm"), vm=1)
    rig.settle()
    (question,) = rig.settle(PATIENCE_S)
    assert (question.vm, question.payload.TYPE) == (vm_uuid(0), "start")
    assert not rig.settle(RESEND_MOST_S - 1.0)
    (again,) = rig.settle(1.0)
    assert (again.vm, again.payload.TYPE) == (vm_uuid(0), "start"), "the first one may be lost"
    rig.relay(START_DELIVERED)
    assert not rig.settle(RESEND_MOST_S)


# Limits of states.


@pytest.mark.parametrize("state", LIMITED)
def test_an_agent_that_answers_but_does_not_go_on_times_out_at_its_stage(state: State) -> None:
    rig = Rig(opened=SHORT)
    brought_to(state, rig)
    option, stage = LIMITED[state]
    limit = float(getattr(SHORT, option))
    assert not rig.settle(limit - 1.0)
    assert kinds(rig.settle(1.0)) == ["start"]
    rig.relay(START_DELIVERED)
    assert not rig.settle(ANSWER_S - 1.0)
    assert kinds(rig.settle(1.0)) == ["cancel"]
    assert rig.outcome()[:2] == (State.TIMED_OUT, stage)


@pytest.mark.parametrize("state", LIMITED)
def test_a_vm_that_cannot_be_asked_has_until_the_deadline(state: State) -> None:
    rig = Rig(opened=SHORT)
    brought_to(state, rig)
    while rig.now < DEADLINE - 100.0:
        for message in rig.settle(50.0):
            assert message.payload.TYPE == "start"
            rig.relay(NO_AGENT)
    assert rig.state() is state
    rig.settle(100.0)
    assert rig.outcome()[0] is State.TIMED_OUT


def test_an_upgrade_that_waits_for_another_one_in_its_vm_is_not_stuck() -> None:
    rig = Rig(opened=SHORT)
    brought_to(State.STARTED, rig)
    rig.agent(Progress("busy", "the other upgrade"))
    asked = 0
    while rig.now < DEADLINE - 100.0:
        for _message in rig.settle(50.0):
            rig.relay(START_DELIVERED)
            asked += 1
    assert rig.state() is State.STARTED
    assert 3 <= asked <= 20
    rig.agent(REQUEST)
    assert kinds(rig.settle()) == ["notification"]


def test_an_acknowledgement_from_before_the_limit_is_no_answer() -> None:
    rig = Rig(opened=SHORT)
    brought_to(State.INSTALLING, rig)
    rig.now += 299.0
    rig.relay(START_DELIVERED)
    assert kinds(rig.settle(ANSWER_S)) == ["start"]
    rig.agent(SUCCEEDED)
    assert rig.outcome()[0] is State.SUCCEEDED


def test_a_user_may_think_longer_than_a_permit_lasts() -> None:
    rig = Rig(opened=SHORT)
    notified(rig)
    rig.relay(PERMIT_DELIVERED)
    assert not rig.settle(PERMIT_S * 2)
    assert rig.state() is State.NOTIFIED


# Upgrades that the coordinator ended.


def ended_while_off() -> Rig:
    """A campaign of two VMs, one of which was told nothing of the end of its upgrade, because it was off at that moment."""
    rig = Rig(2, opened=SHORT)
    brought_to(State.STARTED, rig)
    rig.settle(100.0)
    rig.relay(START_DELIVERED)
    assert "cancel" in kinds(rig.settle(ANSWER_S))
    rig.relay(Undeliverable("cancel", "nonce-1.9", "no_agent"))
    assert rig.outcome()[0] is State.TIMED_OUT
    return rig


def of_first(rig: Rig, after: float = 0.0) -> list[str]:
    return [one.payload.TYPE for one in rig.settle(after) if one.vm == vm_uuid(0)]


def test_an_agent_that_was_off_when_its_upgrade_ended_is_told_at_its_hello() -> None:
    rig = ended_while_off()
    assert not of_first(rig, 60.0)
    for _hello in range(2):
        rig.campaign.present(vm_uuid(0))
        assert of_first(rig) == ["cancel"]
    rig.agent(Result("cancelled"))
    rig.campaign.present(vm_uuid(0))
    assert not of_first(rig)


def test_the_next_coordinator_tells_whom_the_one_before_it_may_not_have_told() -> None:
    rig = ended_while_off()
    rig.resume("nonce-2")
    assert of_first(rig) == ["cancel"]
    rig.agent(Result("cancelled"))
    rig.resume("nonce-3")
    assert not of_first(rig)


@pytest.mark.parametrize("sign", [REQUEST, Confirmation(1, "confirm")])
def test_an_agent_that_goes_on_with_an_upgrade_that_is_over_is_told_so(sign: object) -> None:
    rig = Rig(2, opened=SHORT)
    requested(rig, 1)
    brought_to(State.STARTED, rig)
    rig.settle(100.0)
    rig.relay(START_DELIVERED)
    assert "cancel" in kinds(rig.settle(ANSWER_S))
    assert rig.outcome()[0] is State.TIMED_OUT
    rig.agent(sign)  # type: ignore[arg-type]
    assert kinds(rig.settle()) == ["cancel"]
    assert not [one for one in rig.settle(1.0) if one.vm == vm_uuid(0)]
