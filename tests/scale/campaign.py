# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``bench-campaign``: one campaign of thousands of VMs, from the start to the last outcome, beside the floor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.report import Bar, conclude, table

from lab.progress import Progress
from scale import floor, playbook, settling
from scale.broker_host import BrokerHost, broker_host
from scale.conduct import Case, Measured, measure
from scale.fleet import VMS_PER_NODE

ROUNDS = 5
"""Campaigns that are timed, each right between two floors: the machine's own pace may change from one moment to the next."""

BAR_VMS = 10_000
"""The size that the bars are for."""


@dataclass(frozen=True)
class Round:
    """A campaign, and the floors before and after it."""

    measured: Measured
    floors: Sequence[floor.Floor]

    @property
    def floor_s(self) -> float:
        """How long the messages alone took."""
        return sum(one.wall_s for one in self.floors) / 2

    @property
    def ratio(self) -> float:
        """How many times as long the campaign took."""
        return self.measured.wall_s / self.floor_s

    @property
    def cpu_ratio(self) -> float:
        """How many times as much processor time it took."""
        return self.measured.cpu_s / (sum(one.ends_cpu_s + one.broker_cpu_s for one in self.floors) / 2)

    def figures(self) -> dict[str, Any]:
        """All of it."""
        return {
            **self.measured.figures(),
            "floors": [asdict(one) for one in self.floors],
            "floor_s": self.floor_s,
            "ratio": self.ratio,
            "cpu_ratio": self.cpu_ratio,
        }


def bench(case: Case) -> None:
    """The benchmark itself.

    :raise LabError: this machine does not allow it.
    """
    progress = Progress()
    with broker_host() as broker:
        progress.say(f"broker: RabbitMQ on {broker.address}")
        rounds = [_round(progress, case, broker) for _number in range(ROUNDS)]
        told = measure(progress, replace(case, live="outcomes"), broker)
        packages = broker.versions()
    _report(sorted(rounds, key=lambda one: one.ratio), told, packages)


def _round(progress: Progress, case: Case, broker: BrokerHost) -> Round:
    floors: list[floor.Floor] = []

    def beside() -> None:
        floors.append(floor.tell(progress, case.vms, broker))

    return Round(measure(progress, case, broker, around=beside), floors)


def _report(rounds: list[Round], told: Measured, packages: dict[str, str]) -> None:
    """Print all figures of the round in the middle, and write those of all. ``told`` showed each VM's outcome when it came."""
    middle = rounds[len(rounds) // 2]
    case = middle.measured.case
    for one in _tables(middle.measured):
        print(f"\n{one}", flush=True)
    print(f"\n{settling.NOTE}\n")
    print(_callback_table([middle.measured, told]) + "\n")
    print(_rounds_table(rounds) + "\n")
    figures = {**_last_line(middle), "callback_share_outcomes": told.callback_share}
    bars = [
        Bar("campaign ÷ floor, wall", middle.ratio, 3.0),
        Bar("campaign, s", middle.measured.wall_s, 60),
        Bar("controller's CPU ms per VM, Ansible's start included", figures["controller_cpu_ms_per_vm"], 2),
        Bar("replay of the finished campaign, s", middle.measured.resume_s, 5),
        Bar("callback's share of the campaign's time", middle.measured.callback_share, 0.05),
        Bar("the same with live=outcomes, which is asked for", told.callback_share, 0.05),
    ]
    print(
        f"the bars are for {BAR_VMS} VMs, {VMS_PER_NODE} on a node; the figures are of {case.vms}, {case.per_node} on a node"
    )
    details = {"rounds": [one.figures() for one in rounds], "live_outcomes": told.figures()}
    conclude("campaign", figures, bars, details, packages)


def _last_line(middle: Round) -> dict[str, float]:
    measured = middle.measured
    return {
        "vms": measured.vms,
        "wall_s": measured.wall_s,
        "floor_s": middle.floor_s,
        "ratio": middle.ratio,
        "cpu_ratio": middle.cpu_ratio,
        "controller_cpu_ms_per_vm": measured.run.cpu_s * 1000 / measured.vms,
        "peak_mb": measured.run.coordinator_mb,
        "callback_share": measured.callback_share,
        "resume_s": measured.resume_s,
    }


def _rounds_table(rounds: list[Round]) -> str:
    rows = [
        [
            f"round with {name} ratio" if name else "",
            f"{one.measured.wall_s:.1f}",
            f"{one.floor_s:.1f}",
            f"{one.ratio:.2f}",
            f"{one.cpu_ratio:.2f}",
        ]
        for name, one in zip(("the least", "", "the middle", "", "the greatest"), rounds, strict=True)
    ]
    return table(["", "campaign s", "floor s", "ratio", "CPU ratio"], rows)


def _callback_table(campaigns: list[Measured]) -> str:
    rows = [
        [
            f"live={one.case.live}",
            str(one.run.lines),
            f"{one.run.callback_cpu_s:.2f}",
            f"{one.run.closing_s:.2f}",
            f"{one.callback_share:.1%}",
            f"{one.wall_s:.1f}",
        ]
        for one in campaigns
    ]
    return table(["callback", "lines printed", "thread CPU s", "closing s", "share", "campaign s"], rows)


def _tables(measured: Measured) -> Iterator[str]:
    run, account = measured.run, measured.account
    rows = [
        ("ramp-up: sessions and routes (not counted)", measured.ramp_up_s),
        ("upgrade_start", run.seconds(playbook.START, playbook.START)),
        ("upgrade_coordinate", run.seconds(playbook.COORDINATE, playbook.COORDINATE)),
        ("first record to last", account.closed_at - account.opened_at),
        ("the whole playbook", run.wall_s),
        ("replay of the finished campaign, VMs and relays stopped", measured.resume_s),
        ("the callback's closing table", run.closing_s),
    ]
    yield table(["", "s"], [[name, f"{seconds:.2f}"] for name, seconds in rows])
    yield _parts_table(measured)
    stages = [
        [name, f"{spread.p50_s:.2f}", f"{spread.p99_s:.2f}", str(spread.unknown)]
        for name, spread in account.stages.items()
    ]
    yield table(["stage", "p50 s", "p99 s", "VMs left out, begin unknown"], stages)
    tallies = [[name, str(tally.records), str(tally.bytes)] for name, tally in account.tallies.items()]
    sums = ["all records", str(account.records), str(account.bytes)]
    yield table(["journal", "records", "bytes"], [*tallies, sums])
    flows = [[name, str(flow.messages), str(flow.bytes)] for name, flow in measured.flows.items()]
    yield table(["who to whom", "messages", "bytes"], flows)
    counted = measured.counted
    acknowledged = counted.acknowledged_streams + counted.acknowledged_queues
    yield f"the broker confirmed {counted.confirmed} messages and had {acknowledged} acknowledged"


def _parts_table(measured: Measured) -> str:
    run, wall_s, processors = measured.run, measured.wall_s, os.cpu_count() or 1
    busy = measured.cpu_s / (processors * wall_s)
    rows = [
        ("all parts", measured.cpu_s, 0.0),
        ("controller (memory: ansible-playbook itself)", measured.controller_cpu_s, run.main_mb),
        ("  the coordinator", run.coordinator_cpu_s, run.coordinator_mb),
        ("  the callback's thread", run.callback_cpu_s, 0.0),
        *((part, usage.cpu_s, usage.peak_mb) for part, usage in measured.parts.items()),
    ]
    lines = [
        [name, f"{cpu_s:.1f}", f"{cpu_s / wall_s:.2f}", f"{peak_mb:.0f}" if peak_mb else ""]
        for name, cpu_s, peak_mb in rows
    ]
    heading = f"all parts used {busy:.0%} of {processors} processors for {wall_s:.1f} s"
    return f"{heading}\n" + table(["in these seconds", "CPU s", "processors", "most MB"], lines)
