# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``bench-campaign GROWTH=1``: the same campaign at several sizes."""

from __future__ import annotations

from bench.report import Bar, conclude, table

from lab.progress import Progress
from scale.broker_host import broker_host
from scale.conduct import Case, measure

SIZES = (1000, 10_000, 50_000)


def bench(per_node: int) -> None:
    """The benchmark itself.

    :raise LabError: this machine does not allow it.
    """
    progress = Progress()
    with broker_host() as broker:
        series = [measure(progress, Case(vms, per_node), broker) for vms in SIZES]
        packages = broker.versions()
    small, middle, large = series
    kilobytes = (large.run.coordinator_mb - middle.run.coordinator_mb) * 1000 / (large.vms - middle.vms)
    rows = [[str(one.vms), f"{one.wall_s:.1f}", f"{one.run.coordinator_mb:.0f}"] for one in series]
    print("\n" + table(["VMs", "s", "coordinator MB"], rows) + "\n")
    figures = {
        "vms": large.vms,
        "time_ratio": large.wall_s / middle.wall_s,
        "time_ratio_first": middle.wall_s / small.wall_s,
        "coordinator_kb_per_vm": kilobytes,
    }
    bars = [
        Bar("time(50,000) ÷ time(10,000)", figures["time_ratio"], 5.5),
        Bar("coordinator's memory, KB per VM from 10,000 to 50,000", kilobytes, 8),
    ]
    conclude("growth", figures, bars, {"campaigns": [one.figures() for one in series]}, packages)
