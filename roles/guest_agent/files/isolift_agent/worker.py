# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thread for what takes time: tasks one after the other, their events back to the loop. Without tasks there is no thread."""

from __future__ import annotations

import threading
from collections import deque
from typing import Callable, Optional

from .events import Event

Task = Callable[[Callable[[], bool]], Optional[Event]]
"""What to do; it is given a function that says whether its work is still wanted."""


class Worker:
    """Runs tasks in order. ``post`` is called in the worker's thread with each event that a task returns.

    A task that raises ends the thread, its traceback goes to standard error, and ``crash`` is called: no further task runs.
    """

    def __init__(self, post: Callable[[Event], None], crash: Callable[[], None]) -> None:
        self._post = post
        self._crash = crash
        self._lock = threading.Lock()
        self._tasks: deque[tuple[Task, threading.Event]] = deque()
        self._running: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def submit(self, task: Task) -> None:
        """Run a task after those that are there already."""
        with self._lock:
            self._tasks.append((task, threading.Event()))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
                self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether there is a task that has not ended."""
        with self._lock:
            return self._thread is not None

    def abandon(self) -> None:
        """Tell the running task, and those that have not begun, that their work is not wanted any more."""
        with self._lock:
            for _task, abandoned in self._tasks:
                abandoned.set()
            if self._running:
                self._running.set()

    def stop(self, timeout_s: float) -> None:
        """Drop the tasks that have not begun and give the running one some time to end."""
        with self._lock:
            self._tasks.clear()
            thread = self._thread
        self.abandon()
        if thread:
            thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._tasks:
                    self._thread = self._running = None
                    return
                task, abandoned = self._tasks.popleft()
                self._running = abandoned
            crashed = True
            try:
                event = task(abandoned.is_set)
                crashed = False
            finally:
                if crashed:
                    self._crash()
            if event is not None:
                self._post(event)
