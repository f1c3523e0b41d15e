# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cancelling an upgrade, in every state that it can be in."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from unit.campaign_rig import (
    DEADLINE,
    PERMIT_DELIVERED,
    PERMIT_S,
    REQUEST,
    START_DELIVERED,
    SUCCEEDED,
    Rig,
    kinds,
    notified,
    requested,
    unless,
    vm_uuid,
)

from ansible_collections.isolift.vm.plugins.module_utils.campaign import SKEW_S
from ansible_collections.isolift.vm.plugins.module_utils.records import Control, Ended, Notified
from ansible_collections.isolift.vm.plugins.module_utils.states import FINAL, State
from ansible_collections.isolift.vm.plugins.module_utils.wire import Cancel, Confirmation, Progress, Result

CANCEL = Control("cancel", reason="a freeze of changes", by="control-1")
CANCELLED = (State.CANCELLED, "cancel", "a freeze of changes")


def wish(rig: Rig, *vms: int, epoch: int = 0) -> None:
    """An operator's wish to cancel the upgrades of ``vms``, or all."""
    control = Control("cancel", tuple(vm_uuid(vm) for vm in vms), CANCEL.reason, CANCEL.by)
    rig.append(rig.message(control, epoch=epoch))


@dataclass(frozen=True)
class Case:
    """How cancelling meets a state: what is sent, and the outcome if the agent never answers."""

    sent: tuple[str, ...]
    outcome: tuple[State, str]


CASES = {
    State.PENDING: Case(("cancel",), (State.CANCELLED, "cancel")),
    State.STARTED: Case(("cancel",), (State.CANCELLED, "cancel")),
    State.REQUESTED: Case(("cancel",), (State.CANCELLED, "cancel")),
    State.HELD: Case(("cancel",), (State.CANCELLED, "cancel")),
    State.NOTIFIED: Case(("cancel",), (State.TIMED_OUT, "cancel")),
    State.CONFIRMED: Case(("cancel",), (State.TIMED_OUT, "cancel")),
    State.INSTALLING: Case((), (State.TIMED_OUT, "install")),
}


def brought_to(state: State) -> Rig:
    """A campaign whose only upgrade is in ``state``, and an unsettled coordinator where the state would not last."""
    rig = Rig(judge=unless("free_bytes") if state is State.HELD else unless("nothing"))
    rig.settle()
    if state is State.STARTED:
        rig.relay(START_DELIVERED)
    elif state in (State.REQUESTED, State.HELD):
        requested(rig)
        if state is State.HELD:
            rig.settle()
    elif state is not State.PENDING:
        notified(rig)
        rig.relay(PERMIT_DELIVERED)
        if state is not State.NOTIFIED:
            rig.agent(Confirmation(1, "confirm"))
        if state is State.INSTALLING:
            rig.agent(Progress("installing"))
    assert rig.state() is state
    return rig


def test_every_state_has_its_case() -> None:
    assert set(CASES) == set(State) - FINAL


@pytest.mark.parametrize("state", CASES)
def test_cancelling_in_a_state_and_then_silence(state: State) -> None:
    case = CASES[state]
    rig = brought_to(state)
    assert bool(rig.upgrade().cancel_refusal) is (state is State.INSTALLING)
    wish(rig)
    assert tuple(kinds(rig.settle())) == case.sent
    while not rig.upgrade().final:
        rig.settle(100.0)
        assert rig.now < DEADLINE + 200.0
    assert rig.outcome()[:2] == case.outcome


@pytest.mark.parametrize("state", [State.NOTIFIED, State.CONFIRMED])
def test_an_agent_that_will_not_start_makes_it_cancelled(state: State) -> None:
    rig = brought_to(state)
    wish(rig)
    (command,) = rig.settle()
    assert command.payload == Cancel(reason="a freeze of changes", nonce="nonce-1")
    rig.agent(Result("cancelled"))
    rig.settle()
    assert rig.outcome()[0] is State.CANCELLED
    assert rig.campaign.closed


@pytest.mark.parametrize("state", [State.NOTIFIED, State.CONFIRMED])
def test_an_agent_that_was_quicker_installs_and_its_result_counts(state: State) -> None:
    rig = brought_to(state)
    wish(rig)
    rig.settle()
    rig.agent(Progress("installing"), SUCCEEDED)
    assert rig.outcome()[0] is State.SUCCEEDED


@pytest.mark.parametrize("outcome", sorted(FINAL))
def test_what_is_over_stays_as_it_is(outcome: State) -> None:
    rig = Rig()
    rig.settle()
    rig.append(rig.message(Ended("nonce-1", outcome.value, "x")))
    rig.settle()
    assert rig.upgrade().cancel_refusal == f"it is over: {outcome.value}"
    wish(rig)
    assert not rig.settle()
    assert rig.state() is outcome


def test_a_permit_that_was_decided_before_the_wish_was_read_is_never_sent() -> None:
    rig = Rig()
    requested(rig)
    (permit,), _unused = rig.decide()
    wish(rig)
    rig.append(permit)
    assert kinds(rig.settle()) == ["cancel"]
    assert rig.outcome() == CANCELLED
    assert len(rig.recorded(Notified)) == 1


def test_an_agent_that_asks_again_after_its_permit_ran_out_has_not_installed() -> None:
    rig = brought_to(State.NOTIFIED)
    wish(rig)
    assert kinds(rig.settle()) == ["cancel"]
    rig.now += PERMIT_S
    rig.agent(REQUEST)  # perhaps by a clock that is late
    assert set(kinds(rig.settle())) == {"cancel"}
    assert not rig.upgrade().final
    rig.now += SKEW_S
    rig.agent(REQUEST)
    rig.settle()
    assert rig.outcome() == CANCELLED


def test_a_lost_cancel_is_sent_again_and_at_a_hello_at_once() -> None:
    rig = brought_to(State.NOTIFIED)
    wish(rig)
    assert kinds(rig.settle()) == ["cancel"]
    assert not rig.settle(5.0)
    rig.campaign.present(vm_uuid(0))
    assert kinds(rig.settle()) == ["cancel"]
    assert kinds(rig.settle(100.0)) == ["cancel"]


def test_a_wish_that_came_while_no_coordinator_ran_is_followed_by_the_next() -> None:
    rig = Rig(3)
    rig.settle()
    notified(rig, 1)
    wish(rig, 0, 1)
    rig.now += 100.0
    rig.resume("nonce-2")
    sent = {(one.vm, one.payload.TYPE) for one in rig.settle()}
    assert sent == {(vm_uuid(0), "cancel"), (vm_uuid(1), "cancel"), (vm_uuid(2), "start")}
    assert rig.outcome(0) == CANCELLED
    assert rig.state(2) is State.PENDING


@pytest.mark.parametrize("epoch", [0, 1, 99])
def test_a_wish_counts_whatever_epoch_it_bears(epoch: int) -> None:
    rig = Rig()
    rig.settle()
    wish(rig, epoch=epoch)
    rig.settle()
    assert rig.outcome() == CANCELLED


def test_an_unknown_wish_and_a_strange_vm_change_nothing() -> None:
    rig = Rig()
    rig.settle()
    rig.append(rig.message(Control("hurry")))
    wish(rig, 7)
    assert not rig.settle()
    assert rig.state() is State.PENDING
    assert rig.campaign.strays == 1
