# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory and its journal, kept in step."""

from __future__ import annotations

import os
from pathlib import Path

from . import log
from .journal import Journal, JournalCorrupt, JournalError
from .lifecycle import held_back
from .memory import BadRecords, Memory, changes, restore
from .wire import Message


def fresh_generation() -> str:
    """A name for a new journal."""
    return os.urandom(8).hex()


class Store:
    """What the agent knows. ``memory`` may be ahead of the disk only after `keep_unrecorded`.

    :raises JournalError: there is a journal and it cannot be read at present.
    :raises JournalInUse: another agent has it.
    """

    def __init__(self, directory: Path) -> None:
        self._journal = Journal(directory)
        self._recorded: Memory | None = None
        self._doubtful = False  # a write failed: what it should have added may be in the journal, or not
        self.memory = self._load()

    @property
    def count(self) -> int:
        """The number of records of the journal."""
        return self._journal.count

    @property
    def behind(self) -> bool:
        """Whether the journal lacks something that the memory has."""
        return self._recorded is not self.memory

    def keep(self, memory: Memory) -> None:
        """Make ``memory`` safe. One of another generation begins a new journal; the old one is set aside.

        :raises JournalError: it is not safe, and nothing has changed.
        """
        doubtful, self._doubtful = self._doubtful, True
        if self._recorded is None or self._recorded.generation != memory.generation:
            self._journal.renew(changes(None, memory))
        else:
            record = changes(None if doubtful else self._recorded, memory)
            if record:
                self._journal.append(record, lambda: changes(None, memory))
        self._recorded = self.memory = memory
        self._doubtful = False

    def keep_unrecorded(self, memory: Memory) -> None:
        """Go on with ``memory``, which the next `keep` that works will make safe."""
        self.memory = memory

    def holds_back(self, message: Message) -> bool:
        """Whether a message of the outbox must not be sent before the journal has it; see `held_back`."""
        return self._recorded is not None and held_back(self._recorded, message)

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()

    def _load(self) -> Memory:
        """The memory of the journal, or an empty one of a new generation if there is none or it is damaged.

        :raises JournalError: there is one and it cannot be read at present. What it holds may be an installation that was begun.
        """
        try:
            records = self._journal.open()
            if records:
                self._recorded = restore(records)
                return self._recorded
        except (JournalCorrupt, BadRecords) as error:
            log.error(f"the journal is damaged and begins anew: {error}")
        except JournalError:
            self.close()
            raise
        memory = Memory(generation=fresh_generation())
        try:
            self.keep(memory)
        except JournalError as error:
            log.error(f"{error}; every upgrade will be refused")
        return memory
