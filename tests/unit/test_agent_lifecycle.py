# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stories of an upgrade in the guest agent's core: from the start to the result."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.agent_support import (
    DEADLINE,
    NOW,
    OTHER_UPGRADE,
    START,
    START_ASK,
    UPGRADE,
    VM,
    Core,
    asking,
    inspected,
    permit,
    requested,
    verifying,
)

from isolift_agent.events import (
    Abandon,
    Answered,
    Ask,
    Clean,
    Failure,
    Inspect,
    Inspected,
    Install,
    Installed,
    Prepare,
    Prepared,
    StopAsking,
    Ticked,
    Transmit,
)
from isolift_agent.lifecycle import due
from isolift_agent.states import State
from isolift_agent.wire import Confirmation, Progress, Request, Result


def result_of(core: Core) -> Result:
    """The result that the last step sent."""
    (result,) = core.sent(Result)
    return result


def test_happy_path() -> None:
    core = Core()
    core.command(START)
    assert core.refusal() == "" and core.found(Inspect)

    core.do(inspected("1.0.0"))
    (request,) = core.sent(Request)
    assert (request.installed_version, request.consent_given, request.facts) == (
        "1.0.0",
        False,
        {"os_id": "debian"},
    )

    core.command(permit(7))
    assert core.sent(Confirmation) == [Confirmation(7, "confirm", "policy")]
    assert core.found(Prepare) and not core.found(Ask)

    core.do(Prepared(UPGRADE, unmounted=True))
    assert core.sent(Progress) == [Progress("installing")]
    assert core.found(Install)

    core.do(Installed(UPGRADE, "2.0.0", exit_code=0, duration_s=3.5, log_tail="done"))
    assert result_of(core) == Result(
        "succeeded",
        version_before="1.0.0",
        version_after="2.0.0",
        exit_code=0,
        duration_s=3.5,
        log_tail="done",
        unmounted=True,
    )
    assert core.state is None and core.found(Clean)


def test_messages_bear_the_upgrade_and_are_numbered() -> None:
    core = Core()
    core.command(START, epoch=5)
    core.do(inspected())
    (sent,) = core.found(Transmit)
    message = sent.message
    assert (message.upgrade_id, message.vm, message.attempt, message.epoch) == (UPGRADE, VM, 1, 5)
    first = int(NOW * 1000)
    assert (message.message_id, message.created_at) == (f"gen.{first}", NOW)
    core.command(permit(), epoch=6)
    (answer,) = core.found(Transmit)
    assert (answer.message.message_id, answer.message.epoch) == (f"gen.{first + 1}", 6)


def test_up_to_date() -> None:
    core = Core()
    core.command(START)
    core.do(inspected("2.0.0"))
    result = result_of(core)
    assert (result.outcome, result.version_before, result.version_after) == ("up_to_date", "2.0.0", "2.0.0")


def test_nothing_installed_yet_is_requested() -> None:
    core = Core()
    core.command(START)
    core.do(inspected(""))
    (request,) = core.sent(Request)
    assert request.installed_version == ""


@pytest.mark.parametrize("code", ["no_disc", "unsigned", "wrong_key", "no_platform", "no_space"])
def test_unusable_disc(code: str) -> None:
    core = Core()
    core.command(START)
    core.do(Inspected(UPGRADE, False, Failure("verify", code, "why")))
    result = result_of(core)
    assert (result.outcome, result.stage, result.code, result.detail) == ("failed", "verify", code, "why")
    assert result.unmounted is False


def test_disc_with_another_version() -> None:
    core = Core()
    core.command(START)
    core.do(replace(inspected(), disc_version="3.0.0"))
    assert (result_of(core).stage, result_of(core).code) == ("verify", "wrong_version")


def test_disc_with_another_component() -> None:
    core = Core()
    core.command(START)
    core.do(replace(inspected(), component="virus"))
    assert (result_of(core).stage, result_of(core).code) == ("verify", "wrong_component")


def test_user_confirms_in_time() -> None:
    core = requested(START_ASK)
    core.command(permit(2))
    assert core.found(Ask) and not core.sent(Confirmation)
    core.do(Answered(UPGRADE, confirmed=True))
    assert core.sent(Confirmation) == [Confirmation(2, "confirm", "user")]
    assert core.found(Prepare)
    assert core.found(StopAsking)


def test_user_declines() -> None:
    core = asking()
    core.do(Answered(UPGRADE, confirmed=False))
    assert core.sent(Confirmation) == [Confirmation(1, "decline", "user")]
    assert result_of(core).outcome == "declined"
    assert core.state is None


def test_permit_expired_then_confirmed() -> None:
    core = asking()
    core.now = NOW + 601
    core.do(Answered(UPGRADE, confirmed=True))
    assert not core.sent(Confirmation) and core.found(Inspect)
    core.do(inspected())
    (request,) = core.sent(Request)
    assert request.consent_given is True
    core.command(permit(2, NOW + 1200))
    assert not core.found(Ask), "the user has agreed already"
    assert core.sent(Confirmation) == [Confirmation(2, "confirm", "user")]
    assert core.found(Prepare)


def test_permit_that_arrives_expired_is_asked_for_again() -> None:
    core = requested()
    core.command(permit(1, NOW))
    assert core.refusal() == "" and core.found(Inspect) and not core.found(Prepare)
    core.do(inspected())
    assert core.sent(Request) and core.state is State.REQUESTED


def test_permit_that_ran_out_while_copying_installs_nothing() -> None:
    core = verifying()
    core.now = NOW + 601
    core.do(Prepared(UPGRADE, unmounted=True))
    assert not core.found(Install) and core.found(Inspect)


def test_fresh_permit_while_asking() -> None:
    core = asking()
    core.command(permit(2, NOW + 1200))
    assert not core.found(Ask), "the question is open already"
    core.now = NOW + 900
    core.do(Answered(UPGRADE, confirmed=True))
    assert core.sent(Confirmation) == [Confirmation(2, "confirm", "user")]


def test_older_permit_does_not_replace_a_newer_one() -> None:
    core = asking()
    core.command(permit(5, NOW + 1200))
    core.command(permit(4, NOW + 9999))
    assert (core.upgrade().permit, core.upgrade().expires_at) == (5, NOW + 1200)


def test_request_that_was_answered_is_not_said_again() -> None:
    """A relay that hears it late would let it pass for asking anew, by an agent that installs nothing meanwhile."""
    core = requested()
    core.command(START)
    core.do(inspected())
    core.command(permit())
    assert [item.payload.TYPE for item in core.memory.outbox] == ["confirmation"]
    core.do(Prepared(UPGRADE, unmounted=True))
    assert [item.payload.TYPE for item in core.memory.outbox] == ["confirmation", "progress"]


def test_request_of_another_upgrade_is_said_all_the_same() -> None:
    core = requested()
    core.command(START, OTHER_UPGRADE)
    assert [item.payload.TYPE for item in core.memory.outbox] == ["request", "progress"]


def test_permit_that_comes_while_inspecting_is_used_afterwards() -> None:
    core = requested()
    core.command(START)
    assert core.state is State.INSPECTING
    core.command(permit())
    assert not core.found(Prepare)
    core.do(inspected())
    assert core.found(Prepare) and not core.sent(Request)


def test_asking_ends_silently_at_the_deadline() -> None:
    core = asking()
    assert due(core.memory) == DEADLINE
    core.now = DEADLINE
    core.do(Ticked())
    assert core.state is None and core.found(StopAsking) and not core.found(Transmit)
    core.command(START_ASK)
    assert core.refusal() == "" and not core.found(Inspect), "it is over and has no result"


def test_request_ends_silently_at_the_deadline() -> None:
    core = requested()
    core.now = DEADLINE - 1
    core.do(Ticked())
    assert core.state is State.REQUESTED
    core.now = DEADLINE
    core.do(Ticked())
    assert core.state is None and due(core.memory) is None


@pytest.mark.parametrize("state", [State.INSPECTING, State.VERIFYING])
def test_deadline_takes_the_disc_from_the_running_task_and_then_ends_silently(state: State) -> None:
    core = verifying()
    if state is State.INSPECTING:
        core = Core()
        core.command(START)
    assert core.state is state and due(core.memory) == DEADLINE
    core.now = DEADLINE
    core.do(Ticked())
    assert core.state is State.CANCELLING and core.found(Abandon)
    assert due(core.memory) is None, "it is not told so again"
    core.do(inspected() if state is State.INSPECTING else Prepared(UPGRADE, unmounted=True))
    assert core.state is None and core.found(Clean) and not core.found(Transmit)


def test_nothing_is_installed_after_the_deadline_whatever_the_permit_says() -> None:
    core = requested()
    core.command(permit(1, DEADLINE + 600))
    core.now = DEADLINE
    core.do(Prepared(UPGRADE, unmounted=True))
    assert not core.found(Install)


def test_start_after_its_deadline_is_refused() -> None:
    core = Core(now=DEADLINE)
    core.command(START)
    assert core.refusal().startswith("expired") and core.state is None


def test_id_that_names_no_directory_of_ours_is_refused() -> None:
    core = Core()
    core.command(START, "../../../../../../../../etc/passwd0")
    assert core.refusal().startswith("bad_id") and core.state is None


def test_unknown_consent_is_refused() -> None:
    core = Core()
    core.command(replace(START, consent="maybe"))
    assert core.refusal().startswith("unknown_consent")
