# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``bench-campaign``: one campaign of thousands of VMs, from the start to the last outcome, beside the floor."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.isolift.vm.plugins.module_utils import ids, topology
from ansible_collections.isolift.vm.plugins.module_utils.broker import Broker
from lab import network
from lab.progress import Progress
from scale import floor, journal, playbook, results, settling
from scale.broker_host import CONTROLLER, BrokerHost, broker_host
from scale.emulator import Emulator, selection
from scale.meter import Meter, Usage

GROWTH = (1000, 10_000, 50_000)
ROUNDS = 3
"""Campaigns that are timed, each between two floors: the machine's own pace may change from one minute to the next."""

_DIGEST = "a" * 64


@dataclass(frozen=True)
class Measured:
    """One campaign. ``wire_bytes`` are those between the broker and everybody else, both ways."""

    vms: int
    ramp_up_s: float
    run: playbook.Run
    account: journal.Account
    relays: Usage
    agents: Usage
    broker: Usage
    wire_bytes: int
    resume: playbook.Run

    @property
    def wall_s(self) -> float:
        """From the beginning of upgrade_start to the end of upgrade_coordinate."""
        return self.run.seconds(playbook.START, playbook.COORDINATE)

    @property
    def cpu_s(self) -> float:
        """Processor time of all parts."""
        return self.run.cpu_s + self.relays.cpu_s + self.agents.cpu_s + self.broker.cpu_s

    @property
    def callback_share(self) -> float:
        """The callback's part of the campaign's time."""
        return (self.run.callback_cpu_s + self.run.closing_s) / self.wall_s


@dataclass(frozen=True)
class Round:
    """A campaign, and the floors before and after it."""

    measured: Measured
    floors: tuple[floor.Floor, floor.Floor]

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


def bench(vms: int) -> None:
    """The benchmark itself.

    :raise LabError: this machine does not allow it.
    """
    progress = Progress()
    rounds = []
    with broker_host() as broker:
        progress.say(f"broker: RabbitMQ on {broker.address}")
        before = _floor(progress, vms, broker)
        for _round in range(ROUNDS):
            measured = measure(progress, vms, broker)
            after = _floor(progress, vms, broker)
            rounds.append(Round(measured, (before, after)))
            before = after
    report(sorted(rounds, key=lambda one: one.ratio))


def growth() -> None:
    """The same campaign at several sizes.

    :raise LabError: this machine does not allow it.
    """
    progress = Progress()
    with broker_host() as broker:
        series = [measure(progress, vms, broker) for vms in GROWTH]
    small, middle, large = series
    kilobytes = (large.run.coordinator_mb - middle.run.coordinator_mb) * 1000 / (large.vms - middle.vms)
    for one in series:
        results.show(
            [(f"{one.vms} VMs: seconds, coordinator MB", f"{one.wall_s:.1f}, {one.run.coordinator_mb:.0f}")]
        )
    results.save("growth", {"campaigns": [_figures(one) for one in series]})
    results.close(
        "growth",
        vms=large.vms,
        time_ratio=large.wall_s / middle.wall_s,
        time_ratio_first=middle.wall_s / small.wall_s,
        coordinator_kb_per_vm=kilobytes,
    )


def _floor(progress: Progress, vms: int, broker: BrokerHost) -> floor.Floor:
    found = floor.measure(vms, broker)
    progress.say(f"floor: the messages alone took {found.wall_s:.1f} s")
    return found


def measure(
    progress: Progress, vms: int, broker: BrokerHost, directories: Mapping[str, Path] | None = None
) -> Measured:
    """Conduct one campaign of ``vms`` emulated VMs, and replay it.

    :param directories: by VM name, if their components are real (see targets.py).
    :raise AssertionError: not every VM was upgraded exactly once.
    """
    options = broker.options(CONTROLLER)
    campaign = ids.campaign_id(time.time_ns() // 1_000_000, os.urandom(10))
    with Emulator(vms, broker, directories) as emulator, tempfile.TemporaryDirectory() as directory:
        progress.say(
            f"{vms} VMs on {len(emulator.nodes)} nodes: sessions and routes in {emulator.ramp_up_s:.1f} s"
        )
        variables = {
            "scale_campaign": campaign,
            "scale_digest": _DIGEST,
            "scale_selection": str(_write_selection(emulator, Path(directory))),
        }
        meters = [Meter(pids) for pids in (emulator.relay_pids, emulator.guest_pids, [broker.pid])]
        wire_bytes = _wire_bytes()
        run = playbook.run(options, variables)
        wire_bytes = _wire_bytes() - wire_bytes
        relays, agents, of_broker = (meter.usage() for meter in meters)
        deeds = emulator.deeds()
    progress.say(f"campaign: {run.seconds(playbook.START, playbook.COORDINATE):.1f} s")
    resume = playbook.run(options, {"scale_campaign": campaign})
    progress.say(f"replay: {resume.seconds(playbook.COORDINATE, playbook.COORDINATE):.1f} s")
    with Broker(options) as connection:
        account = journal.account(connection.read_all(topology.journal(campaign)))
    assert deeds == {"sessions": vms, "installs": vms}, deeds
    assert account.outcomes == {"succeeded": vms}, account.outcomes
    return Measured(vms, emulator.ramp_up_s, run, account, relays, agents, of_broker, wire_bytes, resume)


def _write_selection(emulator: Emulator, directory: Path) -> Path:
    file = directory / "selection.json"
    file.write_text(json.dumps(selection(emulator.nodes)))
    return file


def _wire_bytes() -> int:
    counters = Path("/sys/class/net", network.BRIDGE, "statistics")
    return sum(int((counters / name).read_text()) for name in ("rx_bytes", "tx_bytes"))


def report(rounds: list[Round]) -> None:
    """Print all figures of the round in the middle, and write those of all."""
    middle = rounds[len(rounds) // 2]
    measured = middle.measured
    for title, rows in _tables(measured):
        print(f"\n{title}", flush=True)
        results.show(rows)
    print(f"\n{settling.NOTE}")
    spread = ", ".join(f"{one.measured.wall_s:.1f} / {one.floor_s:.1f} = {one.ratio:.2f}" for one in rounds)
    print(f"\nseconds of each campaign and its floor, and their ratio\n  {spread}\n")
    results.save(
        "campaign",
        {
            "rounds": [
                {**_figures(one.measured), "floors": [asdict(part) for part in one.floors]} for one in rounds
            ]
        },
    )
    results.close(
        "campaign",
        vms=measured.vms,
        wall_s=measured.wall_s,
        floor_s=middle.floor_s,
        ratio=middle.ratio,
        cpu_ratio=middle.cpu_ratio,
        controller_cpu_ms_per_vm=measured.run.cpu_s * 1000 / measured.vms,
        peak_mb=measured.run.coordinator_mb,
        callback_share=measured.callback_share,
        resume_s=measured.resume.seconds(playbook.COORDINATE, playbook.COORDINATE),
    )


def _tables(measured: Measured) -> Iterator[tuple[str, list[tuple[str, object]]]]:
    run, account = measured.run, measured.account
    yield (
        "seconds",
        [
            ("ramp-up: sessions and routes (not counted)", measured.ramp_up_s),
            ("upgrade_start", run.seconds(playbook.START, playbook.START)),
            ("upgrade_coordinate", run.seconds(playbook.COORDINATE, playbook.COORDINATE)),
            ("first record to last", account.closed_at - account.opened_at),
            ("the whole playbook", run.wall_s),
            (
                "replay of the finished campaign",
                measured.resume.seconds(playbook.COORDINATE, playbook.COORDINATE),
            ),
            ("the callback's closing table", run.closing_s),
        ],
    )
    parts = (("relays", measured.relays), ("agents", measured.agents), ("broker", measured.broker))
    yield (
        "processor seconds, most memory in MB",
        [
            ("controller, all processes", f"{run.cpu_s:.1f}, {run.main_mb:.0f} (ansible-playbook itself)"),
            ("of it the coordinator", f"{run.coordinator_cpu_s:.1f}, {run.coordinator_mb:.0f}"),
            ("of it the callback's thread", f"{run.callback_cpu_s:.1f}"),
            *((name, f"{usage.cpu_s:.1f}, {usage.peak_mb:.0f}") for name, usage in parts),
        ],
    )
    yield (
        "stages, p50 and p99 in seconds",
        [(name, _shown(spread)) for name, spread in account.stages.items()],
    )
    yield (
        "journal, records and bytes",
        [
            *((name, f"{tally.records}, {tally.bytes}") for name, tally in account.tallies.items()),
            ("sum", f"{account.records}, {account.bytes}"),
            ("bytes to and from the broker, both ways", measured.wire_bytes),
        ],
    )


def _shown(spread: journal.Spread) -> str:
    unknown = f" ({spread.unknown} VMs unknown)" if spread.unknown else ""
    return f"{spread.p50_s:.2f}, {spread.p99_s:.2f}{unknown}"


def _figures(measured: Measured) -> dict[str, Any]:
    figures = asdict(measured)
    for run in ("run", "resume"):
        del figures[run]["output"]
    return {**figures, "wall_s": measured.wall_s, "callback_share": measured.callback_share}
