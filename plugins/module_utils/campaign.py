# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The campaign core: fold the journal's records, decide what to do next. No I/O, no clock, no randomness.

`Campaign.apply` takes the journal's records in order. `Campaign.decide` says what the coordinator shall append to the journal
and send to the VMs; it looks at what changed and at what is due, so that its cost does not grow with the campaign. A command
is sent only after its decision was read back: it follows from the folded state, never from a decision just made.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from typing import Callable, Iterable, Union

from .ids import upgrade_id
from .records import (
    Claim,
    Closed,
    Ended,
    Held,
    Notified,
    Opened,
    Row,
    Sealed,
    Selected,
    chunks,
    selection_digest,
)
from .states import DEADLINE_OUTCOME, OUTCOME_ORDER, State
from .upgrade import REFUSALS_BORNE, Upgrade
from .wire import Facts, Message, Notification, Payload, Scalar, Start

ATTEMPT = 1
"""The attempt of every upgrade so far: a VM is tried once per campaign."""

RESEND_S = 20.0
"""Seconds until an unacknowledged command is sent again; doubled each time up to `RESEND_MOST_S`. Presence resends at once."""

RESEND_MOST_S = 300.0

REJUDGE_S = 20.0
"""Seconds after which a held VM is asked for fresh facts."""

Judge = Callable[[Facts], str]
"""The conditions: an empty text if the facts meet them, else the reason to hold."""


@dataclass(frozen=True)
class Append:
    """Effect: append the record to the campaign's journal."""

    message: Message


@dataclass(frozen=True)
class Send:
    """Effect: send the command to its VM."""

    message: Message


Effect = Union[Append, Send]


class Campaign:
    """One campaign as its journal tells it, and as the coordinator ``nonce`` sees it.

    :ivar upgrades: the upgrades by VM UUID, in the order of the selection.
    :ivar problem: why the campaign cannot go on; empty if it can.
    :ivar strays: records of VMs or upgrades that are not of this campaign; they changed nothing.
    """

    def __init__(self, campaign_id: str, nonce: str = "") -> None:
        self.campaign_id = campaign_id
        self.opened: Opened | None = None
        self.opened_at = 0.0
        self.upgrades: dict[str, Upgrade] = {}
        self.sealed = False
        self.closed = False
        self.problem = ""
        self.strays = 0
        self.epoch = 0
        self.claimed_by = ""
        self._nonce = nonce
        self._claimed_at = 0.0
        self._starts_from = 0.0
        self._sequence = 0
        self._open = 0
        self._overdue = False
        self._closing = False
        self._changed: set[str] = set()
        self._due: list[tuple[float, str]] = []

    # What the journal says

    def apply(self, message: Message) -> Upgrade | None:
        """Fold one record; return the upgrade it changed, if it changed one."""
        payload = message.payload
        if isinstance(payload, Opened):
            self._apply_opened(payload, message.created_at)
        elif isinstance(payload, Selected):
            self._apply_selected(payload, message.created_at)
        elif isinstance(payload, Sealed):
            self._apply_sealed(payload)
        elif isinstance(payload, Claim):
            self._apply_claim(payload, message)
        elif isinstance(payload, Closed):
            self.closed = self.closed or self._in_force(message.epoch, payload.nonce)
        else:
            return self._apply_to_upgrade(message)
        return None

    def _apply_opened(self, payload: Opened, at: float) -> None:
        if self.opened is None:
            self.opened, self.opened_at = payload, at

    def _apply_selected(self, payload: Selected, at: float) -> None:
        if self.sealed:
            return
        for row in payload.vms:
            if len(row) != 3 or row[0] in self.upgrades:
                continue
            vm, name, node = row
            try:
                self.upgrades[vm] = Upgrade(vm, name, node, upgrade_id(self.campaign_id, vm, ATTEMPT), at)
            except ValueError:
                self.strays += 1  # not a UUID; the seal will not match

    def _apply_sealed(self, payload: Sealed) -> None:
        if self.sealed:
            return
        if self.opened is None:
            self.problem = "the journal does not begin with the campaign's opening"
            return
        if payload.count != len(self.upgrades) or payload.digest != selection_digest(self.upgrades):
            listed = f"the journal's selection ({len(self.upgrades)} VMs)"
            self.problem = f"{listed} is not the one that was sealed ({payload.count} VMs)"
            return
        self.sealed = True
        self._open = len(self.upgrades)

    def _apply_claim(self, payload: Claim, message: Message) -> None:
        if message.epoch <= self.epoch:
            return
        self._starts_from = self._claimed_at + RESEND_S if self.epoch else 0.0
        self.epoch, self.claimed_by, self._claimed_at = message.epoch, payload.nonce, message.created_at
        self._overdue = self._closing = False
        for upgrade in self.upgrades.values():
            upgrade.pending_decision = False
            upgrade.due, upgrade.tries = 0.0, 0
        self._changed.update(self.upgrades)

    def _in_force(self, epoch: int, nonce: str) -> bool:
        return self.epoch > 0 and epoch == self.epoch and nonce == self.claimed_by

    def _apply_to_upgrade(self, message: Message) -> Upgrade | None:
        upgrade = self.upgrades.get(message.vm) if self.sealed else None
        if self.opened is None or upgrade is None or upgrade.upgrade_id != message.upgrade_id:
            self.strays += 1
            return None
        payload = message.payload
        if isinstance(payload, (Held, Notified, Ended)):
            if not self._in_force(message.epoch, payload.nonce):
                self.strays += 1
                return None
            upgrade.pending_decision = False
            self._changed.add(upgrade.vm)
        was_final = upgrade.final
        if not upgrade.apply(message, self.opened.target_version):
            return None
        if upgrade.final and not was_final:
            self._open -= 1
        self._changed.add(upgrade.vm)
        return upgrade

    @property
    def policy(self) -> Opened:
        """What the campaign was opened with.

        :raises ValueError: it was not opened; a sealed campaign always was.
        """
        if self.opened is None:
            raise ValueError(f"campaign {self.campaign_id} was never opened")
        return self.opened

    @property
    def finished(self) -> bool:
        """Whether every selected VM has an outcome."""
        return self.sealed and self._open == 0

    @property
    def mine(self) -> bool:
        """Whether the claim of this coordinator is in force."""
        return bool(self._nonce) and self.claimed_by == self._nonce

    def counts(self) -> dict[str, int]:
        """How many upgrades are in each state, outcomes first in the order of `OUTCOME_ORDER`."""
        found = Counter(upgrade.state for upgrade in self.upgrades.values())
        order = (*OUTCOME_ORDER, *(state for state in State if state not in OUTCOME_ORDER))
        return {state.value: found[state] for state in order if found[state]}

    # What the coordinator does

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
        seal = Sealed(count=len(vms), digest=selection_digest(vm for vm, _name, _node in vms))
        return [self.record(payload, now) for payload in (opened, *chunks(vms), seal)]

    def claim(self, host: str, now: float) -> Message:
        """The record with which this coordinator claims the epoch after the highest seen."""
        return self.record(Claim(nonce=self._nonce, host=host), now, epoch=self.epoch + 1)

    def end(self, vm: str, outcome: State, stage: str, reason: str, now: float) -> Message:
        """The record that ends the upgrade of ``vm`` by this coordinator's decision."""
        upgrade = self.upgrades[vm]
        ended = Ended(nonce=self._nonce, outcome=outcome.value, stage=stage, reason=reason[:300])
        upgrade.pending_decision = True
        return self.record(ended, now, upgrade)

    def present(self, vm: str) -> None:
        """The agent of ``vm`` said hello: an unacknowledged command is due now."""
        upgrade = self.upgrades.get(vm)
        if upgrade is not None and not upgrade.final:
            upgrade.due, upgrade.tries, upgrade.greeted = 0.0, 0, True
            self._changed.add(vm)

    def unroutable(self, vm: str) -> None:
        """No relay has ``vm`` running: kept as the reason, should it stay so."""
        upgrade = self.upgrades.get(vm)
        if upgrade is not None:
            upgrade.missed("shut_off: no relay has it running")

    def next_due(self) -> float | None:
        """The Unix time at which `decide` has something to look at, if nothing changes before."""
        if self.finished or self.opened is None:
            return None
        if self._changed:
            return 0.0
        if self._overdue:
            return None
        first = self._due[0][0] if self._due else self.opened.deadline
        return min(first, self.opened.deadline)

    def decide(self, now: float, judge: Judge) -> list[Effect]:
        """What to append and to send at Unix time ``now``; nothing unless this coordinator's claim is in force."""
        if not self.sealed or not self.mine or self.closed:
            return []
        effects: list[Effect] = []
        for vm in self._attention(now):
            upgrade = self.upgrades[vm]
            if not upgrade.final and not upgrade.pending_decision:
                effects.extend(self._decide_one(upgrade, now, judge))
        if self.finished and not self._closing:
            self._closing = True
            counts = tuple((state, str(count)) for state, count in self.counts().items())
            effects.append(Append(self.record(Closed(nonce=self._nonce, counts=counts), now)))
        return effects

    def _attention(self, now: float) -> Iterable[str]:
        """The VMs to look at: those that changed, those that are due, and once at the deadline all."""
        while self._due and self._due[0][0] <= now:
            due, vm = heapq.heappop(self._due)
            if self.upgrades[vm].due == due:
                self._changed.add(vm)
        changed, self._changed = self._changed, set()
        if now >= self.policy.deadline and not self._overdue:
            self._overdue = True
            return list(self.upgrades)
        return sorted(changed)

    def _wait(self, upgrade: Upgrade, until: float) -> None:
        upgrade.due = until
        heapq.heappush(self._due, (until, upgrade.vm))

    def _decide_one(self, upgrade: Upgrade, now: float, judge: Judge) -> list[Effect]:
        if now >= self.policy.deadline:
            return [self._at_deadline(upgrade, now)]
        if upgrade.state is State.INSTALLING:  # only its result, or the deadline, ends it
            return []
        if upgrade.ineligible:
            return [Append(self.end(upgrade.vm, State.INELIGIBLE, "media", upgrade.reason, now))]
        if upgrade.refusals > REFUSALS_BORNE:
            return [Append(self.end(upgrade.vm, State.FAILED, "protocol", upgrade.reason, now))]
        if upgrade.state is State.PENDING or (upgrade.state is State.STARTED and upgrade.greeted):
            return self._send_start(upgrade, now)
        if upgrade.state is State.HELD:
            return self._ask_again(upgrade, now)
        if upgrade.state is State.REQUESTED:
            return [self._judged(upgrade, now, judge)]
        if upgrade.state is State.NOTIFIED and not upgrade.delivered:
            return self._send_notification(upgrade, now)
        return []

    def _at_deadline(self, upgrade: Upgrade, now: float) -> Effect:
        outcome, stage = DEADLINE_OUTCOME[upgrade.state]
        if upgrade.state is State.NOTIFIED and not upgrade.delivered:
            outcome = State.UNREACHABLE
        return Append(
            self.end(upgrade.vm, outcome, stage, upgrade.reason or "the campaign's deadline passed", now)
        )

    def _send_start(self, upgrade: Upgrade, now: float) -> list[Effect]:
        due = 0.0 if upgrade.greeted else max(upgrade.due, self._starts_from)
        if now < due:
            self._wait(upgrade, due)
            return []
        self._wait(upgrade, now + self._next_try(upgrade))
        return [Send(self.record(self._start(), now, upgrade))]

    def _ask_again(self, upgrade: Upgrade, now: float) -> list[Effect]:
        """A held VM gets its start again after a while, or at its hello; the agent answers it with fresh facts."""
        if not upgrade.greeted and (upgrade.due == 0.0 or now < upgrade.due):
            self._wait(upgrade, upgrade.due or now + REJUDGE_S)
            return []
        upgrade.greeted = False
        self._wait(upgrade, now + REJUDGE_S)
        return [Send(self.record(self._start(), now, upgrade))]

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

    def _send_notification(self, upgrade: Upgrade, now: float) -> list[Effect]:
        if now < upgrade.due:
            self._wait(upgrade, upgrade.due)
            return []
        if now >= upgrade.expires_at:  # nobody heard of it: a fresh permit takes its place
            return [self._permit(upgrade, now)]
        self._wait(upgrade, now + self._next_try(upgrade))
        note = Notification(permit=upgrade.permit, expires_at=upgrade.expires_at, nonce=self._nonce)
        return [Send(self.record(note, now, upgrade))]

    def _next_try(self, upgrade: Upgrade) -> float:
        upgrade.greeted = False
        upgrade.tries += 1
        return min(RESEND_S * 2.0 ** (upgrade.tries - 1), RESEND_MOST_S)

    def _judged(self, upgrade: Upgrade, now: float, judge: Judge) -> Effect:
        facts: dict[str, Scalar] = dict(upgrade.facts or {})
        facts["installed_version"] = upgrade.installed_version
        reason = judge(facts)
        if not reason:
            return self._permit(upgrade, now)
        upgrade.pending_decision = True
        return Append(self.record(Held(nonce=self._nonce, reason=reason[:300]), now, upgrade))

    def _permit(self, upgrade: Upgrade, now: float) -> Effect:
        upgrade.pending_decision = True
        expires_at = min(now + self.policy.permit_s, self.policy.deadline)
        permit = Notified(nonce=self._nonce, permit=upgrade.permit + 1, expires_at=expires_at)
        return Append(self.record(permit, now, upgrade))
