# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's files: as its kernel shows them, and as they are once it lost its power.

`Kernel` stands for the module ``os`` in the agent's journal, so that it is the journal's own code that writes, syncs and renames.
What was written is safe after a sync of the file, and a name after a sync of the directory. Between any two of these steps the agent
may be killed, or the guest lose its power.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol

from isolift_agent.journal import Journal
from simulation.kinds import Fault


class Status(NamedTuple):
    """What `Kernel.fstat` says."""

    st_size: int


class Machine(Protocol):
    """Whose files they are."""

    def at_write(self) -> Fault | None:
        """The agent is about to change its journal: what goes wrong now."""

    def stop(self, fault: Fault) -> None:
        """The agent, or the guest, is gone.

        :raises Killed: always.
        """

    def is_full(self) -> bool:
        """Whether the disk is full."""


@dataclass
class File:
    """The bytes of a file; ``safe`` are those that outlast the power."""

    data: bytes = b""
    safe: bytes = b""

    def lose_power(self, share: float) -> None:
        """Keep what is safe, and that share of what was added to it since."""
        kept = self.safe
        if self.data.startswith(kept):
            kept = self.data[: len(kept) + int(share * (len(self.data) - len(kept)))]
        self.data = self.safe = kept


@dataclass
class Files:
    """The one directory of the agent; ``safe`` has the names that outlast the power."""

    names: dict[str, File] = field(default_factory=dict)
    safe: dict[str, File] = field(default_factory=dict)

    def lose_power(self, share: float = 0.0) -> None:
        """Keep what is safe, and that share of what is not."""
        names = self.names if share >= 0.5 else self.safe
        for file in names.values():
            file.lose_power(share)
        self.names, self.safe = dict(names), dict(names)

    def duplicate(self) -> Files:
        """What a copy of the disk holds, made while the guest ran."""
        copies = {name: File(file.safe, file.safe) for name, file in self.safe.items()}
        return Files(copies, dict(copies))


@dataclass(frozen=True)
class GuestPath:
    """A path in the agent's directory, or that directory, as far as the journal uses paths."""

    files: Files
    machine: Machine
    name: str = ""

    def __str__(self) -> str:
        return f"/var/lib/isolift-agent/{self.name}"

    def __truediv__(self, name: str) -> GuestPath:
        return self.with_name(name)

    def with_name(self, name: str) -> GuestPath:
        """The file of that name beside it."""
        return GuestPath(self.files, self.machine, name)

    @property
    def parent(self) -> GuestPath:
        """The directory."""
        return self.with_name("")

    @property
    def suffix(self) -> str:
        """The end of its name, from the last dot on."""
        return PurePosixPath(self.name).suffix

    def exists(self) -> bool:
        """Whether there is such a file."""
        return self.name in self.files.names

    def read_bytes(self) -> bytes:
        """What is in it."""
        return self.files.names[self.name].data

    def unlink(self) -> None:
        """Remove it."""
        del self.files.names[self.name]

    def glob(self, pattern: str) -> Iterator[GuestPath]:
        """The directory's files whose names match."""
        return (self / name for name in list(self.files.names) if fnmatchcase(name, pattern))


class GuestJournal(Journal):
    """The agent's journal in a guest."""

    def _take(self) -> None:
        """Nobody else has it."""


class Kernel:
    """Stands for the module ``os`` in `isolift_agent.journal`."""

    O_RDONLY, O_WRONLY, O_CREAT, O_TRUNC = os.O_RDONLY, os.O_WRONLY, os.O_CREAT, os.O_TRUNC
    O_CLOEXEC, O_DIRECTORY = os.O_CLOEXEC, os.O_DIRECTORY

    def __init__(self) -> None:
        self._open: dict[int, tuple[GuestPath, File]] = {}
        self._last = 2

    def open(self, path: GuestPath, flags: int, _mode: int = 0) -> int:
        """A new descriptor."""
        names = path.files.names
        file = File() if flags & os.O_DIRECTORY else names.get(path.name)
        if file is None:
            file = names[path.name] = File()
        if flags & os.O_TRUNC:
            file.data = b""
        self._last += 1
        self._open[self._last] = (path, file)
        return self._last

    def close(self, descriptor: int) -> None:
        """Let go of it."""
        del self._open[descriptor]

    def fstat(self, descriptor: int) -> Status:
        """How long the file is."""
        return Status(len(self._open[descriptor][1].data))

    def ftruncate(self, descriptor: int, size: int) -> None:
        """Cut the file off."""
        file = self._open[descriptor][1]
        file.data = file.data[:size]

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        """Write at the end of the file; a full disk takes half of it."""
        path, file = self._open[descriptor]
        assert offset == len(file.data)
        fault = path.machine.at_write()
        if fault is not None:
            file.data += data[: int(len(data) * fault.share)]
            path.machine.stop(fault)
        if path.machine.is_full():
            file.data += data[: len(data) // 2]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.data += data
        return len(data)

    def fsync(self, descriptor: int) -> None:
        """Wait until it is safe what the file holds, or which names the directory has."""
        path, file = self._open[descriptor]
        self._point(path)
        if path.name:
            file.safe = file.data
        else:
            path.files.safe = dict(path.files.names)

    def replace(self, source: GuestPath, target: GuestPath) -> None:
        """Give the file its new name."""
        self._point(source)
        names = source.files.names
        names[target.name] = names.pop(source.name)

    @staticmethod
    def _point(path: GuestPath) -> None:
        fault = path.machine.at_write()
        if fault is not None:
            path.machine.stop(fault)
