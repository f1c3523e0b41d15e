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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from ansible_collections.isolift.vm.plugins.module_utils.broker import BrokerOptions
from lab import paths
from scale.meter import TreeWatch, tree_cpu_s

_HERE = Path(__file__).parent
_PLAY = _HERE / "campaign.yml"
START = "isolift.vm.upgrade_start"
COORDINATE = "isolift.vm.upgrade_coordinate"
_END = "end"
_STOP_S = 30.0


BEGAN, ENDED = "began", "ended"


@dataclass(frozen=True)
class Event:
    """A task began or ended, at ``at`` in Unix seconds; ``cpu_s`` is what the controller's processes had used until then."""

    task: str
    what: str
    at: float
    cpu_s: float


@dataclass(frozen=True)
class Run:
    """How a run of the playbook went. ``tasks`` holds the beginning and the end of each task.

    ``cpu_s`` is the processor time of all its processes, from beginning to end. ``coordinator_cpu_s`` and ``coordinator_mb`` are of the process that conducts,
    ``callback_cpu_s`` is of the thread that the callback began, if it did, and ``closing_s`` how long it took for its closing table.
    """

    output: str
    wall_s: float
    cpu_s: float
    tasks: Mapping[str, tuple[Event, Event]]
    coordinator_cpu_s: float
    coordinator_mb: float
    main_mb: float
    callback_cpu_s: float
    closing_s: float

    def seconds(self, first: str, last: str) -> float:
        """From the beginning of the task ``first`` to the end of the task ``last``."""
        return self.tasks[last][1].at - self.tasks[first][0].at

    def cpu_between(self, first: str, last: str) -> float:
        """Processor time of all processes in these seconds."""
        return self.tasks[last][1].cpu_s - self.tasks[first][0].cpu_s

    @property
    def lines(self) -> int:
        """How many lines it printed."""
        return len(self.output.splitlines())


def run(
    broker: BrokerOptions,
    variables: Mapping[str, Any],
    environment: Mapping[str, str] = MappingProxyType({}),
    heard: Callable[[Event, int], None] = lambda _event, _pid: None,
) -> Run:
    """Run the play.

    :param environment: what is in it besides.
    :param heard: told of each event when it comes, and of ansible-playbook's process.
    :raise AssertionError: it failed.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process, lines = _start(_command(broker, variables), environment, output)
        with _ended(process), lines, TreeWatch(process.pid) as watch:
            events = list(_events(lines, process.pid, heard))
            cpu_s = _wait(process)
        wall_s = time.monotonic() - began
        output.seek(0)
        text = output.read().decode()
    assert process.returncode == 0, text[-4000:]
    tasks = _tasks(events)
    main, coordinator = watch.seen[watch.root], watch.children()[-1]
    return Run(
        output=text,
        wall_s=wall_s,
        cpu_s=cpu_s,
        tasks=tasks,
        coordinator_cpu_s=coordinator.cpu_s,
        coordinator_mb=coordinator.peak_mb,
        main_mb=main.peak_mb,
        callback_cpu_s=main.of_threads_since(tasks[COORDINATE][0].at),
        closing_s=tasks[_END][1].at - tasks[COORDINATE][1].at,
    )


def _command(broker: BrokerOptions, variables: Mapping[str, Any]) -> list[str]:
    login = {
        "broker_host": broker.host,
        "broker_password": broker.password,
        "broker_timeout": broker.timeout,
    }
    given = {"scale_broker": login, "ansible_python_interpreter": sys.executable, **variables}
    return ["ansible-playbook", "-i", "localhost,", "-c", "local", str(_PLAY), "-e", json.dumps(given)]


def _start(
    command: list[str], environment: Mapping[str, str], output: IO[bytes]
) -> tuple[subprocess.Popen[bytes], IO[str]]:
    """Start ansible-playbook; its process, and what the callback task_times writes."""
    read, write = os.pipe()
    process = subprocess.Popen(
        command,
        cwd=paths.REPOSITORY,
        env={**os.environ, **_environment(write), **environment},
        pass_fds=[write],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )
    os.close(write)
    return process, os.fdopen(read)


def _environment(times: int) -> dict[str, str]:
    programs = Path(sys.executable).parent
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACK_PLUGINS": str(_HERE / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "task_times,isolift.vm.upgrade_results",
        "SCALE_TASK_TIMES": f"/proc/self/fd/{times}",
    }


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leaves no play behind when the benchmark is interrupted."""
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
            process.wait(_STOP_S)


def _events(lines: IO[str], pid: int, heard: Callable[[Event, int], None]) -> Iterator[Event]:
    """The events as they come, until all that could tell of one have ended."""
    for line in lines:
        task, what, at = json.loads(line)
        event = Event(task, what, at, tree_cpu_s(pid))
        heard(event, pid)
        yield event


def _wait(process: subprocess.Popen[bytes]) -> float:
    """Wait for the end; the processor time of the process and all that it started."""
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def _tasks(events: Iterable[Event]) -> dict[str, tuple[Event, Event]]:
    began: dict[str, Event] = {}
    tasks = {}
    for event in events:
        began.setdefault(event.task, event)
        if event.what == ENDED:
            tasks[event.task] = (began[event.task], event)
    return tasks
