# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``bench-peer``: the same upgrade by our campaign and by tools to which every VM is a host.

The VMs are emulated, and the same for all: a directory with a version and an installer. Everybody compares versions, runs the installer, reads the
version back and reports. What the controller spends on a VM is the slope between two sizes, so that start-up cancels out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from bench.report import Bar, conclude, table

from lab.progress import Progress
from scale import conduct, peer_ansible, peer_salt
from scale.broker_host import BrokerHost, broker_host
from scale.peer_ansible import Cost
from scale.targets import Targets
from scale.tools import Unavailable

_OURS = "isolift.vm"
_FORKS = (20, 50)
_LEAST_RATIOS = {"Ansible": 100, "Salt": 5}
"""How many times as much the controller of each is to use at least."""

_OURS_TIMES = 11
"""Our larger size is so many times the smaller one: less would be lost in the noise of Ansible's start."""

_SALT_VMS = (10, 40)
"""Sizes for Salt, whose minions take about 120 MB each."""

_SALT_CALLS = 10
"""A single call takes so little that the noise of its start would hide it."""


@dataclass(frozen=True)
class Column:
    """What a tool took at two sizes."""

    small: Cost
    large: Cost

    @property
    def controller_ms(self) -> float:
        """Milliseconds of the controller's processors for one VM more."""
        return self._slope(self.small.controller_cpu_s, self.large.controller_cpu_s)

    @property
    def targets_ms(self) -> float:
        """The same of the target's."""
        return self._slope(self.small.targets_cpu_s, self.large.targets_cpu_s)

    @property
    def between_ms(self) -> float:
        """The same of what is between them."""
        return self._slope(self.small.between_cpu_s, self.large.between_cpu_s)

    def _slope(self, small: float, large: float) -> float:
        return 1000 * (large - small) / (self.large.vms - self.small.vms)


def bench(vms: int) -> None:
    """The benchmark itself.

    :raise LabError: this machine does not allow it.
    """
    progress = Progress()
    columns: dict[str, Column] = {}
    with broker_host() as broker:
        columns[_OURS] = _ours(progress, vms, broker)
        packages = broker.versions()
    for forks in _FORKS:
        columns[f"Ansible, {forks} forks"] = _column(progress, vms, forks, peer_ansible.plain)
    try:
        columns["Mitogen, 20 forks"] = _column(progress, vms, _FORKS[0], peer_ansible.mitogen)
    except Unavailable as error:
        progress.say(f"no column for Mitogen: {error}")
    try:
        columns["Salt"] = _salt(progress)
    except Unavailable as error:
        progress.say(f"no column for Salt: {error}")
    _report(vms, columns, packages)


def _ours(progress: Progress, vms: int, broker: BrokerHost) -> Column:
    costs = []
    for size in (vms, _OURS_TIMES * vms):
        with tempfile.TemporaryDirectory(prefix="isolift-scale-") as directory:
            targets = Targets(Path(directory), size)
            measured = conduct.measure(progress, conduct.Case(size), broker, targets.directories)
            targets.require_upgraded()
        targets_cpu_s = measured.parts["agents"].cpu_s
        between = measured.parts["relays"].cpu_s + measured.parts["broker"].cpu_s
        costs.append(Cost(size, measured.run.wall_s, measured.run.cpu_s, targets_cpu_s, between))
    return Column(*costs)


def _column(progress: Progress, vms: int, forks: int, upgrade: Callable[[int, int], Cost]) -> Column:
    column = Column(upgrade(vms // 2, forks), upgrade(vms, forks))
    progress.say(f"{upgrade.__name__}, {forks} forks: {vms} VMs in {column.large.wall_s:.1f} s")
    return column


def _salt(progress: Progress) -> Column:
    small, large = _SALT_VMS
    with peer_salt.salt(large) as salt:
        progress.say(f"{large} Salt minions answer")
        salt.upgrade(large)  # the first call of all fills caches
        calls = [(salt.upgrade(small), salt.upgrade(large)) for _call in range(_SALT_CALLS)]
    return Column(*(_mean(costs) for costs in zip(*calls, strict=True)))


def _mean(costs: Sequence[Cost]) -> Cost:
    def mean(name: str) -> float:
        return fmean(getattr(cost, name) for cost in costs)

    return Cost(costs[0].vms, mean("wall_s"), mean("controller_cpu_s"), mean("targets_cpu_s"))


def _report(vms: int, columns: dict[str, Column], packages: dict[str, str]) -> None:
    print(f"\n{_table(columns)}\n", flush=True)
    ours = columns[_OURS].controller_ms
    ratios = {_key(name): one.controller_ms / ours for name, one in columns.items() if name != _OURS}
    bars = [Bar(f"{_OURS}: controller's CPU ms per VM", ours, 2)]
    bars += [
        Bar(f"{name} ÷ {_OURS}", ratios[_key(name)], bound, is_floor=True)
        for name in columns
        for product, bound in _LEAST_RATIOS.items()
        if name.startswith(product)
    ]
    figures = {"vms": vms, "controller_cpu_ms_per_vm": ours, **ratios}
    conclude("peer", figures, bars, {name: asdict(one) for name, one in columns.items()}, packages)


def _table(columns: dict[str, Column]) -> str:
    rows = [
        [
            name,
            f"{one.small.vms} → {one.large.vms}",
            f"{one.controller_ms:.2f}",
            f"{one.between_ms:.2f}",
            f"{one.targets_ms:.2f}",
            f"{one.large.wall_s:.1f}",
        ]
        for name, one in columns.items()
    ]
    heading = ["CPU ms for one VM more", "VMs", "controller", "between", "target", "s for the larger"]
    note = "sizes differ: what takes little shows above the noise with many VMs only, and Salt's minions fill the memory"
    return f"{table(heading, rows)}\n{note}"


def _key(name: str) -> str:
    return f"{name.lower().replace(', ', '_').replace(' ', '_')}_ratio"
