# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How upgrades end in the guest agent's core: after restarts, in clones, with a journal that cannot be written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from unit.agent_support import (
    NOW,
    OTHER_UPGRADE,
    OTHER_VM,
    START,
    UPGRADE,
    VM,
    Core,
    asking,
    cancelling,
    command,
    inspected,
    installing,
    permit,
    requested,
    verifying,
)

from isolift_agent.events import (
    Acknowledged,
    Answered,
    Ask,
    Commanded,
    Event,
    Failure,
    Greet,
    Inspect,
    Inspected,
    Install,
    Installed,
    Prepare,
    Prepared,
    Settle,
    StopAsking,
    Ticked,
    Transmit,
    Unrecorded,
    Welcomed,
)
from isolift_agent.lifecycle import handle, held_back, must_record
from isolift_agent.memory import FINISHED_LIMIT, OUTBOX_LIMIT, Finished, Memory
from isolift_agent.states import State
from isolift_agent.wire import Message, Request, Result


def result_of(core: Core) -> Result:
    """The result that the last step sent."""
    (result,) = core.sent(Result)
    return result


def started() -> Core:
    """A core that looks at the disc for the first time."""
    core = Core()
    core.command(START)
    return core


# Restarts.


def test_restart_while_inspecting() -> None:
    core = Core()
    core.command(START)
    core.restart()
    assert core.found(Inspect) and core.state is State.INSPECTING


def test_restart_while_requested() -> None:
    core = requested()
    core.restart()
    assert core.effects == []
    core.welcome()
    assert core.sent(Request), "it was not acknowledged"
    core.command(permit())
    assert core.found(Prepare)


def test_restart_while_asking_asks_again() -> None:
    core = asking()
    core.restart()
    assert core.found(Ask)
    core.do(Answered(UPGRADE, confirmed=True))
    assert not core.found(Prepare), "whether the permit is valid is not known yet"
    core.do(inspected())
    (request,) = core.sent(Request)
    assert request.consent_given is True


def test_restart_while_verifying_needs_a_valid_permit() -> None:
    core = verifying()
    core.restart()
    assert core.found(Inspect) and not core.found(Prepare)
    core.welcome(NOW + 10)
    core.do(inspected())
    assert core.found(Prepare), "the permit is still valid"

    core = verifying()
    core.restart()
    core.do(inspected())
    assert core.sent(Request) and not core.found(Prepare), "the host's time is not known yet"


def test_restart_while_installing_never_installs_again() -> None:
    core = installing()
    core.restart()
    assert core.found(Settle) and not core.found(Install)
    core.do(Installed(UPGRADE, "1.0.0"))
    assert (result_of(core).outcome, result_of(core).stage) == ("interrupted", "install")


def test_restart_while_installing_finds_the_target_installed() -> None:
    core = installing()
    core.restart()
    core.do(Installed(UPGRADE, "2.0.0"))
    assert (result_of(core).outcome, result_of(core).exit_code) == ("succeeded", -1)


def test_restart_while_cancelling() -> None:
    core = cancelling()
    core.restart()
    assert result_of(core).outcome == "cancelled" and core.state is None


def test_restart_with_an_unacknowledged_result_sends_it_again() -> None:
    core = installing()
    core.do(Installed(UPGRADE, "2.0.0", exit_code=0))
    (first,) = core.sent(Result)
    core.restart()
    core.welcome()
    assert core.sent(Result) == [first]


def test_restart_with_an_upgrade_waiting() -> None:
    core = requested()
    core.command(START, OTHER_UPGRADE)
    core.memory = replace(core.memory, current=None)
    core.restart()
    assert core.upgrade().upgrade_id == OTHER_UPGRADE and core.found(Inspect)


def test_numbers_are_not_used_twice_after_a_restart() -> None:
    core = installing()
    before = core.memory.counter
    core.restart()
    core.do(Installed(UPGRADE, "2.0.0"))
    core.welcome(NOW + 1)
    assert number_of(core.found(Transmit)[-1].message) > before + 100, (
        "the journal may have failed to keep some"
    )


def test_numbers_go_on_rising_after_a_snapshot_was_reverted() -> None:
    core = requested()
    snapshot = core.memory
    core.command(permit())
    later = core.memory.counter
    core = Core(snapshot, now=NOW + 60)
    core.command(permit(2))
    assert core.memory.counter > later


def number_of(message: Message) -> int:
    """The number in a message's ID."""
    return int(message.message_id.partition(".")[2])


def test_what_is_made_before_the_time_is_known_is_numbered_by_it_later() -> None:
    """Set back while inspecting and restarted: the request must not look older than what was sent in the other future."""
    core = Core()
    core.command(START)
    snapshot = core.memory
    core.now = NOW + 300
    core.do(inspected())
    heard = core.memory.counter
    core = Core(snapshot)
    core.restart()
    core.do(inspected())
    (unsent,) = core.memory.outbox
    assert number_of(unsent) < heard
    core.welcome(NOW + 600)
    (sent,) = core.found(Transmit)
    assert number_of(sent.message) > heard and sent.message.created_at == NOW + 600
    assert core.memory.outbox == (sent.message,)
    core.do(Acknowledged(sent.message.message_id))
    assert not core.memory.outbox


def test_result_that_is_numbered_later_is_repeated_under_its_new_number() -> None:
    core = installing()
    core.restart()
    core.do(Installed(UPGRADE, "2.0.0"))
    core.welcome(NOW + 60)
    result = core.found(Transmit)[-1].message
    assert isinstance(result.payload, Result) and number_of(result) >= int((NOW + 60) * 1000)
    core.do(Acknowledged(result.message_id))
    core.command(START)
    assert [again.message.message_id for again in core.found(Transmit)] == [result.message_id]


def test_what_was_numbered_by_the_time_keeps_its_number() -> None:
    core = requested()
    (sent,) = core.memory.outbox
    core.restart()
    core.welcome(NOW + 60)
    assert [item.message for item in core.found(Transmit)] == [sent]


# How an installation is judged.


@pytest.mark.parametrize(
    ("seen", "outcome", "code"),
    [
        (Installed(UPGRADE, "2.0.0", exit_code=0), "succeeded", ""),
        (Installed(UPGRADE, "2.0.0", exit_code=1), "failed", "exit_code"),
        (Installed(UPGRADE, "1.0.0", exit_code=0), "failed", "version_unchanged"),
        (Installed(UPGRADE, "1.5.0", exit_code=0), "failed", "version_mismatch"),
        (Installed(UPGRADE, "2.0.0", exit_code=-15, timed_out=True), "failed", "timeout"),
        (
            Installed(UPGRADE, None, exit_code=0, failure=Failure("install", "detect_failed")),
            "failed",
            "detect_failed",
        ),
        (Installed(UPGRADE, None, failure=Failure("install", "not_started")), "failed", "not_started"),
        (Installed(UPGRADE, None), "interrupted", "interrupted"),
        (Installed(UPGRADE, "1.0.0"), "interrupted", "interrupted"),
        (Installed(UPGRADE, "2.0.0"), "succeeded", ""),
    ],
)
def test_judgement(seen: Installed, outcome: str, code: str) -> None:
    core = installing()
    core.do(seen)
    result = result_of(core)
    assert (result.outcome, result.code) == (outcome, code)
    assert result.stage == ("install" if code else "")


def test_texts_of_the_guest_are_kept_within_the_limits_of_the_wire() -> None:
    core = installing()
    core.do(Installed(UPGRADE, "v" * 500, exit_code=3, log_tail="\ud800" + "x" * 9000))
    assert len(result_of(core).version_after) == 64 and len(result_of(core).log_tail) == 4096

    core = Core()
    core.command(START)
    core.do(Inspected(UPGRADE, True, Failure("verify", "bad_manifest", "d" * 1000)))
    assert len(result_of(core).detail) == 300


# Clones.


def test_first_welcome_tells_who_we_are() -> None:
    core = Core(Memory(generation="gen"))
    core.welcome()
    assert core.memory.vm == VM and not core.found(Greet)


def test_clone_forgets_everything_and_sends_nothing_of_it() -> None:
    core = asking()
    core.welcome(vm=OTHER_VM)
    assert core.memory == Memory(generation="fresh", vm=OTHER_VM)
    assert not core.found(Transmit)
    assert core.found(Greet)
    assert core.found(StopAsking)


def test_clone_does_not_report_what_its_original_started() -> None:
    core = installing()
    core.welcome(vm=OTHER_VM)
    core.do(Installed(UPGRADE, "2.0.0", exit_code=0))
    assert not core.effects


# Never twice.


def test_forgotten_upgrades_are_not_taken_again() -> None:
    memory = Memory(generation="gen", vm=VM)
    for number in range(FINISHED_LIMIT + 1):
        memory = memory.with_finished(f"01900000-0000-8000-8000-{number:012}", None)
    assert len(memory.finished) == FINISHED_LIMIT
    core = Core(memory)
    core.command(START, "01900000-0000-8000-8000-000000000000")
    assert core.refusal().startswith("forgotten") and core.state is None


def test_full_outbox_takes_no_new_upgrade() -> None:
    core = requested()
    (message,) = core.memory.outbox
    full = tuple(replace(message, message_id=f"gen.{n}", upgrade_id=f"u{n}") for n in range(OUTBOX_LIMIT))
    core.memory = replace(core.memory, current=None, outbox=full)
    core.command(START)
    assert core.refusal().startswith("outbox_full")


# The journal cannot be written.


def test_unrecorded_start_fails_before_anything_is_touched() -> None:
    core = Core()
    start = Commanded(command(START))
    taken, _effects = handle(core.memory, start, NOW)
    assert must_record(core.memory, taken)
    core.do(Unrecorded(start, "no space left"))
    result = result_of(core)
    assert (result.outcome, result.code, result.detail) == ("failed", "journal_unwritable", "no space left")
    assert core.refusal() == "" and core.state is None and not core.found(Inspect)


def test_unrecorded_permit_is_refused() -> None:
    core = requested()
    before = core.memory
    core.do(Unrecorded(Commanded(replace(command(START), payload=permit())), "no space left"))
    assert core.refusal().startswith("journal_unwritable") and core.memory == before


@pytest.mark.parametrize("event", [Prepared(UPGRADE, unmounted=False)])
def test_unrecorded_installation_does_not_begin(event: Prepared) -> None:
    core = verifying()
    taken, _effects = handle(core.memory, event, NOW)
    assert must_record(core.memory, taken)
    core.do(Unrecorded(event, "no space left"))
    assert result_of(core).code == "journal_unwritable" and result_of(core).unmounted is False
    assert not core.found(Install) and core.state is None


def test_unrecorded_turn_ends_the_waiting_upgrade() -> None:
    core = requested()
    core.command(START, OTHER_UPGRADE)
    core.memory = replace(core.memory, current=None)
    core.do(Unrecorded(Ticked(), "no space left"))
    assert core.memory.waiting is None and result_of(core).code == "journal_unwritable"


def test_result_of_a_waiting_upgrade_is_held_back_while_the_journal_has_it_waiting() -> None:
    core = installing()
    core.command(START, OTHER_UPGRADE)
    recorded = core.memory
    core.memory = replace(recorded, current=None)
    core.do(Unrecorded(Ticked(), "no space left"))
    (said,) = (item.message for item in core.found(Transmit) if item.message.upgrade_id == OTHER_UPGRADE)
    assert isinstance(said.payload, Result)
    assert held_back(recorded, said) and not held_back(core.memory, said)


def test_result_need_not_be_recorded_to_be_sent() -> None:
    core = installing()
    ended, _effects = handle(core.memory, Installed(UPGRADE, "2.0.0", exit_code=0), NOW)
    assert not must_record(core.memory, ended)
    greeted, _effects = handle(core.memory, Welcomed(OTHER_VM, "fresh"), NOW)
    assert not must_record(core.memory, greeted)


@pytest.mark.parametrize(
    ("make", "events"),
    [
        (verifying, [Unrecorded(Prepared(UPGRADE, True), "full")]),
        (asking, [Answered(UPGRADE, False)]),
        (asking, [Unrecorded(Answered(UPGRADE, True), "full")]),
        (started, [Unrecorded(inspected(), "full")]),
        (requested, [Commanded(command(START)), Unrecorded(inspected(), "full")]),
    ],
    ids=["verifying", "declined", "confirmed", "inspecting", "inspecting again"],
)
def test_result_is_held_back_while_the_journal_would_still_let_the_upgrade_be_installed(
    make: Callable[[], Core], events: list[Event]
) -> None:
    """A process that begins with the journal would go on."""
    core = make()
    for event in events:
        recorded = core.memory
        core.do(event)
    (said,) = (item.message for item in core.found(Transmit) if isinstance(item.message.payload, Result))
    assert held_back(recorded, said) and not held_back(core.memory, said)
    assert not any(held_back(recorded, item.message) for item in core.found(Transmit) if item.message != said)


@pytest.mark.parametrize(
    ("make", "event"),
    [
        (Core, Unrecorded(Commanded(command(START)), "full")),
        (installing, Installed(UPGRADE, "2.0.0", exit_code=0)),
        (cancelling, inspected()),
    ],
    ids=["start", "installed", "cancelled"],
)
def test_result_that_no_other_process_could_belie_is_said_at_once(
    make: Callable[[], Core], event: Event
) -> None:
    core = make()
    recorded = core.memory
    core.do(event)
    (said,) = (item.message for item in core.found(Transmit))
    assert isinstance(said.payload, Result) and not held_back(recorded, said)


# What comes too late.


@pytest.mark.parametrize(
    "event",
    [
        inspected(),
        Prepared(UPGRADE, True),
        Answered(UPGRADE, True),
        Installed(UPGRADE, "2.0.0", exit_code=0),
        Acknowledged("unknown"),
        Ticked(),
    ],
)
@pytest.mark.parametrize("memory", [Memory(generation="gen", vm=VM)])
def test_events_of_no_upgrade_change_nothing(event: Event, memory: Memory) -> None:
    assert handle(memory, event, NOW) == (memory, [])


def test_finished_result_without_its_log() -> None:
    core = installing()
    core.do(Installed(UPGRADE, "2.0.0", exit_code=0, log_tail="long"))
    (finished,) = core.memory.finished
    assert isinstance(finished, Finished) and finished.result
    assert isinstance(finished.result.payload, Result) and finished.result.payload.log_tail == ""
