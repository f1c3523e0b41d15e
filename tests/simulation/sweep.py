# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many runs at once, on all processors, and the table of what went wrong in them."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from simulation.kinds import Kind
from simulation.plan import draw
from simulation.world import simulate

LEAST_VMS = 3
LEAST_FAULTS = 3.0
LEAST_SHARE = 0.01
JUDGED_FROM = 1000
"""Runs from which on the shares and the average are judged."""

_CHUNK = 25


@dataclass(frozen=True)
class Failure:
    """A run that broke a promise."""

    seed: int
    text: str


@dataclass
class Tally:
    """What came of some runs.

    :ivar faults: how often each kind happened; ``runs_with``: in how many runs.
    """

    runs: int = 0
    steps: int = 0
    fewest_vms: int = 1000
    faults: Counter[Kind] = field(default_factory=Counter)
    runs_with: Counter[Kind] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the runs of ``other``."""
        self.runs += other.runs
        self.steps += other.steps
        self.fewest_vms = min(self.fewest_vms, other.fewest_vms)
        self.faults += other.faults
        self.runs_with += other.runs_with
        self.outcomes += other.outcomes
        self.failures += other.failures

    @property
    def average(self) -> float:
        """Faults of a run."""
        return self.faults.total() / self.runs

    def shortcomings(self) -> Iterator[str]:
        """Why these runs do not show enough, if they do not."""
        if self.fewest_vms < LEAST_VMS:
            yield f"a run had {self.fewest_vms} VMs, and should have {LEAST_VMS}"
        if self.runs < JUDGED_FROM:
            return
        if self.average < LEAST_FAULTS:
            yield f"{self.average:.2f} faults a run, and there should be {LEAST_FAULTS:.0f}"
        for kind in Kind:
            share = self.runs_with[kind] / self.runs
            if share < LEAST_SHARE:
                yield f"{kind.value}: in {share:.2%} of the runs, and should be in {LEAST_SHARE:.0%}"

    def table(self) -> str:
        """The kinds of faults with how often they happened and in which share of the runs."""
        rows = [f"{'fault':<40} {'times':>8} {'runs with it':>13}"]
        for kind in Kind:
            share = self.runs_with[kind] / self.runs
            rows.append(f"{kind.value:<40} {self.faults[kind]:>8} {share:>12.1%}")
        rows.append(f"{'all':<40} {self.faults.total():>8} {self.average:>7.2f} a run")
        words = ", ".join(f"{word} {count}" for word, count in self.outcomes.most_common())
        return "\n".join(rows) + f"\n\noutcomes: {words}"


def tally(seeds: Iterable[int]) -> Tally:
    """Run some seeds in this process."""
    total = Tally()
    for seed in seeds:
        plan = draw(seed)
        outcome = simulate(plan)
        total.runs += 1
        total.steps += outcome.steps
        total.fewest_vms = min(total.fewest_vms, len(plan.vms))
        total.faults += outcome.happened
        total.runs_with.update(outcome.happened.keys())
        total.outcomes += outcome.words
        if outcome.violation is not None:
            total.failures.append(Failure(seed, str(outcome.violation)))
    return total


def sweep(seeds: range) -> Tally:
    """Run all seeds on all processors, and show how far it is."""
    total = Tally()
    chunks = [seeds[start : start + _CHUNK] for start in range(0, len(seeds), _CHUNK)]
    progress = _Progress(len(seeds))
    with multiprocessing.Pool(len(os.sched_getaffinity(0))) as pool:
        for part in pool.imap_unordered(tally, chunks):
            total.add(part)
            progress.show(total, part.failures)
    total.failures.sort(key=lambda failure: failure.seed)
    return total


class _Progress:
    """A line on standard error, now and then."""

    INTERVAL_S = 5.0

    def __init__(self, count: int) -> None:
        self._count = count
        self._began = self._shown = time.monotonic()

    def show(self, total: Tally, failures: list[Failure]) -> None:
        """Say what failed, and how far it is unless that was said a moment ago."""
        for failure in failures:
            print(f"seed {failure.seed}: {failure.text}", file=sys.stderr, flush=True)
        now = time.monotonic()
        if now - self._shown < self.INTERVAL_S:
            return
        self._shown = now
        rate = total.runs / (now - self._began)
        text = f"{total.runs} of {self._count} runs, {rate:.0f} a second, {len(total.failures)} violations"
        print(text, file=sys.stderr, flush=True)
