# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The upgrade by plain Ansible, or by Ansible with Mitogen: every emulated VM is a host, on the local connection."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scale import tools
from scale.targets import PEER, TARGET, Targets

_ACCOUNTED = Path(__file__).with_name("accounted.py")
_LIMIT_S = 3600.0
_PLAY = PEER / "upgrade.yml"
_SECONDS = re.compile(r"(\d+)m([\d.]+)s")


@dataclass(frozen=True)
class Cost:
    """Seconds that an upgrade of ``vms`` VMs took: of the clock, of the controller's processors and of all targets' together.

    ``between_cpu_s`` is what the parts between controller and targets took, where there are such.
    """

    vms: int
    wall_s: float
    controller_cpu_s: float
    targets_cpu_s: float
    between_cpu_s: float = 0.0


def plain(vms: int, forks: int) -> Cost:
    """By plain Ansible.

    :raise AssertionError: a VM was not upgraded.
    """
    return _upgrade(Path(sys.executable).with_name("ansible-playbook"), vms, forks, {})


def mitogen(vms: int, forks: int) -> Cost:
    """By Ansible with Mitogen's strategy.

    :raises Unavailable: it cannot be installed.
    :raise AssertionError: a VM was not upgraded.
    """
    programs = tools.programs("mitogen")
    (strategies,) = programs.parent.glob("lib/python3*/site-packages/ansible_mitogen/plugins/strategy")
    strategy = {"ANSIBLE_STRATEGY_PLUGINS": str(strategies), "ANSIBLE_STRATEGY": "mitogen_linear"}
    return _upgrade(programs / "ansible-playbook", vms, forks, strategy)


def _upgrade(program: Path, vms: int, forks: int, environment: Mapping[str, str]) -> Cost:
    with tempfile.TemporaryDirectory(prefix="isolift-scale-") as name:
        directory = Path(name)
        targets = Targets(directory, vms)
        times, config = directory / "times", directory / "ansible.cfg"
        times.touch()
        config.write_text(f"[defaults]\nforks = {forks}\n[connection]\npipelining = True\n")
        own = {"ANSIBLE_CONFIG": str(config), "SCALE_TARGET_TIMES": str(times), **environment}
        command = [str(program), "-i", str(_inventory(targets, directory)), "-c", "local", str(_PLAY)]
        began = time.monotonic()
        cpu_s = _run([*command, "-e", f"target_version={TARGET}"], own, directory / "cpu")
        wall_s = time.monotonic() - began
        targets.require_upgraded()
        targets_cpu_s = sum(
            int(minutes) * 60 + float(seconds) for minutes, seconds in _SECONDS.findall(times.read_text())
        )
    return Cost(vms, wall_s, cpu_s - targets_cpu_s, targets_cpu_s)


def _inventory(targets: Targets, directory: Path) -> Path:
    """An inventory of the VMs, each with a Python of its own, as hosts that are apart have."""
    lines = []
    for name, target in targets.directories.items():
        shutil.copy(PEER / "python", target)
        lines.append(f"{name} vm={target} ansible_python_interpreter={target}/python\n")
    inventory = directory / "inventory"
    inventory.write_text("".join(lines))
    return inventory


def _run(command: list[str], environment: Mapping[str, str], account: Path) -> float:
    """Run a command; the processor time of all that it started.

    :raise AssertionError: it failed.
    """
    done = subprocess.run(
        [sys.executable, _ACCOUNTED, account, *command],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return float(account.read_text())
