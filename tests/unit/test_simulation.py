# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole under simulated faults: a few hundred runs here, and as many as one likes with ``make simulate``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from simulation.__main__ import main, many
from simulation.ground import Violation
from simulation.kinds import Fault, Kind
from simulation.mutations import MUTATIONS
from simulation.plan import Plan, draw
from simulation.shrink import keep, shrink
from simulation.sweep import Tally, tally
from simulation.world import Outcome, simulate

SEEDS = range(300)


@pytest.fixture(scope="module")
def runs() -> Tally:
    return tally(SEEDS)


def test_no_run_breaks_a_promise(runs: Tally) -> None:
    assert not runs.failures, "replay it with: make simulate SEED=<seed>"


def test_the_runs_have_three_vms_or_more_and_three_faults_on_average(runs: Tally) -> None:
    assert runs.fewest_vms >= 3
    assert runs.average >= 3.0


def test_every_kind_of_fault_happens(runs: Tally) -> None:
    assert set(runs.faults) == set(Kind)


def undisturbed(seed: int) -> Plan:
    """The plan of a seed without its faults, and with time enough."""
    plan = keep(draw(seed), ())
    return replace(plan, campaigns=tuple(replace(one, deadline_s=2000.0) for one in plan.campaigns))


def test_where_nothing_goes_wrong_every_upgrade_succeeds() -> None:
    for seed in range(20):
        outcome = simulate(undisturbed(seed))
        assert outcome.violation is None
        assert set(outcome.words) <= {"succeeded", "up_to_date"}, f"seed {seed}: {outcome.words}"


def test_a_campaign_whose_coordinator_is_killed_ends_as_one_whose_coordinator_is_not() -> None:
    habits = (Fault(Kind.USER_DECLINES, target=0), Fault(Kind.INSTALLER_FAILS, target=1))
    for seed in range(3):
        plan = undisturbed(seed)
        asking = tuple(replace(one, consent="ask") for one in plan.campaigns)
        whole = replace(plan, campaigns=asking, faults=habits)
        expected = endings(whole)
        assert {"declined", "failed", "succeeded"} <= set(expected.values())
        for number in range(1, 31):
            for kind, part in (
                (Kind.COORDINATOR_CRASH, "coordinator 0"),
                (Kind.OPENING_CRASH, "opener 0"),
            ):
                killed = replace(whole, faults=(*habits, Fault(kind, part, part, number, seconds=2.0)))
                assert endings(killed) == expected, f"seed {seed}, {part} killed at its point {number}"


def endings(plan: Plan) -> dict[str, str]:
    """How each VM's upgrade ended; one that was begun anew ended once."""
    outcome = simulate(plan)
    assert outcome.violation is None
    return {vm: word for (_campaign, vm), word in outcome.endings.items()}


def test_the_same_seed_gives_the_same_run() -> None:
    for seed in range(5):
        first, second = (simulate(draw(seed), traced=True) for _time in range(2))
        assert first.trace == second.trace


def test_the_same_seed_gives_the_same_run_in_another_process() -> None:
    here = simulate(draw(7), traced=True)
    command = [sys.executable, "-m", "simulation", "--seed", "7"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "12345"}
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert f"trace {here.digest()[:16]}" in there.stdout


def test_a_failing_plan_is_shrunk_to_the_faults_that_matter() -> None:
    plan = replace(draw(0), faults=tuple(Fault(kind) for kind in list(Kind)[:8]))

    def run(tried: Plan) -> Outcome:
        kinds = {fault.kind for fault in tried.faults}
        fails = {plan.faults[2].kind, plan.faults[5].kind} <= kinds
        return replace(simulate(keep(plan, ())), violation=Violation("test", "") if fails else None)

    assert shrink(plan, run) == (2, 5)


def test_a_failure_is_told_with_its_seed_and_replayed_from_the_faults_that_matter(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, (seed, *_others), invariant = next(row for row in BROKEN if row[0] == "double install on restart")
    with MUTATIONS[name]():
        status = many(range(seed, seed + 1))
        told = capsys.readouterr().out
        assert status == 1
        assert f"seed {seed}: {invariant}: " in told
        assert told.splitlines()[-1].startswith("SIMULATE seeds=1 violations=1 ")
        replay = re.search(rf"^replay it: make simulate SEED={seed} KEEP=([\d,]+)$", told, re.MULTILINE)
        assert replay is not None
        monkeypatch.setattr("sys.argv", ["simulate", "--seed", str(seed), "--keep", replay[1]])
        assert main() == 1
        assert f"violation: {invariant}: " in capsys.readouterr().out
        kept = tuple(map(int, replay[1].split(",")))
        for number in kept:
            without = simulate(keep(draw(seed), tuple(other for other in kept if other != number))).violation
            assert without is None or without.invariant != invariant


BROKEN = [
    ("ack before journal", (3, 4, 8), "no report lost"),
    ("epoch check removed", (10, 16, 42, 161), "no lower epoch obeyed"),
    ("command before read-back", (0, 1, 2), "decided before sent"),
    ("double install on restart", (68, 78), "one install"),
    ("permit without end", (26, 28, 29), "permits end"),
    ("result before journal", (1334, 1718, 7082), "one install"),
    ("refused for good", (3, 17, 25), "no report lost"),
    ("foreign disc replaced", (11, 26, 45), "discs"),
    ("disc left in the drive", (0, 1, 2), "discs"),
    ("clock of the guest", (1985, 2261, 2336, 2403), "permits end"),
    ("journal without fsync", (119, 177, 207, 287), "one install"),
    ("cap ignored", (7, 11, 13), "caps hold"),
    ("held for good", (6, 10, 66), "campaigns go on"),
    ("seal not awaited", (7, 28, 57), "decided before sent"),
    ("cancelled on the wish", (187, 188, 749, 772), "cancelled is cancelled"),
]
"""(mutation, seeds that found it, the promise that it breaks). A change of the cores lets runs take another course, so that a seed may
find it no more; one has to. ``make simulate MUTATION=…`` names others."""


def test_every_mutation_is_tried() -> None:
    assert {name for name, _seeds, _invariant in BROKEN} == set(MUTATIONS)


@pytest.mark.parametrize(("name", "seeds", "invariant"), BROKEN)
def test_a_broken_core_is_caught(name: str, seeds: tuple[int, ...], invariant: str) -> None:
    found = []
    for seed in seeds:
        plan = draw(seed)
        assert simulate(plan).violation is None
        with MUTATIONS[name]():
            violation = simulate(plan).violation
        if violation is not None:
            found.append(violation.invariant)
    assert invariant in found
