# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a finished campaign's journal says about how long everything took, and how much was written. No I/O."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ansible_collections.isolift.vm.plugins.module_utils.records import RECORDS, Closed
from ansible_collections.isolift.vm.plugins.module_utils.wire import Delivered, Message, Progress, decode

STAGES = (
    ("start handed over", "claim", "delivered start"),
    ("request", "delivered start", "request"),
    ("decision", "request", "notified"),
    ("permit handed over", "notified", "delivered notification"),
    ("confirmation", "delivered notification", "confirmation"),
    ("installation", "confirmation", "result"),
    ("all of it", "claim", "result"),
)
"""A stage's name, and the records between which it is."""


@dataclass(frozen=True)
class Spread:
    """Seconds within which half, and 99 of 100, of the VMs were through with a stage.

    ``unknown`` is how many more came to its end, of which the journal does not say when it began.
    """

    p50_s: float
    p99_s: float
    unknown: int = 0


@dataclass
class Tally:
    """How often a type of record was written, and its bytes."""

    records: int = 0
    bytes: int = 0


@dataclass
class Account:
    """The whole journal. ``outcomes`` counts the results by outcome."""

    opened_at: float = 0.0
    closed_at: float = 0.0
    stages: dict[str, Spread] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """How many records there are."""
        return sum(tally.records for tally in self.tallies.values())

    @property
    def bytes(self) -> int:
        """The bytes of all records."""
        return sum(tally.bytes for tally in self.tallies.values())


def account(bodies: Iterable[bytes]) -> Account:
    """Read a journal.

    :raises WireError: something in it is no record.
    """
    found = Account()
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    times: defaultdict[str, dict[str, float]] = defaultdict(dict)
    outcomes: Counter[str] = Counter()
    for body in bodies:
        message = decode(body, RECORDS)
        name = _name(message)
        tallies[name].records += 1
        tallies[name].bytes += len(body)
        times[name].setdefault(message.vm, message.created_at)
        if isinstance(message.payload, Closed):
            found.closed_at = message.created_at
            outcomes.update({outcome: int(count) for outcome, count in message.payload.counts})
    found.opened_at = times["opened"][""]
    found.outcomes = dict(outcomes)
    found.tallies = dict(tallies)
    found.stages = {name: _stage(times[begin], times[end]) for name, begin, end in STAGES}
    return found


def _stage(begins: dict[str, float], ends: dict[str, float]) -> Spread:
    """How long it took; by VM, and what has no VM began for all at once."""
    known = [vm for vm in ends if vm in begins or "" in begins]
    durations = [ends[vm] - begins.get(vm, begins.get("", 0.0)) for vm in known]
    return spread(durations, unknown=len(ends) - len(known))


def _name(message: Message) -> str:
    payload = message.payload
    if isinstance(payload, Delivered):
        return f"delivered {payload.command}"
    if isinstance(payload, Progress):
        return f"progress {payload.stage}"
    return payload.TYPE


def spread(durations: Sequence[float], unknown: int = 0) -> Spread:
    """The median and the 99th percentile (nearest rank).

    :raises ValueError: there are no durations.
    """
    if not durations:
        raise ValueError("no VM went through the stage")
    ordered = sorted(durations)
    p50_s, p99_s = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99))
    return Spread(p50_s, p99_s, unknown)
