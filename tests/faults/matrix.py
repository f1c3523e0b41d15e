# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole matrix: every cell tried in the lab, shown as a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from lab import commands, plays
from lab.errors import LabError
from lab.interrupts import end_cleanly
from lab.progress import Progress

from . import scenarios, stage
from .cells import ALL, Cell, Part
from .scenarios import Seats, Verdict, seated

SEATS = 10
"""Cells that are tried at one time: as many as there are guests."""

_SCENARIOS: dict[Part, Callable[[Seats, Progress], list[Verdict]]] = {
    Part.CONTROLLER: scenarios.controllers,
    Part.RELAY: scenarios.relays,
    Part.AGENT: scenarios.agents,
    Part.BROKER: scenarios.brokers,
}

_ROW = "{:<10}  {:<12}  {:<16}  {:<8}  {:<12}  {:>5}  {:>8}  {}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring up the lab, try the cells, take the lab down if it was not up; 0 only if every cell passed."""
    parser = argparse.ArgumentParser(prog="faults.py", description="Kill parts of the lab in mid-upgrade.")
    parser.add_argument("parts", nargs="*", metavar="part", choices=[[], *(part.value for part in Part)])
    wanted = parser.parse_args(arguments).parts or [part.value for part in Part]
    end_cleanly()
    progress = Progress()
    was_up = commands.nodes_are_up()
    try:
        commands.up(progress, nodes_only=True)
        plays.deploy(progress)
        with stage.stage(progress):
            verdicts = try_all([cell for cell in ALL if cell.part.value in wanted], progress)
    except LabError as error:
        print(f"faults: {error}", file=sys.stderr)
        return 1
    finally:
        if not was_up:
            commands.down(progress)
    print("\n".join(table(verdicts)), flush=True)
    return 0 if all(verdict.passed for verdict in verdicts) else 1


def try_all(cells: Sequence[Cell], progress: Progress) -> list[Verdict]:
    """Try ``cells``, those of one part together. Something that goes wrong with one batch is no end of the others."""
    verdicts: list[Verdict] = []
    for part in Part:
        own = [cell for cell in cells if cell.part is part]
        for first in range(0, len(own), SEATS):
            seats = seated(own[first : first + SEATS])
            progress.say(f"{part.value}: {len(seats)} cells")
            try:
                verdicts += _SCENARIOS[part](seats, progress)
            except LabError as error:
                progress.say(f"{part.value}: {error}")
                verdicts += [Verdict(cell, guest, "unknown", -1, -1, str(error)) for cell, guest in seats]
                stage.begin_afresh(progress)
    return verdicts


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """The verdicts as lines, the sum last."""
    lines = [_ROW.format("KILLED", "AT", "WHEN", "VM", "OUTCOME", "BEGUN", "INSTALLS", "").rstrip()]
    for verdict in verdicts:
        cell = verdict.cell
        said = "" if verdict.passed else "FAILED " + verdict.problem.partition("\n")[0]
        row = (cell.part.value, cell.moment.value, cell.side.value, verdict.guest.name)
        lines.append(_ROW.format(*row, verdict.outcome, verdict.begun, verdict.installs, said).rstrip())
    passed = sum(verdict.passed for verdict in verdicts)
    return [*lines, f"FAULTS cells={len(verdicts)} passed={passed}"]
