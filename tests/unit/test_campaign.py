# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stories of an upgrade, from its selection to its outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from unit.campaign_rig import (
    BEGIN,
    CAMPAIGN,
    DEADLINE,
    NO_AGENT,
    OPENED,
    PERMIT_DELIVERED,
    PERMIT_S,
    REQUEST,
    START_DELIVERED,
    SUCCEEDED,
    TARGET,
    Rig,
    kinds,
    notified,
    requested,
    rows,
    unfit,
    unless,
    vm_uuid,
)

from ansible_collections.isolift.vm.plugins.module_utils.campaign import (
    REJUDGE_S,
    RESEND_MOST_S,
)
from ansible_collections.isolift.vm.plugins.module_utils.records import (
    Closed,
    Held,
    Opened,
)
from ansible_collections.isolift.vm.plugins.module_utils.report import summary_of
from ansible_collections.isolift.vm.plugins.module_utils.states import State
from ansible_collections.isolift.vm.plugins.module_utils.upgrade import REFUSALS_BORNE
from ansible_collections.isolift.vm.plugins.module_utils.wire import (
    Confirmation,
    Facts,
    Notification,
    Progress,
    Refused,
    Request,
    Result,
    Start,
    Undeliverable,
)

# The course of an upgrade.


def test_happy_path() -> None:
    rig = Rig()
    (start,) = rig.settle()
    assert isinstance(start.payload, Start)
    assert (start.payload.target_version, start.payload.deadline) == (TARGET, DEADLINE)
    requested(rig)
    assert rig.state() is State.REQUESTED
    (permit,) = rig.settle(1.0)
    assert permit.payload == Notification(1, BEGIN + 1.0 + PERMIT_S, "nonce-1")
    rig.relay(PERMIT_DELIVERED)
    rig.agent(Confirmation(1, "confirm", "user"))
    assert rig.state() is State.CONFIRMED
    rig.agent(Progress("installing"))
    assert rig.state() is State.INSTALLING
    assert not rig.settle(2.0)
    rig.agent(SUCCEEDED)
    assert rig.outcome() == (State.SUCCEEDED, "", "")
    assert rig.campaign.finished and not rig.campaign.closed
    rig.settle()
    assert rig.campaign.closed
    assert rig.recorded(Closed) == [Closed("nonce-1", (("succeeded", "1"),))]


def test_the_start_names_the_disc_and_the_policy_of_the_campaign() -> None:
    rig = Rig(opened=replace(OPENED, consent="auto", prompt="Save your work."))
    (start,) = rig.settle()
    assert start.payload == Start(
        component=OPENED.component,
        target_version=TARGET,
        manifest_sha256=OPENED.manifest_sha256,
        media_path=OPENED.media_path,
        deadline=DEADLINE,
        consent="auto",
        prompt="Save your work.",
        nonce="nonce-1",
    )
    assert (start.epoch, start.campaign_id, start.vm) == (1, CAMPAIGN, vm_uuid(0))
    assert start.upgrade_id == rig.upgrade().upgrade_id


def test_up_to_date() -> None:
    rig = Rig()
    rig.settle()
    rig.relay(START_DELIVERED)
    rig.agent(Result("up_to_date", version_before=TARGET, version_after=TARGET))
    assert rig.outcome() == (State.UP_TO_DATE, "", "")


def test_declined() -> None:
    rig = Rig()
    notified(rig)
    rig.agent(Confirmation(1, "decline", "user"))
    assert rig.state() is State.NOTIFIED
    assert not rig.settle(RESEND_MOST_S)  # an answer is as good as an acknowledgement
    rig.agent(Result("declined"))
    assert rig.outcome() == (State.DECLINED, "", "")


def test_held_then_asked_again_then_met() -> None:
    rig = Rig(judge=unless("user"))
    rig.relay(START_DELIVERED)
    rig.agent(Request("1.0.0", facts={"user": "alice"}))
    assert not rig.settle()
    assert (rig.state(), rig.upgrade().reason) == (State.HELD, "user is in the way")
    assert not rig.settle(REJUDGE_S - 1.0)
    assert kinds(rig.settle(1.0)) == ["start"]
    rig.agent(Request("1.0.0", facts={}))
    assert kinds(rig.settle()) == ["notification"]
    assert (rig.state(), rig.upgrade().reason) == (State.NOTIFIED, "")
    assert rig.recorded(Held) == [Held("nonce-1", "user is in the way")]


def test_the_judge_sees_the_facts_of_the_request_and_the_installed_version_that_no_fact_can_forge() -> None:
    seen: list[dict[str, Any]] = []

    def judge(facts: Facts) -> str:
        seen.append(dict(facts))
        return ""

    rig = Rig(judge=judge)
    rig.agent(Request("1.0.0", facts={"free_bytes": 10, "installed_version": "9"}))
    rig.settle()
    assert seen == [{"free_bytes": 10, "installed_version": "1.0.0"}]


def test_held_until_the_deadline_is_ineligible_with_the_reason_of_the_last_judgement() -> None:
    rig = Rig(judge=unless("user"))
    requested(rig)
    rig.agent(Request("1.0.0", facts={"user": "alice"}))
    while not rig.campaign.closed:
        for _start in rig.settle(REJUDGE_S):
            rig.agent(Request("1.0.0", facts={"user": "bob"}))
    assert rig.outcome() == (State.INELIGIBLE, "conditions", "user is in the way")
    assert rig.now == DEADLINE


@pytest.mark.parametrize("reason", ["no_agent", "no_media", "expired", "refused"])
def test_why_a_vm_is_held_is_still_said_when_it_cannot_be_asked_again(reason: str) -> None:
    rig = Rig(judge=unless("free_bytes"))
    requested(rig)
    rig.settle()
    rig.relay(Undeliverable("start", "nonce-1.9", reason))
    rig.campaign.unroutable(vm_uuid(0))
    rig.settle(DEADLINE - BEGIN)
    assert rig.outcome() == (State.INELIGIBLE, "conditions", "free_bytes is in the way")


def test_never_reached_is_unreachable_with_the_last_reason() -> None:
    rig = Rig(3)
    rig.settle()
    rig.relay(NO_AGENT, 1)
    rig.campaign.unroutable(vm_uuid(2))
    rig.settle(DEADLINE - BEGIN)
    assert rig.outcome(0) == (State.UNREACHABLE, "start", "the campaign's deadline passed")
    assert rig.outcome(1) == (State.UNREACHABLE, "start", "no_agent")
    assert rig.outcome(2) == (State.UNREACHABLE, "start", "shut_off: no relay has it running")


@pytest.mark.parametrize(
    ("steps", "outcome", "stage"),
    [
        (0, State.TIMED_OUT, "request"),
        (1, State.EXPIRED, "confirmation"),
        (2, State.TIMED_OUT, "install"),
        (3, State.TIMED_OUT, "install"),
    ],
)
def test_what_the_deadline_makes_of_an_agent_that_fell_silent(steps: int, outcome: State, stage: str) -> None:
    rig = Rig()
    rig.relay(START_DELIVERED)
    if steps > 0:
        rig.agent(REQUEST)
        rig.settle()
        rig.relay(PERMIT_DELIVERED)
    if steps > 1:
        rig.agent(Confirmation(1, "confirm"))
    if steps > 2:
        rig.agent(Progress("installing"))
    rig.settle(DEADLINE - rig.now)
    assert rig.outcome() == (outcome, stage, "the campaign's deadline passed")


def test_a_permit_that_never_arrived_leaves_the_vm_unreachable_not_expired() -> None:
    rig = Rig()
    notified(rig)
    rig.relay(Undeliverable("notification", "nonce-1.9", "no_agent"))
    rig.settle(DEADLINE - rig.now)
    assert rig.outcome() == (State.UNREACHABLE, "confirmation", "no_agent")


def test_reasons_of_earlier_states_are_not_said_of_later_ones() -> None:
    rig = Rig()
    rig.campaign.unroutable(vm_uuid(0))
    rig.agent(REQUEST)
    rig.settle()
    rig.relay(Undeliverable("notification", "nonce-1.9", "no_agent"))
    rig.relay(PERMIT_DELIVERED)
    rig.relay(Undeliverable("notification", "nonce-1.8", "no_agent"))  # an earlier try
    rig.settle(DEADLINE - rig.now)
    assert rig.outcome() == (State.EXPIRED, "confirmation", "the campaign's deadline passed")


# What ends an upgrade at once.


@pytest.mark.parametrize("reason", ["no_drive", "drive_in_use", "drive_ambiguous"])
@pytest.mark.parametrize("later", [(), (NO_AGENT,)])
def test_a_drive_that_cannot_be_used_makes_the_vm_ineligible(reason: str, later: tuple[Any, ...]) -> None:
    rig = Rig()
    rig.settle()
    rig.relay(Undeliverable("start", "nonce-1.9", reason, "sda"))
    for report in later:
        rig.relay(report)
    assert not rig.settle()
    assert rig.outcome()[:2] == (State.INELIGIBLE, "media")
    if not later:
        assert rig.outcome()[2] == f"{reason}: sda"


@pytest.mark.parametrize(
    "reason", ["no_media", "tray_locked", "media_error", "no_agent", "expired", "refused"]
)
def test_what_may_pass_by_itself_does_not_end_an_upgrade(reason: str) -> None:
    rig = Rig()
    rig.settle()
    rig.relay(Undeliverable("start", "nonce-1.9", reason))
    rig.settle()
    assert (rig.state(), rig.upgrade().reason) == (State.PENDING, reason)


def test_a_guest_that_keeps_sending_what_is_refused_fails() -> None:
    rig = Rig()
    rig.settle()
    rig.relay(START_DELIVERED)
    for _refusal in range(REFUSALS_BORNE):
        rig.relay(Refused("not_json", "x"))
        rig.settle()
        assert rig.state() is State.STARTED
    rig.relay(Refused("wrong_upgrade", "request for 'y'"))
    rig.settle()
    outcome, stage, reason = rig.outcome()
    assert (outcome, stage) == (State.FAILED, "protocol")
    assert "wrong_upgrade: request for 'y'" in reason


def test_nothing_but_its_result_or_the_deadline_ends_an_installation() -> None:
    rig = Rig()
    notified(rig)
    rig.agent(Progress("installing"))
    for _report in range(REFUSALS_BORNE + 1):
        rig.relay(Refused("not_json"))
        rig.relay(Undeliverable("start", "nonce-1.9", "no_drive"))
    assert not rig.settle()
    rig.agent(SUCCEEDED)
    assert rig.outcome()[0] is State.SUCCEEDED


def test_success_with_another_version_than_the_target_is_a_failure() -> None:
    rig = Rig()
    notified(rig)
    rig.agent(Result("succeeded", version_after="1.9.9"))
    assert rig.outcome() == (
        State.FAILED,
        "verify",
        "the agent says succeeded but reads version '1.9.9'",
    )


def test_what_is_known_before_the_start_ends_an_upgrade_that_is_then_sent_nothing() -> None:
    first, second = rows(2)
    rig = Rig(selection=[unfit(first, "no_drive"), second])
    assert [message.vm for message in rig.settle()] == [vm_uuid(1)]
    assert rig.outcome() == (State.INELIGIBLE, "selection", "no_drive")
    rig.campaign.present(vm_uuid(0))
    assert not rig.settle(1.0)


# Outcomes.


def test_the_first_outcome_stays_and_a_later_result_is_kept_beside_it() -> None:
    rig = Rig()
    notified(rig)
    rig.agent(Progress("installing"))
    rig.settle(DEADLINE - rig.now)
    assert rig.outcome()[0] is State.TIMED_OUT
    rig.agent(SUCCEEDED)
    assert rig.outcome()[0] is State.TIMED_OUT
    assert rig.upgrade().late_result == SUCCEEDED
    assert rig.upgrade().result is None
    assert rig.campaign.counts() == {"timed_out": 1}


@pytest.mark.parametrize(
    "outcome", [SUCCEEDED, Result("failed", stage="install", code="exit_code", exit_code=1)]
)
def test_a_result_that_is_repeated_without_its_log_is_no_other_outcome(outcome: Result) -> None:
    rig = Rig()
    notified(rig)
    rig.agent(Progress("installing"))
    rig.agent(replace(outcome, log_tail="unpacking"))
    rig.agent(outcome)
    assert rig.upgrade().result == replace(outcome, log_tail="unpacking")
    assert rig.upgrade().late_result is None


def test_the_deadline_does_not_take_back_a_result_that_came_first() -> None:
    rig = Rig()
    notified(rig)
    rig.agent(Progress("installing"))
    (ended,), _unused = rig.decide(DEADLINE - rig.now)
    rig.agent(SUCCEEDED)
    rig.append(ended)
    assert rig.outcome()[0] is State.SUCCEEDED


def test_a_campaign_is_closed_exactly_once_whatever_is_heard_meanwhile() -> None:
    rig = Rig(2)
    endings, _unused = rig.decide(DEADLINE - BEGIN)
    for ending in endings:
        rig.append(ending)
    (closed,), _unused = rig.decide()
    rig.agent(SUCCEEDED)  # late
    rig.campaign.present(vm_uuid(1))
    assert rig.decide(1.0) == ([], [])
    rig.append(closed)
    assert rig.decide(1.0) == ([], [])
    assert closed.payload == Closed("nonce-1", (("unreachable", "2"),))


@pytest.mark.parametrize(
    ("policy", "failures"),
    [
        (OPENED, {"failed", "interrupted", "timed_out"}),
        (replace(OPENED, failures=("declined", "unreachable")), {"declined", "unreachable"}),
        (replace(OPENED, failures=()), set()),
    ],
    ids=["default", "others", "none"],
)
def test_which_outcomes_count_as_failures_is_the_campaigns_policy(policy: Opened, failures: set[str]) -> None:
    rig = Rig(6, opened=policy)
    rig.settle()
    for vm, result in enumerate((SUCCEEDED, Result("declined"), Result("failed"), Result("interrupted"))):
        notified(rig, vm)
        rig.agent(result, vm=vm)
    notified(rig, 4)
    rig.agent(Confirmation(1, "confirm"), Progress("installing"), vm=4)
    rig.settle(DEADLINE - rig.now)
    outcomes = {"succeeded", "declined", "failed", "interrupted", "timed_out", "unreachable"}
    assert rig.campaign.counts() == dict.fromkeys(outcomes, 1)
    assert rig.campaign.failures == summary_of(rig.campaign)["failures"] == len(failures)
    assert {state for state in outcomes if state in rig.campaign.policy.failures} == failures


def test_the_counts_add_up_to_the_selection_at_every_moment() -> None:
    rig = Rig(7)
    stories = [SUCCEEDED, Result("declined"), Result("failed"), Result("up_to_date", version_after=TARGET)]
    for vm, result in enumerate(stories):
        rig.settle()
        notified(rig, vm)
        assert sum(rig.campaign.counts().values()) == 7
        rig.agent(result, vm=vm)
        assert sum(rig.campaign.counts().values()) == 7
    rig.settle(DEADLINE - rig.now)
    assert rig.campaign.counts() == {
        "succeeded": 1,
        "up_to_date": 1,
        "failed": 1,
        "declined": 1,
        "unreachable": 3,
    }
    (closed,) = rig.recorded(Closed)
    assert sum(int(number) for _word, number in closed.counts) == 7
