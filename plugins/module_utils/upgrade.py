# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The upgrades of one campaign: what the journal says of each, record by record.

Everything that moves an upgrade's state lives in this file. A record that does not fit the state it meets changes nothing.
"""

from __future__ import annotations

from typing import Any, Callable

from .records import Ended, Held, Notified, Row
from .states import FINAL, GUEST_OUTCOMES, TRANSITIONS, Event, State
from .wire import (
    NOT_HERE,
    Confirmation,
    Delivered,
    Facts,
    Message,
    Notification,
    Payload,
    Progress,
    Refused,
    Request,
    Result,
    Start,
    Undeliverable,
    altered,
)

INELIGIBLE_REASONS = frozenset(
    {"no_drive", "drive_ambiguous", "drive_in_use", "no_channel", "duplicate_uuid"}
)
"""Reasons that waiting does not mend: the upgrade ends as ineligible at once."""

NEVER = float("inf")
"""A time that does not come."""

UNKNOWN_UPGRADE = "unknown_upgrade"
"""How an agent's refusal of a permit begins, if it knows nothing of the upgrade."""

JOURNAL_UNWRITABLE = "journal_unwritable"
"""How an agent's refusal of a start begins, if its disk does not take the answer."""

REASK_S = 30.0
"""Seconds after which such an agent is asked again: a full disk is often a passing trouble."""

REFUSALS_BORNE = 2
"""Refused guest messages that an upgrade survives; a serial line can be garbled once or twice, a third is the guest's doing."""


class Upgrade:
    """One VM in one campaign.

    :ivar unfit: why it cannot be upgraded, as it was known when it was selected; empty if nothing was known against it.
    :ivar stage: where it ended.
    :ivar reason: why it ended so, is held, or was not reached last.
    :ivar result: the agent's own report, if it sent one; ``late_result`` is one that came after the outcome.
    :ivar ineligible: waiting will not mend what the relay reported; the coordinator ends the upgrade.
    :ivar lost: the agent asked for the upgrade after it had begun to install: its disk was set back.
    :ivar elsewhere: the relay of its node has it not; it may have moved to another node, or be shut off.
    :ivar waits: it is held only because it is not its turn.
    :ivar cancelling: why it is to be cancelled; empty if it is not.
    :ivar requested_at: when the agent asked last; ``answered_at``: when it last acknowledged a start.
    """

    __slots__ = (
        "answered_at",
        "ask_from",
        "began_at",
        "busy_with",
        "cancelling",
        "delivered",
        "due",
        "elsewhere",
        "ended_at",
        "expires_at",
        "facts",
        "greeted",
        "heard",
        "ineligible",
        "installed_version",
        "late_result",
        "lost",
        "name",
        "node",
        "pending_decision",
        "permit",
        "reason",
        "refusals",
        "release",
        "requested_at",
        "result",
        "since",
        "stage",
        "state",
        "tries",
        "unfit",
        "unknown",
        "upgrade_id",
        "vm",
        "waits",
    )

    def __init__(self, row: Row, upgrade_id: str, since: float) -> None:
        self.vm, self.name, self.node, self.unfit = row
        self.upgrade_id = upgrade_id
        self.state = State.PENDING
        self.since = since
        self.began_at = since
        self.ended_at = 0.0
        self.stage = ""
        self.reason = ""
        self.installed_version = ""
        self.facts: Facts | None = None
        self.permit = 0
        self.expires_at = 0.0
        self.delivered = False  # the command of the current state was acknowledged by the agent
        self.busy_with = ""
        self.ineligible = False
        self.waits = False
        self.lost = False
        self.cancelling = ""
        self.requested_at = 0.0
        self.answered_at = 0.0
        self.unknown = False  # the agent does not know the upgrade that a permit was for
        self.elsewhere = False
        self.refusals = 0
        self.heard: tuple[str, int] = ("", 0)
        self.result: Result | None = None
        self.late_result: Result | None = None
        # Used by the coordinator's decisions only:
        self.pending_decision = False  # one was made and not read back yet
        self.greeted = False  # the agent said hello
        self.ask_from = NEVER  # when it is to be asked how it is
        self.release = False  # the agent should let go of an upgrade that is over
        self.due = 0.0
        self.tries = 0

    @property
    def cancel_refusal(self) -> str:
        """Why the upgrade cannot be cancelled any more; empty if it can."""
        if self.final:
            return f"it is over: {self.state.value}"
        if self.state is State.INSTALLING:
            return "the installer was started"
        return ""

    @property
    def final(self) -> bool:
        """Whether the upgrade has its outcome."""
        return self.state in FINAL

    @property
    def lingers(self) -> bool:
        """Whether its agent may still hold it although it is over: the coordinator ended it before the deadline that the agent knows,
        and the agent said no result."""
        if self.result is not None or self.late_result is not None:
            return False
        return self.state in _RELEASING or (self.state is State.INELIGIBLE and self.answered_at > 0.0)

    def apply(self, message: Message, target_version: str) -> bool:
        """Take one journal record of this upgrade; true if anything changed."""
        handler = _HANDLERS.get(type(message.payload))
        if handler is None or (self._outrun(message) and not _holds_for_good(message.payload)):
            return False
        return handler(self, message.payload, message.created_at, target_version)

    def _outrun(self, message: Message) -> bool:
        """Whether a report of this agent's that is newer, or this very one, was heard before: agents number what they send."""
        if not isinstance(message.payload, (Request, Confirmation, Progress, Result)):
            return False
        generation, _dot, counter = message.message_id.rpartition(".")
        if not counter.isdecimal() or len(counter) > 19:
            return False
        number = int(counter)
        if generation == self.heard[0] and number <= self.heard[1]:
            return True
        self.heard = (generation, number)
        return False

    def missed(self, reason: str) -> bool:
        """Keep why a command did not reach the agent; but not if it did before, nor instead of why it is held or cannot go on."""
        if self.final or self.delivered or self.state is State.HELD:
            return False
        if self.ineligible or self.refusals > REFUSALS_BORNE:
            return False
        self.reason = reason
        return True

    def _move(self, event: Event, at: float) -> bool:
        target = TRANSITIONS.get((self.state, event))
        if target is None:
            return False
        self._enter(target, at)
        return True

    def _enter(self, state: State, at: float) -> None:
        self.state = state
        self.since = at
        self.reason = ""
        self.ineligible = False
        self.waits = False
        self.delivered = False
        self.unknown = False
        self.elsewhere = False
        self.ask_from = NEVER
        self.due = 0.0
        self.tries = 0

    def cancel(self, reason: str) -> bool:
        """Take an operator's wish to cancel; true if it changed anything."""
        if self.cancelling or self.cancel_refusal:
            return False
        self.cancelling = reason or "cancelled by an operator"
        self._hurry()
        return True

    def _hurry(self) -> None:
        """What its agent is sent next does not wait for an answer to what it was sent last."""
        self.due, self.tries = 0.0, 0

    def _end(self, outcome: State, stage: str, reason: str, at: float) -> bool:
        if self.final:
            return False
        self._enter(outcome, at)
        self.stage, self.reason, self.ended_at = stage, reason, at
        self.facts = None
        return True


def _holds_for_good(payload: Payload) -> bool:
    """Whether a report is true however late it comes: nothing takes back that an installer was started, or how it ended."""
    return isinstance(payload, Result) or (isinstance(payload, Progress) and payload.stage == "installing")


def _delivered(upgrade: Upgrade, payload: Delivered, at: float, _target: str) -> bool:
    if payload.command == Start.TYPE and not upgrade.final:
        upgrade.answered_at, upgrade.ask_from = at, NEVER
        upgrade._move(Event.START_DELIVERED, at)
        return True
    return payload.command == Notification.TYPE and _permit_arrived(upgrade)


def _permit_arrived(upgrade: Upgrade) -> bool:
    if upgrade.state is not State.NOTIFIED or upgrade.delivered:
        return False
    upgrade.delivered, upgrade.reason = True, ""
    return True


def _undeliverable(upgrade: Upgrade, payload: Undeliverable, at: float, _target: str) -> bool:
    if upgrade.final:
        return False
    reason = payload.reason + (f": {payload.detail}" if payload.detail else "")
    if payload.command == Notification.TYPE and payload.detail.startswith(UNKNOWN_UPGRADE):
        upgrade.unknown = True
    if payload.command == Start.TYPE:
        upgrade.ask_from = at + REASK_S if payload.detail.startswith(JOURNAL_UNWRITABLE) else NEVER
    upgrade.elsewhere = payload.reason == NOT_HERE
    if payload.reason not in INELIGIBLE_REASONS:
        has_news = upgrade.unknown or upgrade.elsewhere or upgrade.ask_from < NEVER
        return upgrade.missed(reason) or has_news
    if not upgrade.ineligible:
        upgrade._hurry()
    upgrade.ineligible, upgrade.reason = True, reason
    return True


def _refused(upgrade: Upgrade, payload: Refused, at: float, _target: str) -> bool:
    if upgrade.final:
        return False
    upgrade.refusals += 1
    if upgrade.refusals == REFUSALS_BORNE + 1:
        upgrade._hurry()
    upgrade.reason = f"the relay refused what the guest sent: {payload.reason}: {payload.detail}"
    return True


def _request(upgrade: Upgrade, payload: Request, at: float, _target: str) -> bool:
    if upgrade.state is State.INSTALLING:
        upgrade.lost = True
        return True
    if not upgrade._move(Event.REQUEST, at):
        return _still_busy(upgrade)
    upgrade.requested_at = at
    upgrade.installed_version = payload.installed_version
    upgrade.facts = payload.facts
    upgrade.busy_with = ""
    return True


def _held(upgrade: Upgrade, payload: Held, at: float, _target: str) -> bool:
    if not upgrade._move(Event.HELD, at):
        return False
    upgrade.reason, upgrade.waits = payload.reason, payload.waits
    return True


def _notified(upgrade: Upgrade, payload: Notified, at: float, _target: str) -> bool:
    if upgrade.cancelling or not upgrade._move(Event.NOTIFIED, at):
        return False  # a permit that comes after the wish to cancel is never sent
    upgrade.permit, upgrade.expires_at = payload.permit, payload.expires_at
    return True


def _confirmation(upgrade: Upgrade, payload: Confirmation, at: float, _target: str) -> bool:
    if payload.answer == "confirm" and upgrade._move(Event.CONFIRMED, at):
        return True
    return _permit_arrived(upgrade) or _still_busy(upgrade)  # an answer is as good as an acknowledgement


def _still_busy(upgrade: Upgrade) -> bool:
    """The agent goes on with an upgrade that the coordinator ended: it should let go of it."""
    upgrade.release = upgrade.final and upgrade.result is None
    return upgrade.release


def _progress(upgrade: Upgrade, payload: Progress, at: float, _target: str) -> bool:
    if payload.stage == "busy" and not upgrade.final:
        upgrade.busy_with = payload.detail
        upgrade.reason = f"the VM is busy with upgrade {payload.detail}"
        return True
    return payload.stage == "installing" and upgrade._move(Event.INSTALLING, at)


def _result(upgrade: Upgrade, payload: Result, at: float, target: str) -> bool:
    upgrade.release = False
    if upgrade.final:
        if any(_is_same(payload, known) for known in (upgrade.result, upgrade.late_result)):
            return False
        if upgrade.result is None and payload.outcome == upgrade.state.value:
            upgrade.result = payload  # what the coordinator had decided, in the agent's words
            return True
        upgrade.late_result = payload
        return True
    outcome, stage, reason = judge_result(payload, target)
    if outcome is State.CANCELLED:
        reason = reason or upgrade.cancelling or upgrade.reason
    upgrade.result = payload
    return upgrade._end(outcome, stage, reason, at)


def _is_same(report: Result, known: Result | None) -> bool:
    """Whether it is the same report again. What an agent repeats later comes without the log, which it does not keep."""
    return known is not None and altered(report, log_tail="") == altered(known, log_tail="")


_RELEASING = (State.CANCELLED, State.TIMED_OUT, State.INTERRUPTED, State.FAILED)
"""Outcomes by the coordinator's decision of which the agent is told: it may still hold the upgrade. By itself it knows of the deadline only."""


def judge_result(result: Result, target_version: str) -> tuple[State, str, str]:
    """(outcome, stage, reason) of a result: the agent's word, but no success with another version than the target."""
    try:
        outcome = State(result.outcome)
    except ValueError:
        outcome = State.PENDING
    if outcome not in GUEST_OUTCOMES:
        return State.FAILED, "result", f"the agent reported the unknown outcome {result.outcome!r}"
    if outcome in (State.SUCCEEDED, State.UP_TO_DATE) and result.version_after != target_version:
        return (
            State.FAILED,
            "verify",
            f"the agent says {outcome.value} but reads version {result.version_after!r}",
        )
    reason = result.code + (f": {result.detail}" if result.detail else "")
    return outcome, result.stage, reason


def _ended(upgrade: Upgrade, payload: Ended, at: float, _target: str) -> bool:
    try:
        outcome = State(payload.outcome)
    except ValueError:
        return False
    if outcome not in FINAL or not upgrade._end(outcome, payload.stage, payload.reason, at):
        return False
    upgrade.release = upgrade.lingers
    return True


_Handler = Callable[[Upgrade, Any, float, str], bool]

_HANDLERS: dict[type[Payload], _Handler] = {
    Delivered: _delivered,
    Undeliverable: _undeliverable,
    Refused: _refused,
    Request: _request,
    Held: _held,
    Notified: _notified,
    Confirmation: _confirmation,
    Progress: _progress,
    Result: _result,
    Ended: _ended,
}
