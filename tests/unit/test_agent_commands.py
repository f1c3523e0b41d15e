# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that the guest agent's core gets at odd moments, twice, late, or from somebody whose word counts no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from unit.agent_support import (
    DEADLINE,
    NOW,
    OTHER_UPGRADE,
    OTHER_VM,
    START,
    THIRD_UPGRADE,
    UPGRADE,
    Core,
    asking,
    cancelling,
    inspected,
    installing,
    permit,
    requested,
    verifying,
)

from isolift_agent.events import (
    Abandon,
    Acknowledged,
    Inspect,
    Install,
    Installed,
    Prepare,
    Prepared,
    Ticked,
    Transmit,
)
from isolift_agent.lifecycle import due
from isolift_agent.memory import CLAIMS_LIMIT, Memory
from isolift_agent.states import State
from isolift_agent.wire import Cancel, Message, Notification, Progress, Request, Result


def result_of(core: Core) -> Result:
    """The result that the last step sent."""
    (result,) = core.sent(Result)
    return result


def test_duplicate_start_while_held_brings_fresh_facts() -> None:
    core = requested()
    core.command(START)
    assert core.found(Inspect)
    core.do(replace(inspected(), facts={"os_id": "fresh"}))
    (request,) = core.sent(Request)
    assert request.facts == {"os_id": "fresh"}
    assert len([item for item in core.memory.outbox if isinstance(item.payload, Request)]) == 1


@pytest.mark.parametrize("make", [asking, verifying, installing])
def test_duplicate_start_later_on_changes_nothing(make: Callable[[], Core]) -> None:
    core = make()
    before = core.memory
    core.command(before.current.start if before.current else START)
    assert core.memory == before and core.refusal() == ""
    assert len(core.effects) == 1


def test_start_of_a_finished_upgrade_repeats_its_result() -> None:
    core = installing()
    core.do(Installed(UPGRADE, "2.0.0", exit_code=0, log_tail="log"))
    (first,) = core.found(Transmit)
    core.command(START)
    (unacknowledged,) = core.found(Transmit)
    assert unacknowledged.message == first.message

    core.do(Acknowledged(first.message.message_id))
    core.command(START)
    (again,) = core.found(Transmit)
    assert again.message.message_id == first.message.message_id
    assert again.message in core.memory.outbox
    assert not core.found(Inspect) and core.state is None


def test_busy_with_another_upgrade() -> None:
    core = requested()
    core.command(START, OTHER_UPGRADE)
    assert core.refusal() == ""
    (sent,) = core.found(Transmit)
    assert (sent.message.upgrade_id, sent.message.payload) == (OTHER_UPGRADE, Progress("busy", UPGRADE))

    core.command(START, THIRD_UPGRADE)
    assert core.refusal().startswith("busy"), "one waits already"

    core.command(Cancel())
    core.do(Acknowledged(result_message(core).message_id))
    assert core.upgrade().upgrade_id == OTHER_UPGRADE and core.state is State.INSPECTING
    assert core.found(Inspect)
    assert core.memory.waiting is None


def result_message(core: Core) -> Message:
    """The result that waits to be acknowledged."""
    (message,) = (one for one in core.memory.outbox if isinstance(one.payload, Result))
    return message


def test_the_next_upgrade_waits_until_the_result_of_the_one_before_was_taken() -> None:
    """Not before that does the relay exchange the disc."""
    core = installing()
    core.command(START, OTHER_UPGRADE)
    core.do(Installed(UPGRADE, "2.0.0", exit_code=0))
    ended = result_message(core)
    assert core.state is None and not core.found(Inspect)

    core.command(START, OTHER_UPGRADE)
    assert core.refusal() == "" and core.sent(Progress) == [] and core.state is None
    core.command(permit(), OTHER_UPGRADE)
    assert core.refusal() == "" and core.sent(Progress) == []
    core.command(START, THIRD_UPGRADE)
    assert core.refusal().startswith(f"busy: {OTHER_UPGRADE} is first")

    core.restart()
    core.welcome()
    assert core.state is None and core.sent(Result)
    core.do(Acknowledged(ended.message_id, "unknown_campaign"))
    assert core.upgrade().upgrade_id == OTHER_UPGRADE and core.found(Inspect)


def test_a_start_that_comes_before_the_result_was_taken_waits_too() -> None:
    core = installing()
    core.do(Installed(UPGRADE, "2.0.0", exit_code=0))
    core.command(START, OTHER_UPGRADE)
    assert core.sent(Progress) == [Progress("busy", UPGRADE)] and core.state is None
    core.do(Acknowledged(result_message(core).message_id))
    assert core.upgrade().upgrade_id == OTHER_UPGRADE and core.found(Inspect)


def test_waiting_upgrade_is_dropped_at_its_deadline() -> None:
    core = requested(replace(START, deadline=DEADLINE + 100))
    core.command(START, OTHER_UPGRADE)
    assert due(core.memory) == DEADLINE
    core.now = DEADLINE
    core.do(Ticked())
    assert core.memory.waiting is None and core.state is State.REQUESTED


def test_waiting_upgrade_is_cancelled() -> None:
    core = requested()
    core.command(START, OTHER_UPGRADE)
    core.command(Cancel(), OTHER_UPGRADE)
    assert core.memory.waiting is None and result_of(core).outcome == "cancelled"
    assert core.state is State.REQUESTED


def test_permit_for_an_upgrade_that_waits_is_answered_busy() -> None:
    core = requested()
    core.command(START, OTHER_UPGRADE)
    core.command(permit(), OTHER_UPGRADE)
    assert core.sent(Progress) == [Progress("busy", UPGRADE)] and not core.found(Prepare)


def test_permit_for_an_unknown_upgrade_is_refused() -> None:
    core = Core()
    core.command(permit())
    assert core.refusal().startswith("unknown_upgrade")


@pytest.mark.parametrize("make", [requested, asking])
def test_cancel_before_installing(make: Callable[[], Core]) -> None:
    core = make()
    core.command(Cancel())
    assert result_of(core).outcome == "cancelled" and core.state is None


def test_cancel_while_the_disc_is_in_use_waits_for_it() -> None:
    core = cancelling()
    assert core.found(Abandon) and not core.sent(Result)
    core.do(replace(inspected(), unmounted=False))
    assert (result_of(core).outcome, result_of(core).unmounted) == ("cancelled", False)

    core = verifying()
    core.command(Cancel())
    assert core.found(Abandon) and not core.sent(Result)
    core.do(Prepared(UPGRADE, True))
    assert result_of(core).outcome == "cancelled" and not core.found(Install)


def test_cancel_of_a_running_installation_is_ignored() -> None:
    core = installing()
    core.command(Cancel())
    assert core.state is State.INSTALLING and core.refusal() == "" and len(core.effects) == 1


def test_cancel_of_an_unknown_upgrade_keeps_it_from_starting() -> None:
    core = Core()
    core.command(Cancel())
    assert result_of(core).outcome == "cancelled"
    core.command(START)
    assert not core.found(Inspect) and core.sent(Result)


# What the coordinator of the moment says.


def test_lower_epoch_is_refused() -> None:
    core = Core()
    core.command(START, epoch=3)
    core.do(inspected())
    core.command(permit(), epoch=2)
    assert core.refusal().startswith("stale_claim") and core.state is State.REQUESTED


def test_another_nonce_of_the_same_epoch_is_refused() -> None:
    core = Core()
    core.command(replace(START, nonce="one"), epoch=3)
    core.do(inspected())
    core.command(Notification(1, NOW + 600, nonce="two"), epoch=3)
    assert core.refusal().startswith("stale_claim")
    core.command(Notification(1, NOW + 600, nonce="two"), epoch=4)
    assert core.refusal() == "" and core.state is State.VERIFYING


def test_command_for_another_vm_is_refused() -> None:
    core = Core()
    core.command(START, vm=OTHER_VM)
    assert core.refusal().startswith("wrong_vm") and core.state is None


def test_claims_are_bounded() -> None:
    memory = Memory(generation="gen")
    for number in range(CLAIMS_LIMIT + 10):
        memory = memory.with_claim(f"campaign-{number:04}", 1, "")
    assert len(memory.claims) == CLAIMS_LIMIT and "campaign-0009" not in memory.claims
