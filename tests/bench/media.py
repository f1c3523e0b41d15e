# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Discs for many domains: cdrom_media in one call, a bare loop over libvirt, and a playbook that loops over virsh.

All three change the same real QEMU domains in the same run, in alternating order. What Ansible takes for itself is not
counted: the same task without a VM is measured beside each task and taken off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median

from integration.cheap_domain import CheapDomain
from integration.compute_host import ComputeHost, own_host

from lab.errors import LabError
from lab.progress import Progress

from . import report
from .task_times import seconds_of_tasks

HOST = "benchmedia"
ISO = f"/var/lib/isolift/media/0198c5a2-7d4e-7b1a-9c3f-2f6e8d0a1b2c/{'a' * 64}.iso"
ACTIONS = ("insert", "eject")
MODULE, LOOP, PLAYBOOK = "cdrom_media, one call", "libvirt-python loop", "playbook looping virsh"
_HERE = Path(__file__).parent
_SSH_SESSIONS = 4
_LOOP_SECONDS = 300.0


@dataclass(frozen=True)
class Sample:
    """One use of one method: its seconds for all domains, and those that it takes for none."""

    round: int
    method: str
    action: str
    seconds: float
    empty_seconds: float

    @property
    def net(self) -> float:
        """The seconds that the domains cost."""
        return self.seconds - self.empty_seconds


class Bench:
    """The ways to change the discs of ``vms``."""

    def __init__(self, host: ComputeHost, vms: list[str]) -> None:
        self.host = host
        self.vms = vms
        self.methods: dict[str, Callable[[str], tuple[float, float]]] = {
            MODULE: partial(self._playbook, "media_call.yml"),
            LOOP: self._loop,
            PLAYBOOK: partial(self._playbook, "media_loop.yml"),
        }

    def sample(self, number: int, method: str, action: str) -> Sample:
        """Measure one call, and make sure that it did what it should.

        :raise LabError: it failed, or a domain does not have the disc that it should have.
        """
        sample = Sample(number, method, action, *self.methods[method](action))
        self._check(ISO if action == "insert" else "-", method)
        return sample

    def _playbook(self, name: str, action: str) -> tuple[float, float]:
        """The seconds that a playbook's task took for all domains, and for none."""
        variables = {"media_vms": self.vms, "media_action": action, "media_iso": ISO}
        tasks = seconds_of_tasks(self.host, _HERE / name, variables)
        return tasks["All VMs"][0], mean(tasks["No VM"])

    def _loop(self, action: str) -> tuple[float, float]:
        """The seconds that the bare loop took by its own clock, which does not count its start."""
        program = (_HERE / "media_loop.py").read_text()
        command = " ".join(["python3 -", action, ISO, *self.vms])
        return float(self.host.run(command, stdin=program, timeout=_LOOP_SECONDS)), 0.0

    def _check(self, disc: str, method: str) -> None:
        """Ask virsh, which none of the methods can have misled, for the discs of all domains in both descriptions."""
        lists = " ".join(self.vms)
        script = f"for vm in {lists}; do virsh domblklist $vm; virsh domblklist --inactive $vm; done"
        drives = [
            line.split() for line in self.host.run(script).splitlines() if line.lstrip().startswith("sda")
        ]
        if drives != [["sda", disc]] * (2 * len(self.vms)):
            raise LabError(f"after {method}: not every domain has {disc} in its drive: {drives}")


def run(progress: Progress, *, domains: int, rounds: int) -> None:
    """Measure, and print and write the result.

    :raise LabError: the host or a domain does not start, or a method does not do its work.
    """
    with own_host(HOST) as host:
        progress.say(f"host {host.name}: up; starting {domains} domains")
        host.run(f"mkdir -p $(dirname {ISO}) && head -c 65536 /dev/urandom > {ISO}")
        bench = Bench(host, _start(host, domains))
        for method in bench.methods:
            bench.sample(0, method, "insert")
            bench.sample(0, method, "eject")
        progress.say("everything ran once, unmeasured")
        samples: list[Sample] = []
        for number in range(1, rounds + 1):
            for method in _order(list(bench.methods), number):
                samples += [bench.sample(number, method, action) for action in ACTIONS]
            progress.say(f"round {number} of {rounds}: {_round_text(samples, number, domains)}")
        packages = report.versions(host.run, *report.HYPERVISOR)
    _conclude(samples, domains, packages)


def _start(host: ComputeHost, count: int) -> list[str]:
    """Start domains and return their UUIDs."""
    names = [f"media-{number:03d}" for number in range(count)]
    with ThreadPoolExecutor(_SSH_SESSIONS) as pool:
        return [
            domain.uuid for domain in pool.map(lambda name: CheapDomain(host, name).define().start(), names)
        ]


def _order(methods: list[str], number: int) -> list[str]:
    """Every method comes first, second and last equally often."""
    shift = number % len(methods)
    return methods[shift:] + methods[:shift]


def _per_vm_ms(samples: list[Sample], method: str, domains: int, action: str = "") -> float:
    """The median cost of one change of one domain in milliseconds; of both actions unless one is named."""
    actions = [action] if action else list(ACTIONS)
    medians = [
        median(sample.net for sample in samples if (sample.method, sample.action) == (method, name))
        for name in actions
    ]
    return 1000 * sum(medians) / len(medians) / domains


def _round_text(samples: list[Sample], number: int, domains: int) -> str:
    ours = [sample for sample in samples if sample.round == number]
    return ", ".join(
        f"{method} {_per_vm_ms(ours, method, domains):.1f} ms" for method in (MODULE, LOOP, PLAYBOOK)
    )


def _conclude(samples: list[Sample], domains: int, packages: Mapping[str, str]) -> None:
    cost = {method: _per_vm_ms(samples, method, domains) for method in (MODULE, LOOP, PLAYBOOK)}
    ratio, peer_ratio = cost[MODULE] / cost[LOOP], cost[PLAYBOOK] / cost[MODULE]
    rows = [
        [
            method,
            *(f"{_per_vm_ms(samples, method, domains, action):.1f}" for action in ACTIONS),
            f"{cost[method]:.1f}",
        ]
        for method in cost
    ]
    print(report.table(["ms per VM and change, without Ansible's own time", *ACTIONS, "mean"], rows))
    report.conclude(
        "media",
        {"domains": domains, "ratio": ratio, "peer_ratio": peer_ratio},
        [
            report.Bar("cdrom_media ÷ libvirt-python loop", ratio, 1.5),
            report.Bar("playbook looping virsh ÷ cdrom_media", peer_ratio, 15, is_floor=True),
        ],
        {"ms_per_vm": cost, "samples": [asdict(sample) for sample in samples]},
        packages,
    )
