# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the matrix of faults that is quick enough for every run of the tests; `make faults` tries all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from faults import stage
from faults.cells import Cell, Moment, Part, Side
from faults.matrix import try_all
from faults.scenarios import Verdict
from lab.progress import Progress

QUICK = (
    *(Cell(Part.AGENT, moment, Side.BEFORE_FSYNC) for moment in Moment),
    *(Cell(Part.AGENT, moment, Side.AFTER_SEND) for moment in Moment),
    *(Cell(Part.RELAY, moment, Side.AFTER_SEND) for moment in Moment),
    Cell(Part.CONTROLLER, Moment.START, Side.BEFORE_SEND),
    Cell(Part.CONTROLLER, Moment.REQUEST, Side.AFTER_SEND),
    Cell(Part.CONTROLLER, Moment.RESULT, Side.BEFORE_SEND),
    Cell(Part.BROKER, Moment.NOTIFICATION, Side.AFTER_SEND),
)


@pytest.fixture(scope="module")
def verdicts() -> Iterator[Mapping[Cell, Verdict]]:
    progress = Progress()
    with stage.stage(progress):
        yield {verdict.cell: verdict for verdict in try_all(QUICK, progress)}


@pytest.mark.parametrize("cell", QUICK, ids=str)
def test_the_upgrade_succeeds_by_one_installation_whatever_is_killed(
    cell: Cell, verdicts: Mapping[Cell, Verdict]
) -> None:
    verdict = verdicts[cell]
    counts = f"{verdict.begun} installations begun, {verdict.installs} finished"
    assert verdict.passed, f"{verdict.outcome}, {counts}. {verdict.problem}"
