# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fold a campaign's journal: what its records, taken in order, make of the campaign and its upgrades.

No I/O, no clock, no randomness. `campaign.py` builds on it and decides what to do next.
"""

from __future__ import annotations

from collections import Counter

from .ids import upgrade_id
from .records import (
    Claim,
    Closed,
    Control,
    Ended,
    Held,
    Notified,
    Opened,
    Row,
    Sealed,
    Selected,
    selection_digest,
)
from .states import FINAL, OUTCOME_ORDER, State
from .upgrade import NEVER, Upgrade
from .wire import Message

ATTEMPT = 1
"""The attempt of every upgrade so far: a VM is tried once per campaign."""

CANCEL = "cancel"
"""The action of a `Control` record that cancels, and the stage at which upgrades end by it."""

PROMPT_VMS = 5000
"""VMs to which commands are surely handed over, and acknowledged, within `PATIENCE_S`. To send again what only waits for its turn would double
the load at the moment when it is highest."""

PATIENCE_S = 20.0
"""Seconds that a new coordinator gives to what the one before it sent, before it sends the same again."""


class Fold:
    """One campaign as its journal tells it, and as the coordinator ``nonce`` sees it.

    :ivar upgrades: the upgrades by VM UUID, in the order of the selection.
    :ivar problem: why the campaign cannot go on; empty if it can.
    :ivar closing: the record that closed it.
    :ivar epoch: the highest that was claimed, by the coordinator with the nonce ``claimed_by`` on the host ``claimed_on``.
    :ivar strays: records of VMs or upgrades that are not of this campaign; they changed nothing.
    """

    def __init__(self, campaign_id: str, nonce: str = "") -> None:
        self.campaign_id = campaign_id
        self.opened: Opened | None = None
        self.opened_at = 0.0
        self.upgrades: dict[str, Upgrade] = {}
        self.sealed = False
        self.closing: Message | None = None
        self.problem = ""
        self.strays = 0
        self.epoch = 0
        self.claimed_by = ""
        self.claimed_on = ""
        self._nonce = nonce
        self._claimed_at = 0.0
        self._starts_from = 0.0
        self._open = 0
        self._changed: set[str] = set()

    def apply(self, message: Message) -> Upgrade | None:
        """Fold one record; return the upgrade it changed, if it changed one."""
        payload = message.payload
        if message.campaign_id != self.campaign_id:
            self.strays += 1
            if self.opened is None and isinstance(payload, Opened):
                self.problem = f"its journal is that of campaign {message.campaign_id}"
        elif isinstance(payload, Opened):
            self._apply_opened(payload, message.created_at)
        elif isinstance(payload, Selected):
            self._apply_selected(payload, message.created_at)
        elif isinstance(payload, Sealed):
            self._apply_sealed(payload)
        elif isinstance(payload, Claim):
            self._apply_claim(payload, message)
        elif isinstance(payload, Control):
            self._apply_control(payload)
        elif isinstance(payload, Closed):
            self._apply_closed(payload, message)
        else:
            return self._apply_to_upgrade(message)
        return None

    def _apply_opened(self, payload: Opened, at: float) -> None:
        if self.opened is None:
            self.opened, self.opened_at = payload, at

    def _apply_selected(self, payload: Selected, at: float) -> None:
        if self.sealed:
            return
        for columns in payload.vms:
            if len(columns) != len(Row._fields) or columns[0] in self.upgrades:
                continue
            row = Row(*columns)
            try:
                self.upgrades[row.vm] = Upgrade(row, upgrade_id(self.campaign_id, row.vm, ATTEMPT), at)
            except ValueError:
                self.strays += 1  # not a UUID; the seal will not match

    def _apply_sealed(self, payload: Sealed) -> None:
        if self.sealed:
            return
        if self.opened is None:
            self.problem = "the journal does not begin with the campaign's opening"
            return
        selection = ((one.vm, one.unfit) for one in self.upgrades.values())
        if payload.count != len(self.upgrades) or payload.digest != selection_digest(selection):
            listed = f"the journal's selection ({len(self.upgrades)} VMs)"
            self.problem = f"{listed} is not the one that was sealed ({payload.count} VMs)"
            return
        self.sealed = True
        self._open = len(self.upgrades)

    def _apply_claim(self, payload: Claim, message: Message) -> None:
        if message.epoch <= self.epoch:
            return
        before = min(self._claimed_at, message.created_at)  # by a clock that may have been ahead
        self._starts_from = before + self.patience_s if self.epoch else 0.0
        self.epoch, self.claimed_by, self._claimed_at = message.epoch, payload.nonce, message.created_at
        self.claimed_on = payload.host
        self._new_claim()
        for upgrade in self.upgrades.values():
            upgrade.pending_decision = upgrade.greeted = False
            upgrade.due, upgrade.tries = 0.0, 0
            is_asked = message.epoch > 1 and not upgrade.waits  # who waits is asked when its turn comes
            upgrade.ask_from = self._starts_from if is_asked else NEVER
        self._changed.update(self.upgrades)

    def _new_claim(self) -> None:
        """Somebody claimed the campaign: whatever a coordinator was about to do, it begins anew."""

    def _moved(self, upgrade: Upgrade) -> None:
        """A record moved the upgrade, or a decision about it was read back."""

    def _apply_control(self, payload: Control) -> None:
        if payload.action != CANCEL:
            self.strays += 1
            return
        for vm in payload.vms or self.upgrades:
            upgrade = self.upgrades.get(vm)
            if upgrade is not None and upgrade.cancel(payload.reason):
                self._changed.add(vm)

    def _apply_closed(self, payload: Closed, message: Message) -> None:
        if self.closing is None and self._in_force(message.epoch, payload.nonce):
            self.closing = message

    def _in_force(self, epoch: int, nonce: str) -> bool:
        return self.epoch > 0 and epoch == self.epoch and nonce == self.claimed_by

    def _apply_to_upgrade(self, message: Message) -> Upgrade | None:
        upgrade = self.upgrades.get(message.vm) if self.sealed else None
        if self.opened is None or upgrade is None or upgrade.upgrade_id != message.upgrade_id:
            self.strays += 1
            return None
        payload = message.payload
        decided = isinstance(payload, (Held, Notified, Ended))
        if isinstance(payload, (Held, Notified, Ended)):
            if not self._in_force(message.epoch, payload.nonce):
                self.strays += 1
                return None
            upgrade.pending_decision = False
            self._changed.add(upgrade.vm)
        before = upgrade.state
        changed = upgrade.apply(message, self.opened.target_version)
        if decided or upgrade.state is not before:
            self._moved(upgrade)
        if not changed:
            return None
        if upgrade.final and before not in FINAL:
            self._open -= 1
        self._changed.add(upgrade.vm)
        return upgrade

    @property
    def patience_s(self) -> float:
        """Seconds that a command gets until it is taken as lost: longer in a large campaign, where all may be on their way at once."""
        return PATIENCE_S * max(1.0, len(self.upgrades) / PROMPT_VMS)

    @property
    def policy(self) -> Opened:
        """What the campaign was opened with.

        :raises ValueError: it was not opened; a sealed campaign always was.
        """
        if self.opened is None:
            raise ValueError(f"campaign {self.campaign_id} was never opened")
        return self.opened

    @property
    def closed(self) -> bool:
        """Whether a coordinator recorded that every upgrade has its outcome."""
        return self.closing is not None

    @property
    def finished(self) -> bool:
        """Whether every selected VM has an outcome."""
        return self.sealed and self._open == 0

    @property
    def mine(self) -> bool:
        """Whether the claim of this coordinator is in force."""
        return bool(self._nonce) and self.claimed_by == self._nonce

    @property
    def failures(self) -> int:
        """How many upgrades ended in a way that the policy counts as a failure."""
        return sum(upgrade.state.value in self.policy.failures for upgrade in self.upgrades.values())

    def counts(self) -> dict[str, int]:
        """How many upgrades are in each state, outcomes first in the order of `OUTCOME_ORDER`."""
        found = Counter(upgrade.state for upgrade in self.upgrades.values())
        order = (*OUTCOME_ORDER, *(state for state in State if state not in OUTCOME_ORDER))
        return {state.value: found[state] for state in order if found[state]}
