# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the campaign's play through ansible-playbook, and measure the controller's processes meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.isolift.vm.plugins.module_utils.broker import BrokerOptions
from lab import paths
from scale.meter import TreeWatch

_HERE = Path(__file__).parent
_PLAY = _HERE / "campaign.yml"
START = "isolift.vm.upgrade_start"
COORDINATE = "isolift.vm.upgrade_coordinate"
_END = "end"


@dataclass(frozen=True)
class Run:
    """How a run of the playbook went. ``tasks`` holds when each task began and ended, in Unix seconds.

    ``cpu_s`` is the processor time of all its processes. ``coordinator_cpu_s`` and ``coordinator_mb`` are of the process that conducts,
    ``callback_cpu_s`` is of the thread that the callback began, if it did, and ``closing_s`` how long it took for its closing table.
    """

    output: str
    wall_s: float
    cpu_s: float
    tasks: Mapping[str, tuple[float, float]]
    coordinator_cpu_s: float
    coordinator_mb: float
    main_mb: float
    callback_cpu_s: float
    closing_s: float

    def seconds(self, first: str, last: str) -> float:
        """From the beginning of the task ``first`` to the end of the task ``last``."""
        return self.tasks[last][1] - self.tasks[first][0]


def run(broker: BrokerOptions, variables: Mapping[str, Any]) -> Run:
    """Run the play.

    :raise AssertionError: it failed.
    """
    with tempfile.TemporaryDirectory(prefix="isolift-scale-") as directory:
        times, output = Path(directory, "times"), Path(directory, "output")
        began = time.monotonic()
        with output.open("wb") as file:
            process = subprocess.Popen(
                _command(broker, variables),
                cwd=paths.REPOSITORY,
                env=_environment(times),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            with TreeWatch(process.pid) as watch:
                cpu_s = _wait(process)
        wall_s = time.monotonic() - began
        text = output.read_text()
        assert process.returncode == 0, text[-4000:]
        tasks = _tasks(times)
    main, coordinator = watch.seen[watch.root], watch.children()[-1]
    return Run(
        output=text,
        wall_s=wall_s,
        cpu_s=cpu_s,
        tasks=tasks,
        coordinator_cpu_s=coordinator.cpu_s,
        coordinator_mb=coordinator.peak_mb,
        main_mb=main.peak_mb,
        callback_cpu_s=main.of_threads_since(tasks[COORDINATE][0]),
        closing_s=tasks[_END][1] - tasks[COORDINATE][1],
    )


def _command(broker: BrokerOptions, variables: Mapping[str, Any]) -> list[str]:
    login = {
        "broker_host": broker.host,
        "broker_password": broker.password,
        "broker_timeout": broker.timeout,
    }
    given = {"scale_broker": login, "ansible_python_interpreter": sys.executable, **variables}
    return ["ansible-playbook", "-i", "localhost,", "-c", "local", str(_PLAY), "-e", json.dumps(given)]


def _environment(times: Path) -> dict[str, str]:
    programs = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACK_PLUGINS": str(_HERE / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "task_times,isolift.vm.upgrade_results",
        "SCALE_TASK_TIMES": str(times),
    }


def _wait(process: subprocess.Popen[bytes]) -> float:
    """Wait for the end; the processor time of the process and all that it started."""
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def _tasks(times: Path) -> dict[str, tuple[float, float]]:
    began: dict[str, float] = {}
    tasks = {}
    for line in times.read_text().splitlines():
        action, event, at = json.loads(line)
        began.setdefault(action, at)
        if event == "ended":
            tasks[action] = (began[action], at)
    return tasks
