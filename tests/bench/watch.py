# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch processes, on a node or in a guest, over a span of time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lab.waiting import wait_until

QUIET_S = 2.0
"""Seconds in which a process that has nothing left to do does nothing."""


@dataclass(frozen=True)
class Usage:
    """What a process used in a span of ``seconds``; its memory at the end, and its greatest so far."""

    seconds: float
    cpu_s: float
    wakeups: float
    resident_mib: float
    peak_mib: float

    @property
    def cpu_s_per_min(self) -> float:
        return 60 * self.cpu_s / self.seconds

    @property
    def wakeups_per_min(self) -> float:
        return 60 * self.wakeups / self.seconds


def settle(take: Callable[[list[int]], str], pids: Mapping[str, int]) -> None:
    """Return once none of the processes ``pids`` (by a name) has woken for a while. ``take`` is as for `Watch`.

    :raise LabError: they do not come to rest.
    """
    seen: dict[str, float] = {}

    def is_quiet() -> bool:
        nonlocal seen
        before = seen
        processes = json.loads(take(list(pids.values())))["processes"]
        seen = {pid: used["sleeps"] for pid, used in processes.items()}
        return seen == before

    wait_until(is_quiet, what=f"{', '.join(pids)} to come to rest", timeout=60.0, every=QUIET_S)


class Watch:
    """Watches the processes ``pids`` (by a name) from now on. ``take`` runs snapshot.py on them, where they are."""

    def __init__(self, take: Callable[[list[int]], str], pids: Mapping[str, int]) -> None:
        self._take = take
        self._pids = dict(pids)
        self._began = self._now()

    def end(self) -> dict[str, Usage]:
        """What each process used since this watch began."""
        ended = self._now()
        return {name: self._usage(str(pid), ended) for name, pid in self._pids.items()}

    def _now(self) -> Any:
        return json.loads(self._take(list(self._pids.values())))

    def _usage(self, pid: str, ended: Any) -> Usage:
        before, after = self._began["processes"][pid], ended["processes"][pid]
        return Usage(
            seconds=ended["at"] - self._began["at"],
            cpu_s=after["cpu_s"] - before["cpu_s"],
            wakeups=after["sleeps"] - before["sleeps"],
            resident_mib=after["resident_kib"] / 1024,
            peak_mib=after["peak_kib"] / 1024,
        )
