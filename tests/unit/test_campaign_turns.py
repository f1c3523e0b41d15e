# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A campaign that lets only so many VMs have leave to install at one time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.campaign_rig import (
    BEGIN,
    DEADLINE,
    OPENED,
    PERMIT_DELIVERED,
    PERMIT_S,
    REQUEST,
    START_DELIVERED,
    SUCCEEDED,
    TARGET,
    Rig,
    kinds,
    unless,
    vm_uuid,
)

from ansible_collections.isolift.vm.plugins.module_utils.campaign import SKEW_S
from ansible_collections.isolift.vm.plugins.module_utils.fold import PATIENCE_S
from ansible_collections.isolift.vm.plugins.module_utils.records import Control, Held, Notified
from ansible_collections.isolift.vm.plugins.module_utils.report import result_of
from ansible_collections.isolift.vm.plugins.module_utils.states import State
from ansible_collections.isolift.vm.plugins.module_utils.wire import (
    Confirmation,
    Message,
    Notification,
    Progress,
    Request,
    Result,
)

WAITS = "waits for its turn: 2 VMs have leave to install, at most 2 at once"
NOT_READY = Request("1.0.0", facts={"busy": True})


def capped(count: int, at_once: int = 2) -> Rig:
    """A campaign of ``count`` VMs whose agents have their starts."""
    rig = Rig(count, unless("busy"), replace(OPENED, at_once=at_once))
    rig.settle()
    for vm in range(count):
        rig.relay(START_DELIVERED, vm)
    rig.settle()
    return rig


def asks(rig: Rig, *vms: int, heard: bool = True) -> list[Message]:
    """These VMs ask for the upgrade, in this order; what they are sent, and acknowledge if it is ``heard``."""
    for vm in vms:
        rig.agent(REQUEST, vm=vm)
    sent = rig.settle()
    for message in sent if heard else ():
        if isinstance(message.payload, Notification):
            rig.append(replace(rig.message(PERMIT_DELIVERED), vm=message.vm, upgrade_id=message.upgrade_id))
    rig.settle()
    return sent


def given_leave(rig: Rig) -> list[int]:
    """The VMs that were given leave, in the order in which they were."""
    numbers = {vm_uuid(number): number for number in range(len(rig.campaign.upgrades))}
    return [numbers[record.vm] for record in rig.journal if isinstance(record.payload, Notified)]


def called(commands: list[Message]) -> list[str]:
    assert set(kinds(commands)) <= {"start"}
    return [message.vm for message in commands]


def waiting(rig: Rig, *vms: int) -> bool:
    return all(rig.upgrade(vm).waits and rig.state(vm) is State.HELD for vm in vms)


def test_the_first_that_ask_get_leave_and_the_others_are_told_to_wait() -> None:
    rig = capped(5)
    asks(rig, 3, 1, 4, 0)
    assert given_leave(rig) == [3, 1]
    assert waiting(rig, 4, 0)
    assert result_of(rig.upgrade(4))["reason"] == WAITS
    assert Held("nonce-1", WAITS, waits=True) in rig.recorded(Held)
    assert rig.state(2) is State.STARTED


def test_a_vm_that_installs_without_leave_takes_no_place() -> None:
    rig = capped(2, at_once=1)
    rig.agent(Progress("installing"), vm=0)
    rig.settle()
    asks(rig, 1)
    assert given_leave(rig) == [1]


def test_who_waits_is_not_asked_every_now_and_then() -> None:
    rig = capped(3)
    asks(rig, 0, 1, 2)
    for vm in (0, 1):
        rig.agent(Confirmation(1, "confirm"), vm=vm)
    assert not rig.settle(1000.0)


@pytest.mark.parametrize(
    "result",
    [SUCCEEDED, Result("declined"), Result("failed"), Result("up_to_date", version_after=TARGET)],
)
def test_an_upgrade_that_is_over_frees_its_place_for_the_first_that_waits(result: Result) -> None:
    rig = capped(4)
    asks(rig, 0, 1, 3, 2)
    rig.agent(result, vm=1)
    assert called(rig.settle()) == [vm_uuid(3)]
    assert waiting(rig, 2)
    (permit,) = asks(rig, 3)
    assert (permit.vm, permit.payload.TYPE) == (vm_uuid(3), "notification")
    assert given_leave(rig) == [0, 1, 3]


def test_the_conditions_hold_when_the_turn_has_come_and_not_only_when_it_was_asked() -> None:
    rig = capped(4)
    asks(rig, 0, 1, 2, 3)
    rig.agent(SUCCEEDED, vm=0)
    rig.settle()
    rig.agent(NOT_READY, vm=2)
    assert called(rig.settle()) == [vm_uuid(3)]
    assert (rig.state(2), rig.upgrade(2).reason) == (State.HELD, "busy is in the way")
    asks(rig, 3)
    assert given_leave(rig) == [0, 1, 3]


def test_nobody_gets_the_place_that_is_kept_for_who_was_called() -> None:
    rig = capped(4)
    asks(rig, 0, 1, 2)
    rig.agent(SUCCEEDED, vm=0)
    rig.settle()
    asks(rig, 3)
    assert waiting(rig, 3)
    asks(rig, 2)
    assert given_leave(rig) == [0, 1, 2]


def test_who_does_not_answer_its_call_is_passed_over_and_is_next_when_it_is_heard() -> None:
    rig = capped(5)
    asks(rig, 0, 1, 2, 3, 4)
    rig.agent(SUCCEEDED, vm=0)
    assert called(rig.settle()) == [vm_uuid(2)]
    assert called(rig.settle(PATIENCE_S)) == [vm_uuid(2), vm_uuid(3)]
    asks(rig, 3)
    asks(rig, 2)
    assert given_leave(rig) == [0, 1, 3] and waiting(rig, 2, 4)
    rig.agent(SUCCEEDED, vm=1)
    assert called(rig.settle()) == [vm_uuid(2)]


def test_who_is_found_to_be_off_at_its_call_costs_the_others_no_time() -> None:
    rig = capped(5)
    asks(rig, 0, 1, 2, 3, 4)
    rig.agent(SUCCEEDED, vm=0)
    rig.settle()
    for off, following in ((2, 3), (3, 4)):
        rig.campaign.unroutable(vm_uuid(off))
        assert rig.campaign.next_due() == 0.0
        assert called(rig.settle()) == [vm_uuid(following)]
    rig.campaign.unroutable(vm_uuid(4))
    assert not rig.settle(), "nobody is left, and they are not called round and round"


def test_a_called_vm_that_says_hello_keeps_its_turn() -> None:
    rig = capped(4)
    asks(rig, 0, 1, 2, 3)
    rig.agent(SUCCEEDED, vm=0)
    rig.settle()
    rig.campaign.present(vm_uuid(2))
    assert called(rig.settle(1.0)) == [vm_uuid(2)]
    asks(rig, 2)
    assert given_leave(rig) == [0, 1, 2]


def test_leave_that_runs_out_before_the_user_answers_frees_its_place() -> None:
    rig = capped(3)
    asks(rig, 0, 1, 2)
    rig.agent(Confirmation(1, "confirm"), vm=1)
    assert not rig.settle(PERMIT_S + SKEW_S - 1.0)
    assert rig.campaign.next_due() == BEGIN + PERMIT_S + SKEW_S
    assert called(rig.settle(1.0)) == [vm_uuid(2)]
    asks(rig, 2)
    asks(rig, 0)
    assert waiting(rig, 0)
    assert rig.upgrade(0).reason == WAITS, "the one that verifies its disc keeps its place"


def test_leave_that_nobody_heard_of_is_not_renewed_while_others_wait() -> None:
    rig = capped(2, at_once=1)
    asks(rig, 0, 1, heard=False)
    while rig.now < BEGIN + PERMIT_S + SKEW_S:
        assert waiting(rig, 1)
        last = rig.settle(1.0)
    assert called(last) == [vm_uuid(1)]
    asks(rig, 1)
    assert given_leave(rig) == [0, 1]
    asks(rig, 0)
    assert waiting(rig, 0)


def test_who_asks_again_while_it_has_leave_needs_no_second_place() -> None:
    rig = capped(3)
    asks(rig, 0, 1, 2)
    asks(rig, 0)
    assert given_leave(rig) == [0, 1, 0]
    assert waiting(rig, 2)


def test_decisions_that_were_not_read_back_count() -> None:
    rig = capped(4)
    for vm in (0, 1):
        rig.agent(REQUEST, vm=vm)
    decisions, _unused = rig.decide()
    assert kinds(decisions) == ["notified", "notified"]
    rig.agent(REQUEST, vm=0)
    rig.agent(REQUEST, vm=2)
    more, _unused = rig.decide()
    assert kinds(more) == ["held"]
    for decision in decisions + more:
        rig.append(decision)
    rig.settle()
    assert given_leave(rig) == [0, 1] and waiting(rig, 2)


def test_leave_that_is_void_because_of_a_wish_to_cancel_holds_no_place() -> None:
    rig = capped(3)
    for vm in (0, 1):
        rig.agent(REQUEST, vm=vm)
    decisions, _unused = rig.decide()
    rig.append(rig.message(Control("cancel", (vm_uuid(0),))))
    for decision in decisions:
        rig.append(decision)
    rig.settle()
    asks(rig, 2)
    assert rig.outcome(0)[0] is State.CANCELLED
    assert rig.state(2) is State.NOTIFIED


def test_the_next_coordinator_counts_what_the_one_before_it_gave() -> None:
    rig = capped(5)
    asks(rig, 0, 1, 4, 2)
    rig.agent(Confirmation(1, "confirm"), Progress("installing"), vm=1)
    rig.now += 2 * PATIENCE_S
    rig.resume("nonce-2")
    assert vm_uuid(4) not in [message.vm for message in rig.settle()]
    asks(rig, 3)
    assert given_leave(rig) == [0, 1] and waiting(rig, 4, 2, 3)
    rig.agent(SUCCEEDED, vm=1)
    assert called(rig.settle()) == [vm_uuid(4)]


def test_leave_that_another_coordinator_gave_runs_out_as_well() -> None:
    rig = capped(3, at_once=1)
    asks(rig, 0, 1, 2)
    rig.now += PERMIT_S + SKEW_S
    rig.resume("nonce-2")
    sent = [message.vm for message in rig.settle()]
    assert vm_uuid(1) in sent and vm_uuid(2) not in sent
    asks(rig, 1)
    assert given_leave(rig) == [0, 1]


def test_who_waits_until_the_deadline_is_ineligible_because_its_turn_did_not_come() -> None:
    rig = capped(4)
    asks(rig, 0, 1, 2)
    for vm in (0, 1):
        rig.agent(Confirmation(1, "confirm"), Progress("installing"), vm=vm)
    rig.settle(DEADLINE - rig.now)
    expected = (State.INELIGIBLE, "turn", "its turn did not come: at most 2 VMs may install at once")
    assert rig.outcome(2) == expected
    assert rig.campaign.closed


def test_who_waits_can_be_cancelled_and_is_not_called_then() -> None:
    rig = capped(4)
    asks(rig, 0, 1, 2, 3)
    rig.append(rig.message(Control("cancel", (vm_uuid(2),))))
    rig.settle()
    assert rig.outcome(2)[0] is State.CANCELLED
    rig.agent(SUCCEEDED, vm=0)
    assert called(rig.settle()) == [vm_uuid(3)]
