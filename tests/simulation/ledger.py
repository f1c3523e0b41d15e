# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A reading of a campaign's journal that shares nothing with the campaign core but the wire format.

It is what the core is measured by: who holds the campaign, which decisions are in force, and which record ended an upgrade.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ansible_collections.isolift.vm.plugins.module_utils.records import (
    RECORDS,
    Claim,
    Closed,
    Control,
    Ended,
    Notified,
    Opened,
    Sealed,
    Selected,
)
from ansible_collections.isolift.vm.plugins.module_utils.wire import (
    Message,
    Refused,
    Result,
    Undeliverable,
    decode,
)

REPORTS = ("request", "confirmation", "progress", "result")

FINAL_WORDS = frozenset(
    [
        "succeeded",
        "up_to_date",
        "failed",
        "declined",
        "expired",
        "ineligible",
        "unreachable",
        "timed_out",
        "cancelled",
        "interrupted",
    ]
)

GUEST_WORDS = frozenset(["succeeded", "up_to_date", "failed", "declined", "cancelled", "interrupted"])


@lru_cache(maxsize=4096)
def decode_record(body: bytes) -> Message:
    """The record that a journal holds. The same bytes are read by several coordinators, and by the ledger."""
    return decode(body, RECORDS)


@dataclass(frozen=True)
class Outcome:
    """How an upgrade ended, by which record, and when, by the clock of whoever wrote that."""

    word: str
    offset: int
    by_coordinator: bool
    at: float
    stage: str = ""
    upgrade_id: str = ""
    is_untouched: bool = False
    """Whether it says that nothing was installed."""


@dataclass(frozen=True)
class Permit:
    """A permit that was journaled by a coordinator whose claim was in force."""

    offset: int
    epoch: int
    nonce: str
    number: int
    expires_at: float


class Ledger:
    """One campaign's journal."""

    def __init__(self) -> None:
        self.length = 0
        self.selected: list[str] = []
        self.is_sealed = False
        self.target_version = ""
        self.deadline = 0.0
        self.shortest_limit = 0.0  # of a state, in seconds
        self.at_once = 0
        self.closed_at: int | None = None
        self.closed_counts: dict[str, int] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.permits: dict[str, list[Permit]] = {}
        self.cancels: list[tuple[int, tuple[str, ...]]] = []
        self.doubts: dict[
            str, int
        ] = {}  # by VM, the first word of the relay that its upgrade may not go well
        self.claims: list[tuple[int, int, str]] = []
        self.reports: set[tuple[str, str]] = set()

    def append(self, offset: int, message: Message) -> None:
        """Read the next record."""
        self.length = offset + 1
        payload = message.payload
        if isinstance(payload, Opened):
            self.target_version, self.deadline = payload.target_version, payload.deadline
            self.at_once = payload.at_once
            self.shortest_limit = min(payload.request_s, payload.verify_s, payload.install_s)
        elif isinstance(payload, Selected):
            self.selected += [row[0] for row in payload.vms if row[0] not in self.selected]
        elif isinstance(payload, Sealed):
            is_whole = bool(self.target_version) and payload.count == len(self.selected)
            self.is_sealed = self.is_sealed or is_whole
        elif isinstance(payload, Claim):
            if message.epoch > self.epoch_at(offset)[0]:
                self.claims.append((offset, message.epoch, payload.nonce))
        elif isinstance(payload, Control):
            self.cancels.append((offset, payload.vms))
        elif isinstance(payload, (Refused, Undeliverable)):
            self.doubts.setdefault(message.vm, offset)
        elif payload.TYPE in REPORTS:
            self.reports.add((message.vm, message.message_id))
        if isinstance(payload, Notified) and self._is_in_force(message.epoch, payload.nonce):
            permit = Permit(offset, message.epoch, payload.nonce, payload.permit, payload.expires_at)
            self.permits.setdefault(message.vm, []).append(permit)
        elif isinstance(payload, Ended) and self._is_in_force(message.epoch, payload.nonce):
            if payload.outcome in FINAL_WORDS:
                is_untouched = message.vm not in self.permits or _is_denial(payload)
                ending = Outcome(
                    payload.outcome,
                    offset,
                    True,
                    message.created_at,
                    payload.stage,
                    message.upgrade_id,
                    is_untouched,
                )
                self._end(message.vm, ending)
        elif isinstance(payload, Result):
            self._end(message.vm, Outcome(self._judged(payload), offset, False, message.created_at))
        elif isinstance(payload, Closed):
            self._close(offset, message, payload)

    def epoch_at(self, offset: int) -> tuple[int, str]:
        """(epoch, nonce) of the claim in force for a reader that read up to ``offset``."""
        epoch, nonce = 0, ""
        for at, claimed, by in self.claims:
            if at > offset:
                break
            epoch, nonce = claimed, by
        return epoch, nonce

    def outcome(self, vm: str, read: int) -> Outcome | None:
        """The outcome of the VM's upgrade as of ``read``."""
        outcome = self.outcomes.get(vm)
        return outcome if outcome is not None and outcome.offset <= read else None

    def live_permits(self, now: float) -> int:
        """How many upgrades without an outcome have a permit that is still good by the clock that shows ``now``."""
        lasts = (permits[-1].expires_at for vm, permits in self.permits.items() if vm not in self.outcomes)
        return sum(expires_at > now for expires_at in lasts)

    def counts(self) -> dict[str, int]:
        """How many upgrades ended how."""
        counts: dict[str, int] = {}
        for outcome in self.outcomes.values():
            counts[outcome.word] = counts.get(outcome.word, 0) + 1
        return counts

    def _close(self, offset: int, message: Message, closed: Closed) -> None:
        if self.closed_at is None and self._is_in_force(message.epoch, closed.nonce):
            self.closed_at = offset
            self.closed_counts = {word: int(count) for word, count in closed.counts}

    def _is_in_force(self, epoch: int, nonce: str) -> bool:
        return bool(self.claims) and self.claims[-1][1:] == (epoch, nonce)

    def _end(self, vm: str, outcome: Outcome) -> None:
        if vm in self.selected:
            self.outcomes.setdefault(vm, outcome)

    def _judged(self, result: Result) -> str:
        reached = result.version_after == self.target_version
        if result.outcome not in GUEST_WORDS:
            return "failed"
        if result.outcome in ("succeeded", "up_to_date") and not reached:
            return "failed"
        return result.outcome


def _is_denial(ended: Ended) -> bool:
    """Whether the outcome, by docs/upgrade.md, means "not installed" even of an upgrade that had a permit."""
    return ended.outcome in ("cancelled", "ineligible") or ended.stage == "protocol"
