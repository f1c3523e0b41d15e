# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cancel in every state of the guest agent's core, and what holds of a cancelled upgrade afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from unit.agent_support import (
    NOW,
    OTHER_UPGRADE,
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

from isolift_agent import events
from isolift_agent.lifecycle import handle, must_record
from isolift_agent.memory import FINISHED_LIMIT, Memory
from isolift_agent.states import State
from isolift_agent.wire import Cancel, Payload, Progress, Request, Result

CANCELLED = ("cancelled",)


def inspecting() -> Core:
    """A core that looks at the disc."""
    core = Core()
    core.command(START)
    return core


def waiting() -> Core:
    """A core whose upgrade waits for another one to end."""
    core = Core()
    core.command(START, OTHER_UPGRADE)
    core.command(START)
    return core


def done() -> Core:
    """A core whose upgrade was declined."""
    core = asking()
    core.do(events.Answered(UPGRADE, confirmed=False))
    return core


@dataclass(frozen=True)
class Row:
    """What a cancel does in a state: the outcomes sent at once, the state afterwards, and whether the task is to end."""

    make: Callable[[], Core]
    before: State
    outcomes: tuple[str, ...]
    after: State
    abandons: bool = False


TABLE = [
    Row(Core, State.IDLE, CANCELLED, State.DONE),
    Row(waiting, State.WAITING, CANCELLED, State.DONE),
    Row(inspecting, State.INSPECTING, (), State.CANCELLING, abandons=True),
    Row(requested, State.REQUESTED, CANCELLED, State.DONE),
    Row(asking, State.ASKING, CANCELLED, State.DONE),
    Row(verifying, State.VERIFYING, (), State.CANCELLING, abandons=True),
    Row(installing, State.INSTALLING, (), State.INSTALLING),
    Row(cancelling, State.CANCELLING, (), State.CANCELLING),
    Row(done, State.DONE, ("declined",), State.DONE),
]


def state_of(core: Core) -> State:
    """The state of the upgrade that the table is about."""
    memory = core.memory
    for upgrade in (memory.current, memory.waiting):
        if upgrade and upgrade.upgrade_id == UPGRADE:
            return upgrade.state
    return State.DONE if memory.finished_upgrade(UPGRADE) else State.IDLE


def test_the_table_has_every_state() -> None:
    assert [row.before for row in TABLE] == list(State)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.before.name)
def test_cancel(row: Row) -> None:
    core = row.make()
    assert state_of(core) is row.before
    core.command(Cancel())
    assert core.refusal() == ""
    assert tuple(result.outcome for result in core.sent(Result)) == row.outcomes
    assert state_of(core) is row.after
    assert bool(core.found(events.Abandon)) == row.abandons


ENDED = [row for row in TABLE if row.after in (State.DONE, State.CANCELLING)]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("payload", [START, permit(9, NOW + 9000), Cancel()], ids=lambda item: item.TYPE)
@pytest.mark.parametrize("row", ENDED, ids=lambda row: row.before.name)
def test_what_was_cancelled_is_never_installed(row: Row, payload: Payload, restart: bool) -> None:
    core = row.make()
    core.command(Cancel())
    if restart:
        core.restart()
        core.welcome()
    for event in (
        events.Commanded(command(payload)),
        inspected(),
        events.Prepared(UPGRADE, True),
        events.Answered(UPGRADE, True),
        events.Commanded(command(payload)),
    ):
        core.do(event)
        assert not core.found(events.Install)
        assert not core.sent(Request)
    assert state_of(core) is State.DONE


@pytest.mark.parametrize("make", [inspecting, verifying])
def test_cancel_reports_when_the_disc_is_let_go(make: Callable[[], Core]) -> None:
    core = make()
    core.command(Cancel(), epoch=4)
    core.do(inspected() if make is inspecting else events.Prepared(UPGRADE, True))
    (sent,) = core.found(events.Transmit)
    assert isinstance(sent.message.payload, Result) and sent.message.payload.outcome == "cancelled"
    assert sent.message.epoch == 4


def test_cancelled_upgrade_makes_way_for_the_one_that_waits() -> None:
    core = requested()
    core.command(START, OTHER_UPGRADE)
    core.command(Cancel())
    (result,) = (one for one in core.memory.outbox if isinstance(one.payload, Result))
    core.do(events.Acknowledged(result.message_id))
    assert core.upgrade().upgrade_id == OTHER_UPGRADE and core.found(events.Inspect)


def test_installation_that_could_not_be_cancelled_is_reported_as_usual() -> None:
    core = installing()
    core.command(Cancel())
    core.do(events.Installed(UPGRADE, "2.0.0", exit_code=0))
    assert [result.outcome for result in core.sent(Result)] == ["succeeded"]


def test_cancel_of_a_forgotten_upgrade_promises_nothing() -> None:
    """It may have been installed long ago."""
    memory = Memory(generation="gen", vm=VM)
    for number in range(FINISHED_LIMIT + 1):
        memory = memory.with_finished(f"01900000-0000-8000-8000-{number:012}", None)
    core = Core(memory)
    core.command(Cancel(), "01900000-0000-8000-8000-000000000000")
    assert core.refusal().startswith("forgotten") and not core.sent(Result)


# A cancel is a promise: one that the journal cannot keep is not given.


@pytest.mark.parametrize("make", [Core, waiting, inspecting, requested, asking, verifying])
def test_unrecorded_cancel_is_refused(make: Callable[[], Core]) -> None:
    core = make()
    before = core.memory
    cancel = events.Commanded(command(Cancel()))
    taken, _effects = handle(before, cancel, NOW)
    assert must_record(before, taken)
    core.do(events.Unrecorded(cancel, "no space left"))
    assert core.refusal().startswith("journal_unwritable") and not core.sent(Result)
    assert core.memory == before


def test_end_of_a_recorded_cancel_need_not_be_recorded() -> None:
    core = cancelling()
    ended, _effects = handle(core.memory, inspected(), NOW)
    assert ended.current is None and not must_record(core.memory, ended)


def test_no_permit_is_taken_for_an_upgrade_that_neither_runs_nor_waits() -> None:
    core = requested()
    core.command(permit(), OTHER_UPGRADE)
    assert core.refusal().startswith("unknown_upgrade") and not core.sent(Progress)
    core.command(replace(START), OTHER_UPGRADE)
    core.command(permit(), OTHER_UPGRADE)
    assert core.refusal() == "" and core.sent(Progress) == [Progress("busy", UPGRADE)]
