# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a failing plan smaller: the fewest faults that still break the same promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from simulation.plan import Plan
from simulation.world import Outcome, simulate


def keep(plan: Plan, numbers: tuple[int, ...]) -> Plan:
    """``plan`` with only those of its faults, by their number in it."""
    return replace(plan, faults=tuple(plan.faults[number] for number in numbers))


def shrink(plan: Plan, run: Callable[[Plan], Outcome] = simulate) -> tuple[int, ...]:
    """The numbers of the faults that are needed: without any one of them the run breaks another promise, or none."""
    first = run(plan).violation
    if first is None:
        raise ValueError(f"seed {plan.seed} breaks no promise")
    kept = tuple(range(len(plan.faults)))
    tried = 0
    while tried < len(kept):
        without = kept[:tried] + kept[tried + 1 :]
        violation = run(keep(plan, without)).violation
        if violation is not None and violation.invariant == first.invariant:
            kept, tried = without, 0
        else:
            tried += 1
    return kept
