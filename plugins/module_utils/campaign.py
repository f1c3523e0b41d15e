# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The campaign core: decide what to do next about a campaign whose journal was folded. No I/O, no clock, no randomness.

`Campaign.apply` (fold.py) takes the journal's records in order. `Campaign.decide` says what the coordinator shall append to the journal
and send to the VMs; it looks at what changed and at what is due, so that its cost does not grow with the campaign. A command
is sent only after its decision was read back: it follows from the folded state, never from a decision just made.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Callable, Iterable, Union

from .fold import ATTEMPT, CANCEL, Fold
from .records import Claim, Closed, Ended, Held, Notified, Opened, Row, Sealed, chunks, selection_digest
from .states import DEADLINE_OUTCOME, LIMITED, State
from .turns import Turns
from .upgrade import NEVER, REFUSALS_BORNE, Upgrade
from .wire import Cancel, Facts, Message, Notification, Payload, Scalar, Start

RESEND_MOST_S = 300.0
"""Most seconds until an unacknowledged command is sent again: first `Fold.patience_s`, then twice as long each time. Presence resends
at once."""

REJUDGE_S = 20.0
"""Seconds after which a held VM is asked for fresh facts."""

ANSWER_S = 300.0
"""Seconds that an agent has to go on, once it acknowledged the question why it does not: it may wait two minutes for its disc, and
its guest may be restarted or paused meanwhile."""

SKEW_S = 60.0
"""Seconds by which the clocks of control node and compute nodes may differ: so much longer may a permit be in use."""

Judge = Callable[[Facts], str]
"""The conditions: an empty text if the facts meet them, else the reason to hold."""


@dataclass(frozen=True)
class Append:
    """Effect: append the record to the campaign's journal."""

    message: Message


@dataclass(frozen=True)
class Send:
    """Effect: send the command to its VM; it may go together with others to the relay of ``node``, if that is named."""

    message: Message
    node: str = ""


Effect = Union[Append, Send]


class Campaign(Fold):
    """One campaign as the coordinator ``nonce`` conducts it."""

    def __init__(self, campaign_id: str, nonce: str = "") -> None:
        super().__init__(campaign_id, nonce)
        self._sequence = 0
        self._overdue = False
        self._closing = False
        self._due: list[tuple[float, str]] = []
        self._turns = Turns(0, SKEW_S)

    def _apply_opened(self, payload: Opened, at: float) -> None:
        if self.opened is None:
            self._turns = Turns(payload.at_once, SKEW_S)
        super()._apply_opened(payload, at)

    def _moved(self, upgrade: Upgrade) -> None:
        self._turns.follow(upgrade)

    def _new_claim(self) -> None:
        self._overdue = self._closing = False

    def record(self, payload: Payload, now: float, upgrade: Upgrade | None = None, epoch: int = 0) -> Message:
        """``payload`` in an envelope of this coordinator, for the whole campaign or for one upgrade."""
        self._sequence += 1
        return Message(
            message_id=f"{self._nonce}.{self._sequence}",
            upgrade_id=upgrade.upgrade_id if upgrade else "",
            campaign_id=self.campaign_id,
            vm=upgrade.vm if upgrade else "",
            attempt=ATTEMPT,
            epoch=epoch or self.epoch,
            created_at=now,
            payload=payload,
        )

    def opening(self, opened: Opened, vms: list[Row], now: float) -> list[Message]:
        """The records that begin a campaign: opened, selected, sealed."""
        seal = Sealed(count=len(vms), digest=selection_digest((row.vm, row.unfit) for row in vms))
        return [self.record(payload, now) for payload in (opened, *chunks(vms), seal)]

    def claim(self, host: str, now: float) -> Message:
        """The record with which this coordinator claims the epoch after the highest seen."""
        return self.record(Claim(nonce=self._nonce, host=host), now, epoch=self.epoch + 1)

    def present(self, vm: str) -> None:
        """The agent of ``vm`` said hello, perhaps to another relay than before: it is asked how it is, and what it did not
        acknowledge is due now; or it is told that its upgrade is over, if it may not know."""
        upgrade = self.upgrades.get(vm)
        if upgrade is None:
            return
        if upgrade.final:
            upgrade.release = upgrade.release or upgrade.lingers
        else:
            upgrade.due, upgrade.tries, upgrade.greeted = 0.0, 0, True
        self._changed.add(vm)

    def unroutable(self, vm: str) -> None:
        """No relay has ``vm`` running: kept as the reason, should it stay so."""
        upgrade = self.upgrades.get(vm)
        if upgrade is not None:
            upgrade.missed("shut_off: no relay has it running")
            upgrade.ask_from = NEVER
            upgrade.elsewhere = True
            self._turns.pass_over(vm)
            self._changed.add(vm)

    def next_due(self) -> float | None:
        """The Unix time at which `decide` has something to look at, if nothing changes before."""
        if self.finished or self.opened is None:
            return None
        if self._changed:
            return 0.0
        if self._overdue:
            return None
        first = self._due[0][0] if self._due else self.opened.deadline
        turn = self._turns.due()
        return min(first, self.opened.deadline, first if turn is None else turn)

    def decide(self, now: float, judge: Judge) -> list[Effect]:
        """What to append and to send at Unix time ``now``; nothing unless this coordinator's claim is in force."""
        if not self.sealed or not self.mine or self.closed:
            return []
        effects: list[Effect] = []
        self._turns.expire(now)
        for vm in self._attention(now):
            upgrade = self.upgrades[vm]
            if upgrade.final:
                effects.extend(self._let_go(upgrade, now))
            elif not upgrade.pending_decision:
                effects.extend(self._decide_one(upgrade, now, judge))
        effects.extend(self._call(now))
        if self.finished and not self._closing:
            self._closing = True
            counts = tuple((state, str(count)) for state, count in self.counts().items())
            effects.append(Append(self.record(Closed(nonce=self._nonce, counts=counts), now)))
        return effects

    def _attention(self, now: float) -> Iterable[str]:
        """The VMs to look at: those that changed, those that are due, and once at the deadline all.

        The VMs of one node follow each other: what its relay is sent together it answers together. Those that wait for leave come in the
        order of their requests.
        """
        while self._due and self._due[0][0] <= now:
            due, vm = heapq.heappop(self._due)
            if self.upgrades[vm].due == due:
                self._changed.add(vm)
        changed, self._changed = self._changed, set()
        if now >= self.policy.deadline and not self._overdue:
            self._overdue = True
            return list(self.upgrades)
        return sorted(changed, key=lambda vm: (self._turns.number(vm), self.upgrades[vm].node, vm))

    def _call(self, now: float) -> list[Effect]:
        """Ask the VMs whose turn has come for fresh facts."""
        if now >= self.policy.deadline:
            return []
        effects: list[Effect] = []
        for vm in self._turns.call():
            upgrade = self.upgrades[vm]
            upgrade.tries = 0
            self._wait(upgrade, now + self._next_try(upgrade))
            effects.append(self._send_question(upgrade, now))
        return effects

    def _wait(self, upgrade: Upgrade, until: float) -> None:
        upgrade.due = until
        heapq.heappush(self._due, (until, upgrade.vm))

    def _let_go(self, upgrade: Upgrade, now: float) -> list[Effect]:
        """Tell an agent that may not know it that its upgrade is over."""
        if not upgrade.release:
            return []
        upgrade.release = False
        return [self._cancel(upgrade, now)]

    def _decide_one(self, upgrade: Upgrade, now: float, judge: Judge) -> list[Effect]:
        ending = self._ending(upgrade, now)
        if ending is not None:
            return [self._end(upgrade, *ending, now)]
        if self._withdrawn(upgrade):
            return self._repeated(upgrade, now, self._cancel)
        question = self._question(upgrade, now)
        return question + self._next_step(upgrade, now, judge, bool(question))

    def _end(self, upgrade: Upgrade, outcome: State, stage: str, reason: str, now: float) -> Effect:
        upgrade.pending_decision = True
        ended = Ended(nonce=self._nonce, outcome=outcome.value, stage=stage, reason=reason[:300])
        return Append(self.record(ended, now, upgrade))

    def _ending(self, upgrade: Upgrade, now: float) -> tuple[State, str, str] | None:
        """(outcome, stage, reason), if it is time for the coordinator to end the upgrade."""
        if upgrade.unfit:
            return State.INELIGIBLE, "selection", upgrade.unfit
        if upgrade.lost:
            return (
                State.INTERRUPTED,
                "state_lost",
                "the agent knows nothing of the installation that it began",
            )
        withdrawn = self._withdrawn(upgrade)
        if withdrawn and not self._may_install(upgrade):
            return withdrawn
        if now >= self.policy.deadline:
            return self._at_deadline(upgrade)
        if upgrade.state in LIMITED and self._stuck(upgrade, now):
            return State.TIMED_OUT, LIMITED[upgrade.state][1], "the agent answers, but does not go on"
        return None

    def _at_deadline(self, upgrade: Upgrade) -> tuple[State, str, str]:
        outcome, stage = DEADLINE_OUTCOME[upgrade.state]
        reason = upgrade.reason or "the campaign's deadline passed"
        withdrawn = self._withdrawn(upgrade)
        if upgrade.waits:
            stage, reason = (
                "turn",
                f"its turn did not come: at most {self.policy.at_once} VMs may install at once",
            )
        if withdrawn:
            outcome, stage = State.TIMED_OUT, withdrawn[1]
        elif upgrade.state is State.NOTIFIED and not upgrade.delivered:
            outcome = State.UNREACHABLE
        elif upgrade.state is State.HELD and self._may_install(upgrade):
            outcome, reason = State.TIMED_OUT, f"it was given leave before, and then: {reason}"
        return outcome, stage, reason

    def _withdrawn(self, upgrade: Upgrade) -> tuple[State, str, str] | None:
        """(outcome, stage, reason) of an upgrade that shall not be installed, once it is sure that it will not be; until then its
        agent is told to cancel it."""
        if upgrade.state is State.INSTALLING:
            return None
        if upgrade.cancelling:
            return State.CANCELLED, CANCEL, upgrade.cancelling
        if upgrade.ineligible and upgrade.state is not State.CONFIRMED:  # then it may need its drive no more
            return State.INELIGIBLE, "media", upgrade.reason
        if upgrade.refusals > REFUSALS_BORNE:
            return State.FAILED, "protocol", upgrade.reason or "the relay refused what the guest sent"
        return None

    def _may_install(self, upgrade: Upgrade) -> bool:
        """Whether it may be installed, now or by now: it was given leave, and did not ask again after that had run out."""
        asked_again = upgrade.state in (State.REQUESTED, State.HELD)
        return upgrade.permit > 0 and not (
            asked_again and upgrade.requested_at >= upgrade.expires_at + SKEW_S
        )

    def _stuck(self, upgrade: Upgrade, now: float) -> bool:
        """Whether the agent acknowledged the question why it does not go on, and still does not; one that waits for another upgrade
        has said why."""
        limit = self._limit(upgrade)
        return (
            not upgrade.busy_with and upgrade.answered_at >= limit and now >= upgrade.answered_at + ANSWER_S
        )

    def _limit(self, upgrade: Upgrade) -> float:
        """The Unix time from which it is late for the state that it is in."""
        option, _stage = LIMITED[upgrade.state]
        return upgrade.since + float(getattr(self.policy, option))

    def _question(self, upgrade: Upgrade, now: float) -> list[Effect]:
        """The start once more: at a hello, and after a claim if nothing was heard of the upgrade since; and again until it is answered."""
        if upgrade.state is State.PENDING or not (
            upgrade.greeted or upgrade.unknown or now >= upgrade.ask_from
        ):
            return []
        upgrade.greeted, upgrade.unknown, upgrade.ask_from = False, False, now + RESEND_MOST_S
        return [self._send_question(upgrade, now)]

    def _next_step(self, upgrade: Upgrade, now: float, judge: Judge, asked: bool) -> list[Effect]:
        state = upgrade.state
        if state is State.PENDING:
            return self._send_start(upgrade, now)
        if state is State.HELD and upgrade.waits:
            return self._await_turn(upgrade, now, asked)
        if state is State.HELD:
            return self._ask_again(upgrade, now, asked)
        if state is State.REQUESTED:
            return [self._judged(upgrade, now, judge)]
        if state is State.NOTIFIED and not upgrade.delivered:
            return self._send_notification(upgrade, now, asked)
        if state in LIMITED:
            return self._watch(upgrade, now, asked)
        self._wait_for_question(upgrade)
        return []

    def _watch(self, upgrade: Upgrade, now: float, asked: bool) -> list[Effect]:
        """Past the limit of its state the agent is asked until it answers."""
        limit = self._limit(upgrade)
        if now < limit:
            self._wait(upgrade, min(limit, upgrade.ask_from))
            return []
        if upgrade.answered_at >= limit and not upgrade.busy_with:
            self._wait(upgrade, upgrade.answered_at + ANSWER_S)
            return []
        if asked:
            self._wait(upgrade, now + self._next_try(upgrade))
            return []
        return self._repeated(upgrade, now, self._send_question)

    def _send_question(self, upgrade: Upgrade, now: float) -> Effect:
        return Send(self.record(self._start(), now, upgrade))

    def _cancel(self, upgrade: Upgrade, now: float) -> Effect:
        withdrawn = self._withdrawn(upgrade)
        reason = withdrawn[2] if withdrawn else f"the upgrade is over: {upgrade.state.value}"
        return Send(self.record(Cancel(reason=reason[:200], nonce=self._nonce), now, upgrade))

    def _repeated(
        self, upgrade: Upgrade, now: float, command: Callable[[Upgrade, float], Effect]
    ) -> list[Effect]:
        """A command that is sent until something comes of it, less and less often; at a hello at once."""
        if upgrade.greeted:
            upgrade.greeted, upgrade.due = False, 0.0
        if now < upgrade.due:
            self._wait(upgrade, upgrade.due)
            return []
        self._wait(upgrade, now + self._next_try(upgrade))
        return [command(upgrade, now)]

    def _wait_for_question(self, upgrade: Upgrade) -> None:
        if upgrade.ask_from < NEVER:
            self._wait(upgrade, upgrade.ask_from)

    def _send_start(self, upgrade: Upgrade, now: float) -> list[Effect]:
        is_elsewhere = self._is_elsewhere(upgrade)
        due = 0.0 if upgrade.greeted or is_elsewhere else max(upgrade.due, self._starts_from)
        if now < due:
            self._wait(upgrade, due)
            return []
        node = "" if upgrade.greeted or is_elsewhere or upgrade.tries else upgrade.node
        upgrade.greeted = False
        self._wait(upgrade, now + self._next_try(upgrade))
        return [Send(self.record(self._start(), now, upgrade), node)]

    def _ask_again(self, upgrade: Upgrade, now: float, asked: bool) -> list[Effect]:
        """A held VM gets its start again after a while; the agent answers it with fresh facts."""
        if not asked and now < upgrade.due:
            self._wait(upgrade, upgrade.due)
            return []
        first = asked or not upgrade.due
        self._wait(upgrade, now + REJUDGE_S)
        return [] if first else [self._send_question(upgrade, now)]

    def _await_turn(self, upgrade: Upgrade, now: float, asked: bool) -> list[Effect]:
        """Who waits for its turn is left alone. Who was called and does not answer in time loses its turn until it is heard."""
        if self._turns.queues(upgrade.vm):
            return []
        if asked:
            self._wait(upgrade, now + self._next_try(upgrade))
            return []
        if now >= upgrade.due:
            self._turns.pass_over(upgrade.vm)
        return self._repeated(upgrade, now, self._send_question)

    def _start(self) -> Start:
        opened = self.policy
        return Start(
            component=opened.component,
            target_version=opened.target_version,
            manifest_sha256=opened.manifest_sha256,
            media_path=opened.media_path,
            deadline=opened.deadline,
            consent=opened.consent,
            prompt=opened.prompt,
            nonce=self._nonce,
        )

    def _send_notification(self, upgrade: Upgrade, now: float, asked: bool) -> list[Effect]:
        is_elsewhere = self._is_elsewhere(upgrade)
        if now < upgrade.due and not is_elsewhere:
            self._wait(upgrade, upgrade.due)
            return []
        if (
            now >= upgrade.expires_at and self.policy.at_once
        ):  # nobody heard of it, and others wait for the place
            return self._repeated(upgrade, now, self._send_question)
        if now >= upgrade.expires_at:  # nobody heard of it: a fresh permit takes its place
            return [self._permit(upgrade, now)]
        node = "" if asked or is_elsewhere or upgrade.tries else upgrade.node
        self._wait(upgrade, now + self._next_try(upgrade))
        note = Notification(permit=upgrade.permit, expires_at=upgrade.expires_at, nonce=self._nonce)
        return [Send(self.record(note, now, upgrade), node)]

    @staticmethod
    def _is_elsewhere(upgrade: Upgrade) -> bool:
        """Whether its command went to a node where it is not: alone the next one finds its VM wherever it is, and need not wait. If that
        fails too, the one after it waits."""
        is_elsewhere, upgrade.elsewhere = upgrade.elsewhere and upgrade.tries <= 1, False
        return is_elsewhere

    def _next_try(self, upgrade: Upgrade) -> float:
        upgrade.tries += 1
        doublings = min(upgrade.tries - 1, 16)  # the power stays a number, however long a VM is silent
        return min(self.patience_s * 2.0**doublings, max(self.patience_s, RESEND_MOST_S))

    def _judged(self, upgrade: Upgrade, now: float, judge: Judge) -> Effect:
        facts: dict[str, Scalar] = dict(upgrade.facts or {})
        facts["installed_version"] = upgrade.installed_version
        reason = judge(facts)
        if not reason and self._turns.admits(upgrade.vm):
            return self._permit(upgrade, now)
        upgrade.pending_decision = True
        held = Held(nonce=self._nonce, reason=(reason or self._not_its_turn())[:300], waits=not reason)
        return Append(self.record(held, now, upgrade))

    def _not_its_turn(self) -> str:
        taken, most = self._turns.taken, self.policy.at_once
        return f"waits for its turn: {taken} VMs have leave to install, at most {most} at once"

    def _permit(self, upgrade: Upgrade, now: float) -> Effect:
        upgrade.pending_decision = True
        expires_at = min(now + self.policy.permit_s, self.policy.deadline)
        self._turns.take(upgrade.vm, expires_at)
        permit = Notified(nonce=self._nonce, permit=upgrade.permit + 1, expires_at=expires_at)
        return Append(self.record(permit, now, upgrade))
