# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Permits and commands: sent after their decision was read back, again until they arrive, and not too often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from unit.campaign_rig import (
    BEGIN,
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
    unless,
    vm_uuid,
)

from ansible_collections.isolift.vm.plugins.module_utils.campaign import (
    REJUDGE_S,
    RESEND_MOST_S,
    SKEW_S,
)
from ansible_collections.isolift.vm.plugins.module_utils.fold import PATIENCE_S
from ansible_collections.isolift.vm.plugins.module_utils.records import (
    RECORDS,
    Notified,
)
from ansible_collections.isolift.vm.plugins.module_utils.states import State
from ansible_collections.isolift.vm.plugins.module_utils.upgrade import REFUSALS_BORNE
from ansible_collections.isolift.vm.plugins.module_utils.wire import (
    NOT_HERE,
    Cancel,
    Confirmation,
    Message,
    Notification,
    Progress,
    Refused,
    Request,
    Result,
    Start,
    Undeliverable,
    decode,
    encode,
)

# Permits.


def test_a_permit_that_ran_out_undelivered_is_replaced_by_a_fresh_one() -> None:
    rig = Rig()
    notified(rig)
    while rig.now < BEGIN + PERMIT_S - 1.0:
        rig.settle(1.0)
    assert {note.permit for note in rig.recorded(Notified)} == {1}
    while rig.upgrade().permit == 1:
        rig.settle(1.0)
    _first, second = rig.recorded(Notified)
    assert second == Notified("nonce-1", 2, rig.now + PERMIT_S)
    assert rig.sent[-1].payload == Notification(2, second.expires_at, "nonce-1")
    assert rig.now < BEGIN + PERMIT_S + RESEND_MOST_S


def test_no_permit_outlives_the_campaign() -> None:
    rig = Rig()
    rig.now = DEADLINE - 5.0
    notified(rig)
    assert rig.upgrade().expires_at == DEADLINE


def test_a_user_who_agrees_after_the_permit_ran_out_is_judged_anew() -> None:
    rig = Rig(judge=unless("crowded"))
    notified(rig)
    rig.relay(PERMIT_DELIVERED)
    rig.now += PERMIT_S + 1.0
    rig.agent(Request("1.0.0", consent_given=True, facts={"crowded": True}))
    assert not rig.settle()
    assert rig.state() is State.HELD
    rig.agent(Request("1.0.0", consent_given=True))
    (permit,) = rig.settle()
    assert permit.payload == Notification(2, rig.now + PERMIT_S, "nonce-1")


def test_a_permit_that_runs_out_while_the_disc_is_verified_is_replaced_too() -> None:
    rig = Rig()
    notified(rig)
    rig.agent(Confirmation(1, "confirm"))
    rig.now += PERMIT_S
    rig.agent(Request("1.0.0", consent_given=True))
    (permit,) = rig.settle()
    assert permit.payload == Notification(2, rig.now + PERMIT_S, "nonce-1")


def test_no_permit_follows_once_the_installer_may_have_run() -> None:
    """The agent's second request crosses the permit of its first, and is repeated later."""
    rig = Rig()
    notified(rig)
    again = rig.agent(REQUEST)
    rig.agent(Confirmation(1, "confirm"), Progress("installing"))
    assert rig.state() is State.INSTALLING
    rig.append(again)
    assert not rig.settle(PERMIT_S)
    assert len(rig.recorded(Notified)) == 1
    rig.agent(SUCCEEDED)
    assert rig.outcome()[0] is State.SUCCEEDED


def test_a_request_that_comes_while_a_decision_is_on_its_way_does_not_cause_a_second_one() -> None:
    rig = Rig()
    requested(rig)
    decisions, _unused = rig.decide()
    assert kinds(decisions) == ["notified"]
    rig.agent(REQUEST)
    assert rig.decide() == ([], [])
    rig.append(decisions[0])
    assert rig.state() is State.NOTIFIED
    assert kinds(rig.settle()) == ["notification"]
    assert len(rig.recorded(Notified)) == 1


# Commands: sent after their decision was read back, again until they are acknowledged, and not too often.


def test_a_permit_is_sent_only_after_its_decision_was_read_back() -> None:
    rig = Rig()
    requested(rig)
    decisions, commands = rig.decide()
    assert (kinds(decisions), commands) == (["notified"], [])
    assert rig.decide(PATIENCE_S) == ([], [])
    rig.append(decisions[0])
    decisions, commands = rig.decide()
    assert (decisions, kinds(commands)) == ([], ["notification"])


def test_an_ending_takes_effect_only_when_it_was_read_back() -> None:
    rig = Rig()
    (ended,), _unused = rig.decide(DEADLINE - BEGIN)
    assert not rig.campaign.finished
    assert rig.decide(1.0) == ([], [])
    rig.append(ended)
    (closed,), _unused = rig.decide()
    assert rig.campaign.finished and not rig.campaign.closed
    rig.append(closed)
    assert rig.campaign.closed


@pytest.mark.parametrize("kind", ["start", "notification"])
def test_an_unacknowledged_command_is_sent_again_ever_more_rarely(kind: str) -> None:
    rig = Rig(opened=replace(OPENED, permit_s=3600.0))
    if kind == "notification":
        notified(rig)
    times = []
    while rig.now < DEADLINE - 1.0:
        if kind in kinds(rig.settle(1.0)):
            times.append(rig.now)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[:3] == ([40.0, 80.0, 160.0] if kind == "notification" else [20.0, 40.0, 80.0])
    assert set(pauses[4:]) == {RESEND_MOST_S}


def test_a_guest_that_asks_for_ever_costs_only_its_own_upgrade() -> None:
    rig = Rig()
    notified(rig)
    rig.upgrade().permit = 1_000_000
    rig.agent(REQUEST)
    (permit,) = rig.settle()
    assert isinstance(permit.payload, Notification) and permit.payload.permit == 1_000_001
    assert decode(encode(permit), RECORDS) == permit


def test_a_vm_that_is_silent_for_days_is_sent_its_start_to_the_end() -> None:
    deadline = BEGIN + 5 * 86400.0
    rig = Rig(opened=replace(OPENED, deadline=deadline))
    while rig.now < deadline - RESEND_MOST_S:
        last = rig.settle(RESEND_MOST_S)
    assert kinds(last) == ["start"]
    assert len(rig.sent) > 1024


@pytest.mark.parametrize("state", ["pending", "started", "held", "notified"])
def test_what_cannot_be_delivered_is_not_sent_again_at_once(state: str) -> None:
    rig = Rig(judge=unless("free_bytes" if state == "held" else "nothing"))
    rig.settle()
    if state != "pending":
        rig.relay(START_DELIVERED)
    if state in ("held", "notified"):
        rig.agent(REQUEST)
        rig.settle()
    assert rig.state().value == state
    for _try in range(10):
        rig.relay(NO_AGENT)
        assert not rig.settle(1.0)


def test_presence_sends_an_unacknowledged_start_at_once() -> None:
    rig = Rig()
    rig.settle()
    rig.campaign.present(vm_uuid(0))
    assert kinds(rig.settle(1.0)) == ["start"]
    assert not rig.settle(1.0)


def test_presence_sends_an_unacknowledged_permit_at_once() -> None:
    rig = Rig()
    notified(rig)
    rig.campaign.present(vm_uuid(0))
    start, permit = rig.settle(1.0)
    assert isinstance(start.payload, Start)
    assert permit.payload == Notification(1, BEGIN + PERMIT_S, "nonce-1")
    rig.relay(PERMIT_DELIVERED)
    rig.campaign.present(vm_uuid(0))
    assert kinds(rig.settle(1.0)) == ["start"]


def test_an_agent_that_lost_its_start_is_told_again_when_it_says_hello() -> None:
    rig = Rig()
    rig.settle()
    rig.relay(START_DELIVERED)
    assert not rig.settle(PATIENCE_S)
    rig.campaign.present(vm_uuid(0))
    assert kinds(rig.settle()) == ["start"]
    assert not rig.settle(PATIENCE_S)


def told_together(rig: Rig, commands: list[Message]) -> list[tuple[str, str]]:
    """The kind of each command, and the node with whose others it may go."""
    return [(command.payload.TYPE, rig.nodes[command.message_id]) for command in commands]


def test_what_is_sent_first_may_go_together_with_others_for_the_node_and_what_is_repeated_goes_alone() -> (
    None
):
    rig = Rig()
    node = rig.upgrade().node
    assert told_together(rig, rig.settle()) == [("start", node)]
    assert told_together(rig, rig.settle(PATIENCE_S)) == [("start", "")]
    rig.agent(REQUEST)
    assert told_together(rig, rig.settle()) == [("notification", node)]
    assert told_together(rig, rig.settle(PATIENCE_S)) == [("notification", "")]


def test_what_is_sent_at_a_hello_goes_alone_for_the_vm_may_have_moved() -> None:
    rig = Rig()
    rig.settle()
    rig.campaign.present(vm_uuid(0))
    assert told_together(rig, rig.settle()) == [("start", "")]
    rig.agent(REQUEST)
    rig.settle()
    rig.campaign.present(vm_uuid(0))
    assert told_together(rig, rig.settle()) == [("start", ""), ("notification", "")]


@pytest.mark.parametrize("word", ["no relay on the node", "not on the node"])
def test_a_vm_that_is_not_on_its_node_is_sent_its_command_alone_at_once_but_only_once(word: str) -> None:
    rig = Rig()

    def is_missed(command: str) -> list[tuple[str, str]]:
        if word == "not on the node":
            rig.relay(Undeliverable(command, "c.1", NOT_HERE, "no such VM runs on node0"))
        else:
            rig.campaign.unroutable(vm_uuid(0))
        return told_together(rig, rig.settle())

    rig.settle()
    assert is_missed("start") == [("start", "")]
    assert is_missed("start") == []
    rig.agent(REQUEST)
    assert told_together(rig, rig.settle()) == [("notification", rig.upgrade().node)]
    assert is_missed("notification") == [("notification", "")]
    assert is_missed("notification") == []
    assert told_together(rig, rig.settle(2 * PATIENCE_S)) == [("notification", "")]


def test_a_new_coordinator_sends_alone_at_once_what_did_not_find_its_vm() -> None:
    rig = Rig()
    rig.settle()
    rig.relay(Undeliverable("start", "c.1", NOT_HERE, "no such VM runs on node0"))
    rig.resume("nonce-2")
    assert told_together(rig, rig.settle()) == [("start", "")]
    rig.agent(REQUEST)
    rig.settle()
    rig.relay(Undeliverable("notification", "c.2", NOT_HERE, "no such VM runs on node0"))
    rig.resume("nonce-3")
    assert told_together(rig, rig.settle()) == [("notification", "")]
    assert not rig.settle(PATIENCE_S - 1.0)


def test_a_new_coordinator_begins_with_what_may_go_together() -> None:
    rig = Rig()
    notified(rig)
    rig.resume("nonce-2")
    assert told_together(rig, rig.settle()) == [("notification", rig.upgrade().node)]


def test_a_held_vm_is_asked_at_its_hello_and_cannot_put_off_being_asked_by_saying_it_often() -> None:
    rig = Rig(judge=unless("free_bytes"))
    requested(rig)
    rig.settle()
    asked = 0
    for _hello in range(10):
        rig.campaign.present(vm_uuid(0))
        asked += len(rig.settle(REJUDGE_S / 2))
    assert asked == 10


@pytest.mark.parametrize("vm", [vm_uuid(7), "", "\x1b"])
def test_presence_of_a_strange_vm_is_ignored(vm: str) -> None:
    rig = Rig()
    rig.settle()
    rig.campaign.present(vm)
    rig.campaign.unroutable(vm)
    assert not rig.settle(1.0)


def test_an_upgrade_that_is_over_is_sent_nothing_more() -> None:
    rig = Rig()
    rig.settle()
    rig.agent(Result("failed", stage="verify", code="bad_signature", detail="x"))
    rig.campaign.present(vm_uuid(0))
    assert not rig.settle(RESEND_MOST_S)
    assert rig.outcome() == (State.FAILED, "verify", "bad_signature: x")


def test_the_coordinator_says_when_it_next_has_something_to_do() -> None:
    rig = Rig()
    assert rig.campaign.next_due() == 0.0
    rig.settle()
    assert rig.campaign.next_due() == BEGIN + PATIENCE_S
    rig.relay(START_DELIVERED)
    assert rig.campaign.next_due() == 0.0
    rig.settle(PATIENCE_S)
    assert rig.campaign.next_due() == BEGIN + OPENED.request_s
    (ended,), _unused = rig.decide(DEADLINE - rig.now)
    assert rig.campaign.next_due() is None  # it waits for its decision to come back
    rig.append(ended)
    rig.settle()
    assert rig.campaign.next_due() is None


# What happens to a drive, or to the line, while a permit is out.


def confirmed() -> Rig:
    rig = Rig()
    notified(rig)
    rig.relay(PERMIT_DELIVERED)
    rig.agent(Confirmation(1, "confirm", "user"))
    return rig


def test_who_installs_from_its_copy_needs_its_drive_no_more() -> None:
    rig = confirmed()
    rig.relay(Undeliverable("start", "nonce-1.9", "drive_in_use", "the drive holds another disc"))
    assert not rig.settle() and rig.state() is State.CONFIRMED
    rig.agent(Progress("installing"), SUCCEEDED)
    assert rig.outcome() == (State.SUCCEEDED, "", "")


def test_an_agent_whose_drive_was_taken_is_told_that_its_upgrade_is_over() -> None:
    rig = Rig()
    rig.relay(START_DELIVERED)
    rig.relay(Undeliverable("start", "nonce-1.9", "drive_in_use", "the drive holds another disc"))
    assert kinds(rig.settle()) == ["cancel"]
    assert rig.outcome()[:2] == (State.INELIGIBLE, "media")


def test_an_agent_that_could_not_be_understood_is_told_that_its_upgrade_is_over() -> None:
    rig = Rig()
    requested(rig)
    for _each in range(REFUSALS_BORNE + 1):
        rig.relay(Refused("not_json"))
    assert kinds(rig.settle()) == ["cancel"]
    assert rig.outcome()[:2] == (State.FAILED, "protocol")


# An upgrade that cannot go on although it was given leave: what the agent does with that is not known before it says so.


def drive_taken() -> Rig:
    """A VM that was given leave, and whose drive was taken then."""
    rig = Rig()
    notified(rig)
    rig.relay(PERMIT_DELIVERED)
    rig.relay(Undeliverable("start", "nonce-1.9", "drive_in_use", "the drive holds another disc"))
    return rig


def garbled() -> Rig:
    """A VM whose user agreed, and whose line is garbled since."""
    rig = confirmed()
    for _each in range(REFUSALS_BORNE + 1):
        rig.relay(Refused("not_json"))
    return rig


HOPELESS = pytest.mark.parametrize("hopeless", [drive_taken, garbled])


@HOPELESS
def test_who_was_given_leave_is_asked_to_let_go_and_ends_by_its_own_word(hopeless: Callable[[], Rig]) -> None:
    rig = hopeless()
    reason = rig.upgrade().reason
    (cancel,) = rig.settle()
    assert cancel.payload == Cancel(reason, "nonce-1")
    rig.relay(Undeliverable("cancel", "nonce-1.9", "no_agent"))
    assert not rig.settle(1.0)
    assert kinds(rig.settle(PATIENCE_S)) == ["cancel"]
    rig.agent(Result("cancelled"))
    assert rig.outcome() == (State.CANCELLED, "", reason)


@HOPELESS
def test_who_was_given_leave_and_installed_after_all_has_its_result(hopeless: Callable[[], Rig]) -> None:
    rig = hopeless()
    rig.settle()
    rig.agent(Progress("installing"))
    assert not rig.settle(RESEND_MOST_S)
    rig.agent(SUCCEEDED)
    assert rig.outcome()[0] is State.SUCCEEDED


@HOPELESS
def test_who_was_given_leave_and_is_not_heard_again_may_have_installed(hopeless: Callable[[], Rig]) -> None:
    rig = hopeless()
    while rig.now < DEADLINE:
        assert not rig.upgrade().final
        assert set(kinds(rig.settle(100.0))) <= {"cancel"}
    assert rig.outcome()[0] is State.TIMED_OUT


def test_who_asks_again_after_its_leave_ran_out_has_not_installed() -> None:
    rig = garbled()
    rig.settle()
    rig.now += PERMIT_S + SKEW_S
    rig.agent(REQUEST)
    rig.settle()
    assert rig.outcome()[:2] == (State.FAILED, "protocol")


@pytest.mark.parametrize(
    ("asked_after", "outcome"), [(10.0, State.TIMED_OUT), (PERMIT_S + SKEW_S, State.INELIGIBLE)]
)
def test_who_is_held_at_the_deadline_may_have_used_an_earlier_leave(
    asked_after: float, outcome: State
) -> None:
    """Its request crossed the permit, or came after the end of that."""
    rig = Rig(judge=unless("crowded"))
    notified(rig)
    rig.now += asked_after
    rig.agent(Request("1.0.0", facts={"crowded": True}))
    rig.settle()
    rig.settle(DEADLINE - rig.now)
    assert rig.outcome()[:2] == (outcome, "conditions")
    assert "crowded is in the way" in rig.outcome()[2]


def test_nobody_is_told_of_an_upgrade_that_never_began() -> None:
    rig = Rig()
    rig.relay(Undeliverable("start", "nonce-1.9", "no_drive"))
    assert not rig.settle() and rig.outcome()[0] is State.INELIGIBLE
