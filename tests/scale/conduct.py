# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One campaign of emulated VMs, from the start to the last outcome, with all that its parts use."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.isolift.vm.plugins.module_utils import ids, topology
from ansible_collections.isolift.vm.plugins.module_utils.broker import Broker, BrokerOptions, Delivery
from ansible_collections.isolift.vm.plugins.module_utils.report import LISTED_MOST
from lab.progress import Progress
from scale import journal, playbook, traffic
from scale.broker_host import CONTROLLER, BrokerHost
from scale.emulator import Emulator, selection
from scale.fleet import VMS_PER_NODE
from scale.meter import Meter, Usage

LINES_MOST = 60
"""Most lines that a playbook prints in which every VM of a large campaign was upgraded."""

_DIGEST = "a" * 64


@dataclass(frozen=True)
class Case:
    """A campaign of ``vms`` VMs, ``per_node`` of them on each node, shown as the callback's option ``live`` says."""

    vms: int
    per_node: int = VMS_PER_NODE
    live: str = "auto"


@dataclass(frozen=True)
class Measured:
    """One campaign. ``parts`` are all but the controller, between the same two instants as the wall.

    ``flows`` holds who sent how much to whom, and ``counted`` what the broker counted (see traffic.py).
    """

    case: Case
    ramp_up_s: float
    run: playbook.Run
    account: journal.Account
    parts: Mapping[str, Usage]
    flows: Mapping[str, traffic.Flow]
    counted: traffic.Counted
    resume: playbook.Run

    @property
    def vms(self) -> int:
        """How many there were."""
        return self.case.vms

    @property
    def wall_s(self) -> float:
        """From the beginning of upgrade_start to the end of upgrade_coordinate."""
        return self.run.seconds(playbook.START, playbook.COORDINATE)

    @property
    def controller_cpu_s(self) -> float:
        """Processor time of the controller's processes in that time."""
        return self.run.cpu_between(playbook.START, playbook.COORDINATE)

    @property
    def cpu_s(self) -> float:
        """Processor time of all parts in that time."""
        return self.controller_cpu_s + sum(usage.cpu_s for usage in self.parts.values())

    @property
    def callback_share(self) -> float:
        """The callback's part of the campaign's time."""
        return (self.run.callback_cpu_s + self.run.closing_s) / self.wall_s

    @property
    def resume_s(self) -> float:
        """How long the coordinator took to read the finished campaign again, when no VM and no relay ran any more."""
        return self.resume.seconds(playbook.COORDINATE, playbook.COORDINATE)

    def figures(self) -> dict[str, Any]:
        """All of it, without what the playbooks printed."""
        figures = asdict(self)
        for run in ("run", "resume"):
            del figures[run]["output"]
        names = ("wall_s", "cpu_s", "controller_cpu_s", "callback_share", "resume_s")
        return {**figures, **{name: getattr(self, name) for name in names}}


Observe = Callable[[playbook.Event, int, Emulator], None]
"""Told of each event of the play when it comes, with ansible-playbook's process and the emulator."""


class _Meters:
    """Meters of all parts but the controller, from the beginning of upgrade_start to the end of upgrade_coordinate."""

    def __init__(self, emulator: Emulator, broker: BrokerHost, observe: Observe) -> None:
        self._emulator = emulator
        self._observe = observe
        self._pids = {"relays": emulator.relay_pids, "agents": emulator.guest_pids, "broker": [broker.pid]}
        self._meters: dict[str, Meter] = {}
        self.usage: dict[str, Usage] = {}

    def heard(self, event: playbook.Event, pid: int) -> None:
        """An event of the play."""
        self._observe(event, pid, self._emulator)
        if (event.task, event.what) == (playbook.START, playbook.BEGAN):
            self._meters = {part: Meter(pids) for part, pids in self._pids.items()}
        elif (event.task, event.what) == (playbook.COORDINATE, playbook.ENDED):
            self.usage = {part: meter.usage() for part, meter in self._meters.items()}


def measure(
    progress: Progress,
    case: Case,
    broker: BrokerHost,
    directories: Mapping[str, Path] | None = None,
    observe: Observe = lambda _event, _pid, _emulator: None,
    around: Callable[[], None] = lambda: None,
) -> Measured:
    """Conduct one campaign of emulated VMs, and replay it.

    :param directories: by VM name, if their components are real (see targets.py).
    :param around: called right before and right after the campaign.
    :raise AssertionError: not every VM was upgraded exactly once, or a summary was longer than people read.
    """
    vms, options = case.vms, broker.options(CONTROLLER)
    campaign = ids.campaign_id(time.time_ns() // 1_000_000, os.urandom(10))
    with (
        Emulator(vms, case.per_node, broker, directories) as emulator,
        tempfile.TemporaryDirectory() as directory,
    ):
        progress.say(
            f"{vms} VMs on {len(emulator.nodes)} nodes: sessions and routes in {emulator.ramp_up_s:.1f} s"
        )
        variables = {
            "scale_campaign": campaign,
            "scale_digest": _DIGEST,
            "scale_selection": str(_write_selection(emulator, Path(directory))),
        }
        around()
        meters = _Meters(emulator, broker, observe)
        before, ports_before = traffic.count(broker), emulator.deeds()
        run = playbook.run(options, variables, {"ISOLIFT_RESULTS_LIVE": case.live}, meters.heard)
        deeds, counted = emulator.deeds(), traffic.count(broker) - before
        around()
    progress.say(f"campaign: {run.seconds(playbook.START, playbook.COORDINATE):.1f} s")
    resume = playbook.run(options, {"scale_campaign": campaign})
    progress.say(f"replay: {resume.seconds(playbook.COORDINATE, playbook.COORDINATE):.1f} s")
    records = _read(options, topology.journal(campaign))
    account = journal.account(record.body for record in records)
    assert deeds["sessions"] == deeds["installs"] == vms, deeds
    assert account.outcomes == {"succeeded": vms}, account.outcomes
    is_summary = case.live == "auto" and vms > LISTED_MOST
    assert run.lines <= LINES_MOST or not is_summary, run.output[-4000:]
    ports = {name: number - ports_before[name] for name, number in deeds.items()}
    flows = traffic.flows(counted, traffic.of_relays(records), ports)
    return Measured(case, emulator.ramp_up_s, run, account, meters.usage, flows, counted, resume)


def _write_selection(emulator: Emulator, directory: Path) -> Path:
    file = directory / "selection.json"
    file.write_text(json.dumps(selection(emulator.nodes)))
    return file


def _read(options: BrokerOptions, stream: str) -> list[Delivery]:
    """Every record that the stream holds now, and in which message it was."""
    found: list[Delivery] = []
    with Broker(options) as broker:
        last = broker.read(stream)
        while not found or found[-1].offset < last:
            found += broker.poll(options.timeout)
    return found
