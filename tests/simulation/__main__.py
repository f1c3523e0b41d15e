# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m simulation``: many seeds and a table, or one seed and its trace."""

from __future__ import annotations

import argparse
import sys
import time

from simulation.mutations import MUTATIONS
from simulation.plan import Plan, draw
from simulation.shrink import keep, shrink
from simulation.sweep import sweep
from simulation.world import simulate

SHRUNK_MOST = 3
"""Failing runs that are shrunk after a sweep."""


def main() -> int:
    """Do what the command line says; the exit status."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="run this one and print its trace")
    parser.add_argument("--keep", help="of its faults, only those with these numbers: 0,3,4 (or none)")
    parser.add_argument(
        "--mutation", choices=MUTATIONS, help="break the cores so, and print the seeds that show it"
    )
    options = parser.parse_args()
    if options.mutation is not None:
        return search(options.mutation, range(options.first, options.first + options.seeds))
    if options.seed is None:
        return many(range(options.first, options.first + options.seeds))
    plan = draw(options.seed)
    if options.keep is not None:
        plan = keep(plan, tuple(int(number) for number in options.keep.split(",") if number != "none"))
    return one(plan, is_whole=options.keep is None)


def one(plan: Plan, is_whole: bool) -> int:
    """Run one plan, with its trace."""
    outcome = simulate(plan, traced=True)
    print("\n".join(outcome.trace))
    print(f"\nseed {plan.seed}: {len(plan.vms)} VMs on {plan.nodes} nodes")
    for number, fault in enumerate(plan.faults):
        print(f"  {number}  {fault}")
    print(f"outcomes: {dict(outcome.words)}; {outcome.steps} steps; trace {outcome.digest()[:16]}")
    if outcome.violation is None:
        return 0
    print(f"violation: {outcome.violation}")
    if is_whole:
        explain(plan)
    return 1


def search(mutation: str, seeds: range) -> int:
    """Print the seeds whose runs break a promise only with the mutation."""
    for seed in seeds:
        plan = draw(seed)
        with MUTATIONS[mutation]():
            violation = simulate(plan).violation
        if violation is not None and simulate(plan).violation is None:
            print(f"{mutation}: seed {seed}: {violation}")
    return 0


def many(seeds: range) -> int:
    """Run many seeds, and shrink the first of those that fail."""
    began = time.monotonic()
    total = sweep(seeds)
    rate = total.runs / (time.monotonic() - began)
    print(total.table())
    for failure in total.failures:
        print(f"seed {failure.seed}: {failure.text}")
    for failure in total.failures[:SHRUNK_MOST]:
        explain(draw(failure.seed))
    shortcomings = list(total.shortcomings())
    for shortcoming in shortcomings:
        print(shortcoming)
    print(f"SIMULATE seeds={total.runs} violations={len(total.failures)} runs_per_s={rate:.0f}")
    return 1 if total.failures or shortcomings else 0


def explain(plan: Plan) -> None:
    """Print the smallest plan that breaks the same promise, and how to see it."""
    numbers = shrink(plan)
    text = ",".join(map(str, numbers)) or "none"
    print(f"\nseed {plan.seed}, shrunk to {len(numbers)} of {len(plan.faults)} faults:")
    for number in numbers:
        print(f"  {number}  {plan.faults[number]}")
    print(f"replay it: make simulate SEED={plan.seed} KEEP={text}\n")


if __name__ == "__main__":
    sys.exit(main())
