# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``bench-status``: how long it takes to show one upgrade, of which only its ID is known, among thousands of campaigns."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

from bench.report import Bar, conclude

from ansible_collections.isolift.vm.plugins.module_utils.broker import Broker, BrokerOptions
from lab import paths
from lab.errors import LabError
from lab.progress import Progress
from scale import history
from scale.broker_host import CONTROLLER, broker_host

_BYTES_PER_VM = 5000
_ROUNDS = 3
_WRITERS = 2
_SIDE_BY_SIDE = 10
_INFO = "isolift.vm.upgrade_info"
_NOTHING = "ansible.builtin.ping"


def bench(campaigns: int, vms: int) -> None:
    """The benchmark itself.

    :raise LabError: this machine does not allow it.
    """
    _require_space(campaigns * vms * _BYTES_PER_VM)
    progress = Progress()
    with broker_host() as broker:
        options = broker.options(CONTROLLER)
        progress.say(f"writing {campaigns} campaigns of {vms} VMs")
        upgrades = _write(options, campaigns, vms)
        progress.say("asking for one upgrade of the first, the middle and the last")
        wanted = {"first": upgrades[0], "middle": upgrades[campaigns // 2], "last": upgrades[-1]}
        seconds = _ask(options, wanted)
        packages = broker.versions()
    start_s = median(seconds.pop("start"))
    figures = {f"{name}_s": median(values) - start_s for name, values in seconds.items()}
    bars = [Bar(f"one upgrade of the {name} campaign, s", figures[f"{name}_s"], 1.0) for name in wanted]
    figures = {"campaigns": campaigns, "vms": vms, "ansible_start_s": start_s, **figures}
    print(
        f"besides Ansible's start; the bars are for 1000 campaigns of 1000 VMs, here are {campaigns} of {vms}"
    )
    conclude("status", figures, bars, {"seconds": seconds}, packages)


def _require_space(needed: int) -> None:
    existing = next(path for path in (paths.CACHE, *paths.CACHE.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise LabError(
            f"{existing} has {free // 10**6} MB free, the journals need {needed // 10**6} MB: free some, or write fewer"
        )


def _write(options: BrokerOptions, campaigns: int, vms: int) -> list[str]:
    """An upgrade ID of each campaign."""
    upgrades: dict[int, str] = {}
    groups = [
        range(first, min(first + _SIDE_BY_SIDE, campaigns)) for first in range(0, campaigns, _SIDE_BY_SIDE)
    ]
    with ProcessPoolExecutor(_WRITERS) as pool:
        for written in pool.map(_write_group, [options] * len(groups), groups, [vms] * len(groups)):
            upgrades.update(written)
    return [upgrades[number] for number in range(campaigns)]


def _write_group(options: BrokerOptions, numbers: range, vms: int) -> dict[int, str]:
    with Broker(options) as broker:
        return history.write_campaigns(broker, numbers, vms)


def _ask(options: BrokerOptions, wanted: dict[str, str]) -> dict[str, list[float]]:
    """Seconds of each call by name; ``start`` is of a module that does nothing."""
    login = {
        "broker_host": options.host,
        "broker_password": options.password,
        "broker_timeout": options.timeout,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ("start", *wanted)}
    for _round in range(_ROUNDS):
        seconds["start"].append(_run(_NOTHING, {}))
        for name, upgrade in wanted.items():
            seconds[name].append(_run(_INFO, {**login, "upgrade_id": upgrade}))
    return seconds


def _run(module: str, arguments: dict[str, object]) -> float:
    """Run a module through Ansible; the seconds that it took.

    :raise AssertionError: it failed.
    """
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    command = ["ansible", "localhost", "-i", "localhost,", "-c", "local", "-m", module]
    command += ["-e", f"ansible_python_interpreter={sys.executable}"]
    command += ["-a", json.dumps(arguments)] if arguments else []
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=paths.REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return seconds
