# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's core: what it does about an event, decided without any input or output.

`handle` takes the memory, an event and the host's time, and returns the new memory and the effects that follow from it.
The caller makes the new memory safe first and performs the effects then. If it cannot make it safe, `must_record` says
whether it may go on all the same; if not, it keeps the old memory and handles `Unrecorded`. What `held_back` names it
sends only when the journal has it. Everything that moves an upgrade is in this file, `commands.py`, `step.py` and `states.py`.
"""

from __future__ import annotations

from typing import Any, Callable

from . import commands
from .bounds import clip
from .events import (
    Abandon,
    Acknowledged,
    Answered,
    Ask,
    Clean,
    Commanded,
    Effect,
    Event,
    Failure,
    Greet,
    Inspect,
    Inspected,
    Install,
    Installed,
    Prepared,
    Repeat,
    Restarted,
    Settle,
    StopAsking,
    Ticked,
    Transmit,
    Unrecorded,
    Welcomed,
)
from .memory import Memory, Upgrade
from .states import Kind, State
from .step import CANCELLED, Step, allowed, failed, move, result
from .wire import LOG_TAIL_LIMIT, Confirmation, Message, Progress, Request, Result, Start, altered

_WITH_DEADLINE = (State.INSPECTING, State.REQUESTED, State.ASKING, State.VERIFYING)


def handle(memory: Memory, event: Event, now: float | None) -> tuple[Memory, list[Effect]]:
    """What ``event`` makes of ``memory``, and what is to be done.

    :param now: the host's time in seconds since the Unix epoch; None before the host has told it to this process.
    """
    step = Step(memory, now)
    _HANDLERS[type(event)](step, event)
    return step.memory, step.effects


def due(memory: Memory) -> float | None:
    """The host's time at which `Ticked` should be handled, if at any."""
    times = [memory.waiting.start.deadline] if memory.waiting else []
    if memory.current and memory.current.state in _WITH_DEADLINE:
        times.append(memory.current.start.deadline)
    return min(times, default=None)


def must_record(old: Memory, new: Memory) -> bool:
    """Whether the step from ``old`` to ``new`` is one that only a recorded step may be: it takes or furthers an upgrade, or
    promises that one will never be installed.
    """
    furthers = new.current is not None and new.current != old.current
    return furthers or (new.waiting is not None and new.waiting != old.waiting) or _promises(old, new)


def _promises(old: Memory, new: Memory) -> bool:
    """Whether an upgrade becomes cancelled that could still be installed if the journal did not know of that."""
    safe = {item.upgrade_id for item in old.finished}
    if old.current and old.current.state is State.CANCELLING:
        safe.add(old.current.upgrade_id)
    fresh = (item.result.payload for item in new.finished if item.result and item.upgrade_id not in safe)
    return any(isinstance(payload, Result) and payload.outcome == CANCELLED for payload in fresh)


def held_back(recorded: Memory, message: Message) -> bool:
    """Whether ``message`` must not be said while the journal holds no more than ``recorded``: it calls an upgrade over with which a
    process that begins with that would go on, and in the end install.
    """
    if not isinstance(message.payload, Result):
        return False
    for upgrade in (recorded.current, recorded.waiting):
        if upgrade is not None and upgrade.upgrade_id == message.upgrade_id:
            return upgrade.state not in (State.INSTALLING, State.CANCELLING)
    return False


# The process, its session and the time.


def _restarted(step: Step, _event: Restarted) -> None:
    upgrade = step.memory.current
    if upgrade is None:
        step.do(Repeat(Ticked()))
    elif upgrade.state is State.CANCELLING:
        step.end(upgrade, Kind.RESTART, result(upgrade, CANCELLED))
    else:
        moved = move(upgrade, Kind.RESTART)
        step.keep(moved)
        if moved.state is State.INSPECTING:
            step.do(Inspect(moved))
        elif moved.state is State.ASKING:
            step.do(Ask(moved))
        elif moved.state is State.INSTALLING:
            step.do(Settle(moved))


def _welcomed(step: Step, event: Welcomed) -> None:
    if step.memory.vm not in ("", event.vm):  # this disk is a copy of another VM's
        step.memory = Memory(generation=event.generation, vm=event.vm)
        step.do(StopAsking(), Abandon(), Clean(), Greet())
        return
    if not step.memory.vm:
        step.memory = altered(step.memory, vm=event.vm)
    step.date_outbox()
    step.do(*(Transmit(message) for message in step.memory.outbox), Repeat(Ticked()))


def _acknowledged(step: Step, event: Acknowledged) -> None:
    step.memory = step.memory.without_sent(event.message_id)
    if step.memory.waiting and step.memory.current is None:
        step.do(Repeat(Ticked()))


def _ticked(step: Step, _event: Ticked) -> None:
    upgrade, waiting = step.memory.current, step.memory.waiting
    if waiting and step.overdue(waiting):
        step.end(waiting, Kind.EXPIRE, None)
        waiting = None
    if upgrade and upgrade.state in _WITH_DEADLINE and step.overdue(upgrade):
        step.give_up(upgrade, Kind.EXPIRE, None)
    elif waiting and upgrade is None and not step.memory.unsaid:
        step.memory = altered(step.memory, waiting=None)
        step.inspect(waiting, Kind.TURN)


def _commanded(step: Step, event: Commanded) -> None:
    commands.command(step, event.message)


# What the user and the running task said.


def _inspected(step: Step, event: Inspected) -> None:
    upgrade = step.current(event.upgrade_id)
    if upgrade is None or upgrade.state not in (State.INSPECTING, State.CANCELLING):
        return
    upgrade = altered(upgrade, unmounted=event.unmounted)
    failure = event.failure or _other_than_wanted(upgrade.start, event)
    version = event.installed_version
    if upgrade.state is State.CANCELLING:
        _released(step, upgrade)
    elif failure:
        step.end(upgrade, Kind.UNUSABLE, failed(upgrade, failure))
    elif version == upgrade.start.target_version:
        step.end(
            upgrade, Kind.SAME, result(upgrade, "up_to_date", version_before=version, version_after=version)
        )
    elif step.permitted(upgrade):
        step.use_permit(altered(upgrade, installed_version=version))
    else:
        moved = move(upgrade, Kind.DIFFERENT, installed_version=version)
        step.keep(moved)
        step.report(moved.command, Request(version, moved.consent, event.facts))


def _other_than_wanted(start: Start, found: Inspected) -> Failure | None:
    if found.component != start.component:
        return Failure(
            "verify", "wrong_component", f"the disc carries {found.component}, not {start.component}"
        )
    if found.disc_version != start.target_version:
        return Failure(
            "verify", "wrong_version", f"the disc carries {found.disc_version}, not {start.target_version}"
        )
    return None


def _answered(step: Step, event: Answered) -> None:
    upgrade = step.current(event.upgrade_id)
    if upgrade is None or upgrade.state is not State.ASKING:
        return
    step.do(StopAsking())
    if not event.confirmed:
        step.report(upgrade.command, Confirmation(upgrade.permit, "decline", "user"))
        step.end(upgrade, Kind.DECLINE, result(upgrade, "declined"))
    elif step.permitted(upgrade):
        step.go(altered(upgrade, consent=True), Kind.CONFIRM)
    else:
        step.inspect(altered(upgrade, consent=True), Kind.CONFIRM_LATE)


def _prepared(step: Step, event: Prepared) -> None:
    upgrade = step.current(event.upgrade_id)
    if upgrade is None or upgrade.state not in (State.VERIFYING, State.CANCELLING):
        return
    upgrade = altered(upgrade, unmounted=event.unmounted)
    if upgrade.state is State.CANCELLING:
        _released(step, upgrade)
    elif event.failure:
        step.end(upgrade, Kind.UNUSABLE, failed(upgrade, event.failure))
    elif step.permitted(upgrade):
        moved = move(upgrade, Kind.VERIFIED)
        step.keep(moved)
        step.report(moved.command, Progress("installing"))
        step.do(Install(moved))
    else:
        step.inspect(upgrade, Kind.LATE)


def _released(step: Step, upgrade: Upgrade) -> None:
    """The disc is let go of. After the deadline nobody waits for a word."""
    step.end(upgrade, Kind.RELEASED, None if step.overdue(upgrade) else result(upgrade, CANCELLED))


def _installed(step: Step, event: Installed) -> None:
    upgrade = step.current(event.upgrade_id)
    if upgrade and upgrade.state is State.INSTALLING:
        step.end(upgrade, Kind.INSTALLED, judge(upgrade, event))


def judge(upgrade: Upgrade, seen: Installed) -> Result:
    """The result of an installation: it succeeded only if the version read back is the target."""
    outcome, failure = _outcome(upgrade, seen)
    base = failed(upgrade, failure) if failure else result(upgrade, outcome)
    return altered(
        base,
        outcome=outcome,
        version_after=clip(seen.version or "", 64),
        exit_code=-1 if seen.exit_code is None else seen.exit_code,
        duration_s=seen.duration_s,
        log_tail=clip(seen.log_tail, LOG_TAIL_LIMIT),
    )


def _outcome(upgrade: Upgrade, seen: Installed) -> tuple[str, Failure | None]:
    reached = seen.version == upgrade.start.target_version
    if seen.timed_out:
        return "failed", Failure("install", "timeout", "the installer was stopped at its time limit")
    if seen.exit_code:
        return "failed", Failure(
            "install", "exit_code", f"the installer ended with exit code {seen.exit_code}"
        )
    if seen.failure:
        return "failed", seen.failure
    if reached:
        return "succeeded", None
    if seen.exit_code is None:
        return "interrupted", Failure("install", "interrupted", "nobody saw the installer end")
    if seen.version == upgrade.installed_version:
        return "failed", Failure(
            "install", "version_unchanged", "the installed version is the one from before"
        )
    return "failed", Failure("install", "version_mismatch", f"the installed version reads {seen.version!r}")


# The journal cannot be written.


def _unrecorded(step: Step, event: Unrecorded) -> None:
    """Nothing goes on that the journal would have to remember; what is given up is said."""
    failure = Failure("journal", "journal_unwritable", event.detail)
    lost, upgrade, waiting = event.event, step.memory.current, step.memory.waiting
    if isinstance(lost, Commanded):
        commands.unrecorded(step, lost.message, failure)
    elif upgrade is None and waiting:
        step.end(waiting, Kind.UNUSABLE, failed(waiting, failure))
    elif upgrade and allowed(upgrade.state, Kind.UNUSABLE):
        if isinstance(lost, (Inspected, Prepared)):
            upgrade = altered(upgrade, unmounted=lost.unmounted)
        step.end(upgrade, Kind.UNUSABLE, failed(upgrade, failure))


_HANDLERS: dict[type, Callable[[Step, Any], None]] = {
    Restarted: _restarted,
    Welcomed: _welcomed,
    Commanded: _commanded,
    Acknowledged: _acknowledged,
    Inspected: _inspected,
    Prepared: _prepared,
    Answered: _answered,
    Installed: _installed,
    Ticked: _ticked,
    Unrecorded: _unrecorded,
}
