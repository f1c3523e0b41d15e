# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``bench-campaign PROFILE=1``: where the coordinator and a process of relays spend a campaign, as py-spy sees it from outside.

It looks a hundred times a second, and stops the process while it looks: the campaign's own times say nothing. A thread that waits is at
times taken for one at work, so functions that wait are in the tables too.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from bench.report import table

from lab import paths
from lab.errors import LabError
from lab.progress import Progress
from lab.waiting import wait_until
from scale import meter, playbook
from scale.broker_host import broker_host
from scale.conduct import Case, measure
from scale.emulator import Emulator

LOOKS_PER_S = 100
SHOWN = 20
_FOLDER = paths.REPOSITORY / ".cache" / "reports"
_FORK_S = 10.0
_STOP_S = 60.0


def bench(case: Case) -> None:
    """Conduct one campaign with py-spy attached; print the functions that took most, and leave the stacks in files.

    :raise LabError: this machine does not allow it, or py-spy is missing.
    """
    observer = _Observer()
    with broker_host() as broker:
        measure(Progress(), case, broker, observe=observer.heard)
    for sampler in observer.samplers:
        print(f"\n{sampler.table()}\nstacks: {sampler.file.relative_to(paths.REPOSITORY)}", flush=True)
    looks = {f"{sampler.name}_looks": sampler.looks() for sampler in observer.samplers}
    print("\nBENCH profile", *(f"{key}={value}" for key, value in {"vms": case.vms, **looks}.items()))


class Sampler:
    """py-spy, attached to one process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.file = _FOLDER / f"profile-{name}.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def attach(self, pid: int) -> None:
        """Begin to look at the process, until it ends or `finish`.

        :raise LabError: py-spy is missing.
        """
        program = Path(sys.executable).with_name("py-spy")
        if not program.exists():
            raise LabError("there is no py-spy beside this Python: `make setup` installs it")
        _FOLDER.mkdir(parents=True, exist_ok=True)
        options = ["--rate", str(LOOKS_PER_S), "--function", "--format", "raw", "--output", str(self.file)]
        self._process = subprocess.Popen(
            [program, "record", "--pid", str(pid), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def finish(self) -> None:
        """Write the file.

        :raise AssertionError: py-spy failed.
        """
        assert self._process
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        assert self._process.wait(_STOP_S) == 0, f"py-spy failed with the {self.name}"

    def looks(self) -> int:
        """How often py-spy saw the process at work."""
        return sum(self_times(self._lines()).values())

    def table(self) -> str:
        """The functions in which it was seen most."""
        seen = self_times(self._lines())
        rows = [
            [function, f"{count / LOOKS_PER_S:.2f}", f"{count / seen.total():.1%}"]
            for function, count in seen.most_common(SHOWN)
        ]
        return table([f"{self.name}, {seen.total() / LOOKS_PER_S:.1f} s at work", "self s", "share"], rows)

    def _lines(self) -> list[str]:
        return self.file.read_text().splitlines()


def self_times(lines: Iterable[str]) -> Counter[str]:
    """How often each function was the innermost one, of stacks as py-spy writes them: frames with semicolons, and how often."""
    seen: Counter[str] = Counter()
    for line in lines:
        stack, _space, count = line.rpartition(" ")
        seen[stack.rpartition(";")[2]] += int(count)
    return seen


class _Observer:
    """Attaches to a process of relays and to the coordinator, as long as the campaign lasts."""

    def __init__(self) -> None:
        self._relays, self._coordinator = Sampler("relays"), Sampler("coordinator")
        self.samplers = (self._coordinator, self._relays)

    def heard(self, event: playbook.Event, pid: int, emulator: Emulator) -> None:
        """An event of the play."""
        moment = (event.task, event.what)
        if moment == (playbook.START, playbook.BEGAN):
            self._relays.attach(emulator.relay_pids[0])
        elif moment == (playbook.COORDINATE, playbook.BEGAN):
            self._coordinator.attach(_forked(pid, event.at))
        elif moment == (playbook.COORDINATE, playbook.ENDED):
            for sampler in self.samplers:
                sampler.finish()


def _forked(parent: int, since: float) -> int:
    """The process that ``parent`` starts at that Unix time or soon after."""
    found: list[int] = []

    def look() -> bool:
        found[:] = meter.children_since(parent, since)
        return bool(found)

    wait_until(look, what="the coordinator's process", timeout=_FORK_S, every=0.02)
    return found[-1]
