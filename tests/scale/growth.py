# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``bench-campaign GROWTH=1``: the same campaign at several sizes, each beside the floor of its size.

The middle size comes before and after the largest one, because the machine's own pace may change meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from bench.report import Bar, conclude, table

from lab.progress import Progress
from scale import floor
from scale.broker_host import broker_host
from scale.conduct import Case, Measured, measure

SMALL, MIDDLE, LARGE = 1000, 10_000, 50_000
SERIES = (SMALL, MIDDLE, LARGE, MIDDLE)


@dataclass(frozen=True)
class Step:
    """A campaign, and how long its messages alone took before it."""

    measured: Measured
    floor_s: float

    @property
    def ratio(self) -> float:
        """How many times as long as the floor the campaign took."""
        return self.measured.wall_s / self.floor_s

    @property
    def kb_per_vm(self) -> float:
        """The coordinator's memory, Python and Ansible included."""
        return self.measured.run.coordinator_mb * 1000 / self.measured.vms


@dataclass(frozen=True)
class Size:
    """All campaigns of one size, on average."""

    wall_s: float
    floor_s: float
    ratio: float
    coordinator_mb: float


def bench(per_node: int) -> None:
    """The benchmark itself.

    :raise LabError: this machine does not allow it.
    """
    progress = Progress()
    steps = []
    with broker_host() as broker:
        for vms in SERIES:
            floor_s = floor.tell(progress, vms, broker).wall_s
            steps.append(Step(measure(progress, Case(vms, per_node), broker), floor_s))
        packages = broker.versions()
    print(f"\n{_table(steps)}\n")
    figures = _last_line(steps)
    bars = [
        Bar(f"time({LARGE}) ÷ time({MIDDLE})", figures["time_ratio"], 5.5),
        Bar("coordinator's memory, KB per VM more", figures["coordinator_kb_per_vm_more"], 8),
        Bar(f"coordinator's memory ÷ {LARGE} VMs, KB", figures["coordinator_kb_per_vm"], 8),
    ]
    details = {"campaigns": [{**one.measured.figures(), "floor_s": one.floor_s} for one in steps]}
    conclude("growth", figures, bars, details, packages)


def _last_line(steps: list[Step]) -> dict[str, float]:
    small, middle, large = (_size(steps, vms) for vms in (SMALL, MIDDLE, LARGE))
    return {
        "vms": LARGE,
        "time_ratio": large.wall_s / middle.wall_s,
        "floor_time_ratio": large.floor_s / middle.floor_s,
        "ratio_growth": large.ratio / middle.ratio,
        "time_ratio_first": middle.wall_s / small.wall_s,
        "coordinator_kb_per_vm_more": (large.coordinator_mb - middle.coordinator_mb)
        * 1000
        / (LARGE - MIDDLE),
        "coordinator_kb_per_vm": large.coordinator_mb * 1000 / LARGE,
    }


def _size(steps: list[Step], vms: int) -> Size:
    of_size = [one for one in steps if one.measured.vms == vms]
    return Size(
        fmean(one.measured.wall_s for one in of_size),
        fmean(one.floor_s for one in of_size),
        fmean(one.ratio for one in of_size),
        fmean(one.measured.run.coordinator_mb for one in of_size),
    )


def _table(steps: list[Step]) -> str:
    rows = [
        [
            str(one.measured.vms),
            f"{one.measured.wall_s:.1f}",
            f"{one.floor_s:.1f}",
            f"{one.ratio:.2f}",
            f"{one.measured.run.coordinator_mb:.0f}",
            f"{one.kb_per_vm:.1f}",
        ]
        for one in steps
    ]
    return table(["VMs, in this order", "s", "floor s", "ratio", "coordinator MB", "KB per VM"], rows)
