# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent with a chosen moment of death: ``python -m unit.agent_mortal NUMBER LOG run --config FILE``.

A moment is a point between two things that the agent does: writing a record, waiting until it is safe, a deed, a task. Each is
written to LOG; at the one with the number given, counted from 1, the process kills itself as nobody can prevent. 0 lets it live.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import isolift_agent.agent
import isolift_agent.store
from isolift_agent.__main__ import main
from isolift_agent.agent import Agent
from isolift_agent.events import Effect, Event
from isolift_agent.memory import Memory
from isolift_agent.store import Store
from isolift_agent.worker import Task, Worker

if TYPE_CHECKING:
    from _typeshed import HasFileno


class Moments:
    """Counts the moments of this process, and ends it at the last one that it is to have."""

    def __init__(self, last: int, log: Path) -> None:
        self._last = last
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._count = 0
        self._lock = threading.Lock()

    def comes(self, name: str) -> None:
        """The moment ``name`` has come."""
        with self._lock:
            self._count += 1
            os.write(self._log, f"{name}\n".encode())
            if self._count == self._last:
                os.kill(os.getpid(), signal.SIGKILL)


def mortal(moments: Moments) -> None:
    """Let every agent of this process have these moments."""
    sync = os.fsync

    def synced(fd: HasFileno | int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{fd}")).name
        about = MortalStore.recorded if name.startswith("journal") else name
        moments.comes(f"before the fsync of {about}")
        sync(fd)
        moments.comes(f"after the fsync of {about}")

    class MortalStore(Store):
        recorded = ""

        def keep(self, memory: Memory) -> None:
            if memory is not getattr(self, "memory", None):
                MortalStore.recorded = memory.current.state.value if memory.current else "no upgrade"
                moments.comes(f"before the record of {MortalStore.recorded}")
            super().keep(memory)

    class MortalWorker(Worker):
        def submit(self, task: Task) -> None:
            def mortal_task(abandoned: Callable[[], bool]) -> Event | None:
                moments.comes("before a task")
                event = task(abandoned)
                moments.comes(f"after a task: {type(event).__name__}")
                return event

            super().submit(mortal_task)

    class MortalAgent(Agent):
        def _do(self, effect: Effect) -> None:
            moments.comes(f"before the deed {type(effect).__name__}")
            super()._do(effect)

    os.fsync = synced
    isolift_agent.store.Store = MortalStore  # type: ignore[misc]
    isolift_agent.agent.Worker = MortalWorker  # type: ignore[attr-defined]
    isolift_agent.agent.Agent = MortalAgent  # type: ignore[misc]


if __name__ == "__main__":
    mortal(Moments(int(sys.argv[1]), Path(sys.argv[2])))
    sys.exit(main(sys.argv[3:]))
