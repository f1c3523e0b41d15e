# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One step of the lifecycle: the memory as it becomes, the effects so far, and the moves that several events share."""

from __future__ import annotations

from typing import Any

from .bounds import clip
from .events import (
    Abandon,
    Ask,
    Clean,
    Effect,
    Failure,
    Inspect,
    Prepare,
    Repeat,
    StopAsking,
    Ticked,
    Transmit,
)
from .memory import Memory, Upgrade
from .states import TRANSITIONS, Kind, State
from .wire import Confirmation, Message, Payload, Result, altered

CONSENT_AUTO = "auto"
CONSENT_ASK = "ask"
CANCELLED = "cancelled"

_UNDATED = 0.0
"""When a message was made of which that is not known."""


class IllegalMove(Exception):
    """An event that the transition table does not allow in this state. Nothing has changed."""


def allowed(state: State, kind: Kind) -> bool:
    """Whether the transition table has this pair."""
    return (state, kind) in TRANSITIONS


def move(upgrade: Upgrade, kind: Kind, **changed: Any) -> Upgrade:
    """The upgrade after ``kind`` happened to it, with the fields ``changed``.

    :raises IllegalMove: the transition table has no such pair.
    """
    state = TRANSITIONS.get((upgrade.state, kind))
    if state is None:
        raise IllegalMove(f"{kind.value!r} while {upgrade.state.value}")
    return altered(upgrade, state=state, **changed)


class Step:
    """One event being handled at the host's time ``now`` (None: not known yet)."""

    def __init__(self, memory: Memory, now: float | None) -> None:
        self.memory = memory
        self.now = now
        self.effects: list[Effect] = []

    def current(self, upgrade_id: str) -> Upgrade | None:
        """The current upgrade, if it has this ID."""
        upgrade = self.memory.current
        return upgrade if upgrade and upgrade.upgrade_id == upgrade_id else None

    def permitted(self, upgrade: Upgrade) -> bool:
        """Whether its newest permit is known to be valid now. None is after the deadline."""
        end = min(upgrade.expires_at, upgrade.start.deadline)
        return self.now is not None and upgrade.permit > 0 and self.now < end

    def overdue(self, upgrade: Upgrade) -> bool:
        """Whether its deadline is known to have passed."""
        return self.now is not None and self.now >= upgrade.start.deadline

    def do(self, *effects: Effect) -> None:
        """Add effects."""
        self.effects.extend(effects)

    def keep(self, upgrade: Upgrade, *effects: Effect) -> None:
        """Go on with the current upgrade as it has become."""
        self.memory = altered(self.memory, current=upgrade)
        self.do(*effects)

    def report(self, command: Message, payload: Payload) -> Message:
        """Put a message about the upgrade of ``command`` into the outbox, and send it."""
        message = Message(
            message_id=self._next_id(),
            upgrade_id=command.upgrade_id,
            campaign_id=command.campaign_id,
            vm=self.memory.vm,
            attempt=command.attempt,
            epoch=command.epoch,
            created_at=_UNDATED if self.now is None else self.memory.clock,
            payload=payload,
        )
        self.memory = self.memory.with_sent(message)
        self.do(Transmit(message))
        return message

    def date_outbox(self) -> None:
        """Number anew, by the host's time, what was made before this process knew it; nothing of that was sent.

        The numbers that follow the last one recorded may have been used: the journal could not be written then, or the guest
        was set back to a snapshot since.
        """
        for message in self.memory.outbox:
            if message.created_at == _UNDATED and self.now is not None:
                numbered = altered(message, message_id=self._next_id(), created_at=self.memory.clock)
                self.memory = self.memory.with_renumbered(message.message_id, numbered)

    def _next_id(self) -> str:
        clock = max(self.memory.clock, self.now or 0.0)
        counter = max(self.memory.counter + 1, int(clock * 1000))
        self.memory = altered(self.memory, counter=counter, clock=clock)
        return f"{self.memory.generation}.{counter}"

    def end(self, upgrade: Upgrade, kind: Kind, result: Result | None) -> None:
        """The upgrade is over, with ``result`` or silently.

        :raises IllegalMove: the transition table has no such pair.
        """
        move(upgrade, kind)
        message = self.report(upgrade.command, result) if result else None
        self.memory = self.memory.with_finished(upgrade.upgrade_id, message)
        if self.current(upgrade.upgrade_id):
            self.memory = altered(self.memory, current=None)
            self.do(StopAsking(), Clean(), Repeat(Ticked()))
        elif self.memory.waiting and self.memory.waiting.upgrade_id == upgrade.upgrade_id:
            self.memory = altered(self.memory, waiting=None)

    def give_up(self, upgrade: Upgrade, kind: Kind, result: Result | None) -> None:
        """End the upgrade with ``result`` or silently; if a task holds its disc, as soon as that lets go of it.

        :raises IllegalMove: the transition table has no such pair.
        """
        moved = move(upgrade, kind)
        if moved.state is State.CANCELLING:
            self.keep(moved, Abandon())
        else:
            self.end(upgrade, kind, result)

    def inspect(self, upgrade: Upgrade, kind: Kind) -> None:
        """Look at the disc and the version, whether for the first time or again, for a fresh request."""
        moved = move(upgrade, kind)
        self.keep(moved, Inspect(moved))

    def use_permit(self, upgrade: Upgrade) -> None:
        """A valid permit is held: install, or ask the user first."""
        if upgrade.consent or upgrade.start.consent == CONSENT_AUTO:
            self.go(upgrade, Kind.GO)
        else:
            moved = move(upgrade, Kind.ASK)
            self.keep(moved, Ask(moved))

    def go(self, upgrade: Upgrade, kind: Kind) -> None:
        """Everybody agrees: say so, and prepare the installation."""
        moved = move(upgrade, kind)
        self.keep(moved)
        by = "policy" if moved.start.consent == CONSENT_AUTO else "user"
        self.report(moved.command, Confirmation(moved.permit, "confirm", by))
        self.do(Prepare(moved))


def result(upgrade: Upgrade, outcome: str, **fields: Any) -> Result:
    """A result with what the upgrade knows."""
    return Result(
        outcome, **{"version_before": upgrade.installed_version, "unmounted": upgrade.unmounted, **fields}
    )


def failed(upgrade: Upgrade, failure: Failure) -> Result:
    """The result of an upgrade that cannot go on."""
    return result(upgrade, "failed", stage=failure.stage, code=failure.code, detail=clip(failure.detail, 300))
