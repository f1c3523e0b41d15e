# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's disk: the agent's journal as bytes, the installed component, and its own count of the installs.

What a disk holds is one value, so that a snapshot, a revert and a clone are copies of it: every copy has a history of its own from
then on, and counts its own installs.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isolift_agent.journal import Journal, JournalError, Record, _read
from isolift_agent.store import Store
from simulation.ground import Killed, Process


@dataclass(frozen=True)
class Ending:
    """What the installer's runner left on the disk."""

    exit_code: int
    timed_out: bool
    duration_s: float


@dataclass
class Disk:
    """What is on a disk.

    :ivar installs: the upgrade IDs whose installer was run, in order, as often as it was: the truth that agents are measured by.
    :ivar results: the outcomes that the agent recorded or said, by upgrade ID.
    :ivar claims: the highest (epoch, nonce) of each campaign that the agent obeyed and recorded.
    """

    version: str
    journal: bytes | None = None
    installs: tuple[str, ...] = ()
    results: dict[str, str] = field(default_factory=dict)
    claims: dict[str, tuple[int, str]] = field(default_factory=dict)
    copies: frozenset[str] = frozenset()
    endings: dict[str, Ending] = field(default_factory=dict)

    def duplicate(self) -> Disk:
        """A disk with the same content."""
        twin = copy(self)
        twin.results, twin.claims, twin.endings = dict(self.results), dict(self.claims), dict(self.endings)
        return twin


class DiskJournal(Journal):
    """The agent's journal on a simulated disk: the same records and the same rules, without files."""

    def __init__(self, disk: Disk, process: Process, is_full: Callable[[], bool]) -> None:
        super().__init__(Path("/var/lib/isolift-agent"))
        self.disk = disk
        self._process = process
        self._is_full = is_full

    def open(self) -> list[Any]:
        """The records.

        :raises JournalCorrupt: a line is bad that is not the last.
        """
        records, self.count, self._size = _read(self.disk.journal or b"")
        return records

    def renew(self, record: Record) -> None:
        """Begin anew."""
        self.count = self._size = 0
        self._check()
        self.disk.journal = None
        self.append(record, lambda: record)

    def _take(self) -> None:
        """Nobody else has a simulated journal."""

    def _extend(self, line: bytes) -> None:
        before = (self.disk.journal or b"")[: self._size]
        self._check()
        fault = self._process.ground.reached(f"record {self._process.name.split()[-1]}")
        if fault is not None:
            self.disk.journal = before + line[: int(len(line) * fault.share)]
            self._process.ground.happen(fault)
            raise Killed(self._process, fault.seconds)
        self.disk.journal = before + line

    def _replace(self, line: bytes) -> None:
        self._check()
        self.disk.journal = line

    def _check(self) -> None:
        if self._is_full():
            raise JournalError("cannot write the journal: No space left on device")


class DiskStore(Store):
    """The agent's memory on a simulated disk."""

    def __init__(self, journal: DiskJournal) -> None:
        self._journal = journal
        self._recorded = None
        self._doubtful = False
        self.memory = self._load()
