# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lifecycle's answer to commands: start, notification and cancel.

Every command is acknowledged: as taken, once the memory that it leads to is safe, or as refused, with the reason.
"""

from __future__ import annotations

from typing import Callable

from .bounds import clip
from .events import Acknowledge, Failure, Transmit
from .memory import OUTBOX_LIMIT, Finished, Memory, Upgrade, is_upgrade_id
from .states import Kind, State
from .step import CANCELLED, CONSENT_ASK, CONSENT_AUTO, Step, allowed, failed, move, result
from .wire import Cancel, Message, Notification, Progress, Start, altered

_FORGOTTEN = "forgotten: upgrades as old as this may have been installed already"


def command(step: Step, message: Message) -> None:
    """Follow a command, or refuse it."""
    refusal = _refusal(step.memory, message)
    if refusal:
        step.do(Acknowledge(message.message_id, refusal))
        return
    step.memory = step.memory.with_claim(message.campaign_id, message.epoch, _nonce(message))
    finished = step.memory.finished_upgrade(message.upgrade_id)
    if finished:
        _repeat_result(step, message, finished)
    else:
        _HANDLERS[type(message.payload)](step, message)


def unrecorded(step: Step, message: Message, failure: Failure) -> None:
    """The journal could not keep what a command leads to: a new upgrade fails at once, all else is refused."""
    upgrade = Upgrade(message)
    if isinstance(message.payload, Start) and step.memory.current is None:
        step.memory = step.memory.with_claim(message.campaign_id, message.epoch, _nonce(message))
        step.do(Acknowledge(message.message_id))
        step.end(upgrade, Kind.UNUSABLE, failed(upgrade, failure))
    else:
        step.do(Acknowledge(message.message_id, clip(f"{failure.code}: {failure.detail}", 200)))


def _nonce(message: Message) -> str:
    payload = message.payload
    assert isinstance(payload, (Start, Notification, Cancel))
    return payload.nonce


def _refusal(memory: Memory, message: Message) -> str:
    """Why a command must not be followed, whatever it is; empty if it may."""
    if message.vm != memory.vm:
        return f"wrong_vm: this is {memory.vm}"
    if not is_upgrade_id(message.upgrade_id):
        return "bad_id: the upgrade ID is no UUID in lower case"
    claim = memory.claims.get(message.campaign_id)
    if claim and (message.epoch < claim[0] or (message.epoch == claim[0] and _nonce(message) != claim[1])):
        return f"stale_claim: epoch {claim[0]} of another coordinator is in force"
    ours = memory.current is not None and memory.current.upgrade_id == message.upgrade_id
    if not ours and len(memory.outbox) >= OUTBOX_LIMIT:
        return "outbox_full: too many messages of this agent were not acknowledged"
    return ""


def _repeat_result(step: Step, message: Message, finished: Finished) -> None:
    step.do(Acknowledge(message.message_id))
    if finished.result is None:
        return
    known = {item.message_id: item for item in (finished.result, *step.memory.outbox)}
    again = known[finished.result.message_id]  # the one in the outbox still has its log
    step.memory = step.memory.with_sent(again)
    step.do(Transmit(again))


def _start(step: Step, message: Message) -> None:
    current = step.current(message.upgrade_id)
    refusal = "" if current else _start_refusal(step, message)
    if current:
        _start_again(step, current, message)
    elif refusal:
        step.do(Acknowledge(message.message_id, refusal))
    elif step.memory.current or step.memory.waiting or step.memory.unsaid:
        _queue(step, message)
    else:
        step.do(Acknowledge(message.message_id))
        step.inspect(Upgrade(message), Kind.START)


def _start_refusal(step: Step, message: Message) -> str:
    """Why a new upgrade must not be taken; empty if it may."""
    upgrade = Upgrade(message)
    if step.overdue(upgrade):
        return "expired: its deadline has passed"
    if upgrade.start.consent not in (CONSENT_AUTO, CONSENT_ASK):
        return f"unknown_consent: {clip(upgrade.start.consent, 16)!r} is neither auto nor ask"
    if message.upgrade_id <= step.memory.forgotten:
        return _FORGOTTEN
    return ""


def _queue(step: Step, message: Message) -> None:
    """Another upgrade is in progress, or its result was not taken yet: this one is next, unless yet another is."""
    current, waiting = step.memory.current, step.memory.waiting
    ahead = current or waiting
    first = ahead.upgrade_id if ahead else step.memory.unsaid
    if waiting and waiting.upgrade_id != message.upgrade_id:
        step.do(Acknowledge(message.message_id, f"busy: {first} is first and another one is next"))
    else:
        queued = altered(waiting, command=message) if waiting else Upgrade(message)
        step.memory = altered(step.memory, waiting=move(queued, Kind.QUEUE))
        step.do(Acknowledge(message.message_id))
    if first != message.upgrade_id:
        step.report(message, Progress("busy", first))


def _start_again(step: Step, upgrade: Upgrade, message: Message) -> None:
    """The controller wants to hear of an upgrade that is in progress: a fresh request, if it awaits a permit."""
    step.do(Acknowledge(message.message_id))
    upgrade = _answering(upgrade, message)
    if upgrade.state is State.REQUESTED:
        step.inspect(upgrade, Kind.START)
    else:
        step.keep(upgrade)


def _notification(step: Step, message: Message) -> None:
    permit = message.payload
    assert isinstance(permit, Notification)
    upgrade = step.current(message.upgrade_id)
    if upgrade is None:
        _permit_for_another(step, message)
        return
    step.do(Acknowledge(message.message_id))
    if permit.permit < upgrade.permit or upgrade.state not in (
        State.INSPECTING,
        State.REQUESTED,
        State.ASKING,
    ):
        return
    upgrade = altered(_answering(upgrade, message), permit=permit.permit, expires_at=permit.expires_at)
    if upgrade.state is State.INSPECTING:
        step.keep(move(upgrade, Kind.EARLY))
    elif upgrade.state is State.ASKING:
        step.keep(move(upgrade, Kind.ASK))
    elif step.permitted(upgrade):
        step.use_permit(upgrade)
    else:
        step.inspect(upgrade, Kind.LATE)


def _permit_for_another(step: Step, message: Message) -> None:
    """A permit for an upgrade that waits is of no use: its turn will bring a new request."""
    current, waiting = step.memory.current, step.memory.waiting
    if waiting is None or waiting.upgrade_id != message.upgrade_id:
        step.do(Acknowledge(message.message_id, "unknown_upgrade: it was never started here"))
        return
    step.do(Acknowledge(message.message_id))
    if current:
        step.report(message, Progress("busy", current.upgrade_id))


def _cancel(step: Step, message: Message) -> None:
    waiting = step.memory.waiting
    waits = waiting is not None and waiting.upgrade_id == message.upgrade_id
    upgrade = step.current(message.upgrade_id)
    if upgrade is None and not waits and message.upgrade_id <= step.memory.forgotten:
        step.do(Acknowledge(message.message_id, _FORGOTTEN))
        return
    step.do(Acknowledge(message.message_id))
    if upgrade is None:  # never begun here, and now it never will be
        known = waiting if waiting and waits else Upgrade(message)
        step.end(known, Kind.CANCEL, result(known, CANCELLED))
    elif allowed(upgrade.state, Kind.CANCEL):
        upgrade = _answering(upgrade, message)
        step.give_up(upgrade, Kind.CANCEL, result(upgrade, CANCELLED))


def _answering(upgrade: Upgrade, message: Message) -> Upgrade:
    """The upgrade, whose messages bear the epoch of ``message`` from now on."""
    return altered(upgrade, command=altered(upgrade.command, epoch=message.epoch))


_HANDLERS: dict[type, Callable[[Step, Message], None]] = {
    Start: _start,
    Notification: _notification,
    Cancel: _cancel,
}
