# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What processes use, as the kernel counts it: seconds of processor time and most resident memory."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_TOLERANCE_S = 2 / _TICKS
_BOOTED_AT = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
SAMPLE_S = 0.2


@dataclass(frozen=True)
class Usage:
    """Processor time in seconds, and the most resident memory in MB (10^6 bytes)."""

    cpu_s: float
    peak_mb: float


def cpu_s(process: Path, *, ended: bool = False) -> float:
    """Processor time of the process or thread whose directory in /proc is given, on request with that of children that have ended."""
    words = _stat(process)
    return sum(map(int, words[11:15] if ended else words[11:13])) / _TICKS


def tree(root: int) -> list[int]:
    """The process and all below it, parents first.

    :raise FileNotFoundError: one has just ended; `ProcessLookupError` says the same.
    """
    found = [root]
    for pid in found:
        found += children(pid)
    return found


def children(pid: int) -> list[int]:
    """The processes that the process started itself and that have not ended.

    :raise FileNotFoundError: it has just ended; `ProcessLookupError` says the same.
    """
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def children_since(pid: int, start: float) -> list[int]:
    """The `children` of the process that began at that Unix time or later, as far as the kernel's ticks tell."""
    return [child for child in children(pid) if _began_at(Path("/proc", str(child))) >= start - _TOLERANCE_S]


def tree_cpu_s(root: int) -> float:
    """Processor time of the process and all that were ever below it; the root must not have been waited for."""
    while True:
        try:
            return sum(cpu_s(Path("/proc", str(pid)), ended=True) for pid in tree(root))
        except (FileNotFoundError, ProcessLookupError):
            continue  # one has just ended, and its parent has its time from now on


def _began_at(process: Path) -> float:
    """When the process or thread began, in Unix seconds."""
    return _BOOTED_AT + int(_stat(process)[19]) / _TICKS


def _stat(process: Path) -> list[str]:
    # The name, in parentheses, may hold anything.
    return (process / "stat").read_text().rpartition(")")[2].split()


def peak_mb(process: Path) -> float:
    """The most resident memory that the process ever had, or had since `Meter` was made."""
    for line in (process / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0  # it has ended, but nobody has asked how


class Meter:
    """Measures processes from the moment that it is made."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._processes = [Path("/proc", str(pid)) for pid in pids]
        for process in self._processes:
            (process / "clear_refs").write_text("5")  # forgets the peak so far
        self._before = self._cpu_s()

    def usage(self) -> Usage:
        """Processor time of all since then, and the sum of their peaks."""
        return Usage(self._cpu_s() - self._before, sum(map(peak_mb, self._processes)))

    def _cpu_s(self) -> float:
        return sum(cpu_s(process, ended=True) for process in self._processes)


@dataclass
class Seen:
    """One process of a tree, as it was when it was looked at last.

    ``last_seen`` is the number of that look. ``threads`` holds the processor time by (start in Unix seconds, thread ID).
    """

    parent: int
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    last_seen: int = 0
    threads: dict[tuple[float, int], float] = field(default_factory=dict)

    def of_threads_since(self, start: float) -> float:
        """Processor time of the threads that began at that Unix time or later, as far as the kernel's ticks tell."""
        return sum(
            seconds for (began, _thread), seconds in self.threads.items() if began >= start - _TOLERANCE_S
        )


class TreeWatch:
    """Looks at a process and all below it five times a second; to be used as a context manager.

    What a process uses between the last look and its end is missed.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self.seen: dict[int, Seen] = {}
        self._looks = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tree watch", daemon=True)

    def __enter__(self) -> TreeWatch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._done.set()
        self._thread.join()

    def children(self) -> list[Seen]:
        """The processes that the root started itself, the one that lived longest last."""
        found = [one for one in self.seen.values() if one.parent == self.root]
        return sorted(found, key=lambda one: one.last_seen)

    def _run(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self._looks += 1
            self._look(self.root, 0)

    def _look(self, pid: int, parent: int) -> None:
        process = Path("/proc", str(pid))
        try:
            one = self.seen.setdefault(pid, Seen(parent))
            one.cpu_s, one.last_seen = cpu_s(process), self._looks
            one.peak_mb = max(one.peak_mb, peak_mb(process))  # it is 0 once the process has ended
            for thread in (process / "task").iterdir():
                one.threads[_began_at(thread), int(thread.name)] = cpu_s(thread)
                for child in (thread / "children").read_text().split():
                    self._look(int(child), pid)
        except (FileNotFoundError, ProcessLookupError):
            return  # it has just ended
