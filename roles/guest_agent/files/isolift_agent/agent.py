# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent at work: one loop that turns what happens into events, and the core's effects into deeds.

Nothing wakes the loop but the port, the control socket, the end of a task, a signal or a deadline that is due.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from functools import partial
from typing import Callable

from . import __version__, events, log
from .channel import Channel, OpenPort
from .clock import HostClock
from .config import Config
from .control import ControlServer, Reply
from .events import Effect, Event
from .journal import JournalError
from .lifecycle import due, handle, must_record
from .link import Link
from .memory import Memory, Upgrade
from .mounts import mounted
from .prompt import Prompt
from .session import Brought, Heard, Opened, Taken
from .states import State
from .status import status
from .store import Store, fresh_generation
from .wire import Hello
from .worker import Task, Worker

LONGEST_SLEEP_S = 6 * 3600.0
RECORD_AGAIN_S = 10.0
"""Seconds between attempts to write what the journal lacks."""

RENEW_S = 60.0
"""Seconds of rest after its work that an agent begins anew. What a task needs of Python takes a quarter of its memory (OpenSSL most of it),
which no process can give back but by ending."""

_STOP_S = 5.0


class TaskCrashed(Exception):
    """A task ended in a way that nobody foresaw. A new process begins with what the journal says."""


class Agent:
    """Everything wired together. `run` returns after `stop`, or when it is time to begin anew."""

    def __init__(self, config: Config, store: Store, open_port: OpenPort) -> None:
        self._config = config
        self._store = store
        self._clock = HostClock()
        self._epoll = select.epoll()
        self._link = Link(Channel(open_port, self._epoll), self._hello)
        self._control = ControlServer(config.control_socket, self._epoll, self._answer_control)
        self._worker = Worker(self._post, self._crash)
        self._prompt = Prompt(config.prompt, config.state_dir / "prompt.json", self._post)
        self._posted: deque[Event] = deque()
        self._crashed = False
        self._stopping = False
        self._record_at: float | None = time.monotonic() if store.behind else None
        self._has_worked = False
        self._handled_at = 0.0
        self._wake_out, self._wake_in = os.pipe()
        for end in (self._wake_out, self._wake_in):
            os.set_blocking(end, False)
        self._epoll.register(self._wake_out, select.EPOLLIN)

    @property
    def wakeup(self) -> int:
        """A descriptor; a byte written to it wakes the loop. Safe in signal handlers."""
        return self._wake_in

    def stop(self) -> None:
        """Let `run` return soon. Safe in signal handlers."""
        self._stopping = True

    @property
    def begins_anew(self) -> bool:
        """Whether nobody stopped it: after `run`, that it is time for another process."""
        return not self._stopping

    def run(self) -> None:
        """Work until stopped, or until nothing is left to do for a while after some work.

        :raises TaskCrashed: see there.
        """
        self._tidy()
        self._handle(events.Restarted())
        while not self._stopping and not self._is_worn():
            self._link.open_port()
            for file, mask in self._epoll.poll(self._timeout()):
                self._ready(file, mask)
            self._handle_posted()
            if self._crashed:
                raise TaskCrashed("a task failed; its traceback was printed")
        self._shut_down()

    def _is_worn(self) -> bool:
        wait = self._renew_in()
        return wait is not None and wait <= 0

    def _renew_in(self) -> float | None:
        """Seconds until this process has rested long enough; None if it is not at rest, or did not work before."""
        memory = self._store.memory
        is_busy = memory.current or memory.waiting or memory.outbox or self._store.behind
        if is_busy or not self._has_worked:
            return None
        if self._worker.is_busy:
            return RENEW_S  # it cleans up, and says nothing when it is done
        return self._handled_at + RENEW_S - time.monotonic()

    def _shut_down(self) -> None:
        self._prompt.stop()
        upgrade = self._store.memory.current
        installing = upgrade is not None and upgrade.state is State.INSTALLING
        self._worker.stop(0.0 if installing else _STOP_S)  # an installer is not waited for: it outlives us
        self._control.close()
        self._link.close()

    # The loop.

    def _timeout(self) -> float:
        """Seconds until something is due."""
        waits = [LONGEST_SLEEP_S]
        for wait in (self._link.due_in(), self._deadline_in(), self._record_in(), self._renew_in()):
            if wait is not None:
                waits.append(max(0.0, wait) + 0.01)  # never a moment too early
        return min(waits)

    def _deadline_in(self) -> float | None:
        """Seconds until the core should be told that time has passed."""
        now, deadline = self._clock.now(), due(self._store.memory)
        return None if now is None or deadline is None else deadline - now

    def _record_in(self) -> float | None:
        """Seconds until writing the journal should be tried again; None if it lacks nothing."""
        return None if self._record_at is None else self._record_at - time.monotonic()

    def _ready(self, file: int, mask: int) -> None:
        if file == self._wake_out:
            while self._drained():
                pass
        elif file == self._link.port:
            for heard in self._link.hear(mask):
                self._handle_heard(heard)
        elif self._control.owns(file):
            self._control.ready(file)

    def _drained(self) -> bytes:
        try:
            return os.read(self._wake_out, 4096)
        except BlockingIOError:
            return b""

    def _handle_posted(self) -> None:
        while self._posted:
            self._handle(self._posted.popleft())
        wait = self._deadline_in()
        if wait is not None and wait <= 0:
            self._handle(events.Ticked())
        wait = self._record_in()
        if wait is not None and wait <= 0:
            self._record(self._store.memory)

    def _post(self, event: Event) -> None:
        """Take an event from another thread."""
        self._posted.append(event)
        self._wake()

    def _crash(self) -> None:
        self._crashed = True
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_in, b"\0")
        except BlockingIOError:
            pass  # it is full, so the loop will wake

    # The relay.

    def _hello(self) -> Hello:
        return Hello(
            nonce=os.urandom(16).hex(),
            agent_version=__version__,
            vm=self._store.memory.vm,
            generation=self._store.memory.generation,
            counter=self._store.count,
        )

    def _handle_heard(self, heard: Heard) -> None:
        if isinstance(heard, Opened):
            self._clock.set(heard.now)
            log.info(f"session open: this is VM {heard.vm}")
            self._handle(events.Welcomed(heard.vm, fresh_generation()))
        elif isinstance(heard, Brought):
            self._clock.set(heard.now)
            log.info(f"{heard.message.payload.TYPE} for upgrade {heard.message.upgrade_id}")
            self._handle(events.Commanded(heard.message))
        elif isinstance(heard, Taken):
            if heard.refused:
                log.warning(f"the relay refused message {heard.message_id}: {heard.refused}")
            self._handle(events.Acknowledged(heard.message_id, heard.refused))

    # Events and effects.

    def _handle(self, event: Event) -> None:
        self._handled_at = time.monotonic()
        pending = deque([event])
        while pending:
            for effect in self._step(pending.popleft()):
                if isinstance(effect, events.Repeat):
                    pending.append(effect.event)
                else:
                    self._do(effect)

    def _step(self, event: Event) -> list[Effect]:
        """Let the core decide, and make its decision safe. What it wants done may be done then."""
        before, now = self._store.memory, self._clock.now()
        memory, effects = handle(before, event, now)
        problem = self._record(memory)
        if problem:
            if must_record(before, memory):
                memory, effects = handle(before, events.Unrecorded(event, problem), now)
            self._store.keep_unrecorded(memory)
        _log_move(before.current, memory.current)
        return effects

    def _record(self, memory: Memory) -> str:
        """Make ``memory`` safe; why that was not possible, empty if it was. It is tried again later."""
        held = [message for message in memory.outbox if self._store.holds_back(message)]
        try:
            self._store.keep(memory)
        except JournalError as error:
            if self._record_at is None:
                log.error(f"{error}; nothing new is begun until that works again")
            self._record_at = time.monotonic() + RECORD_AGAIN_S
            return str(error)
        if self._record_at is not None:
            self._record_at = None
            log.info("the journal is written again")
            for message in held:
                self._link.carry(message)
            self._tidy_work()
        return ""

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, events.Transmit):
            if not self._store.holds_back(effect.message):
                self._link.carry(effect.message)
        elif isinstance(effect, events.Acknowledge):
            self._link.acknowledge(effect.message_id, effect.refused)
        elif isinstance(effect, events.Greet):
            self._link.greet()
        elif isinstance(effect, events.Ask):
            self._prompt.ask(effect.upgrade)
        elif isinstance(effect, events.StopAsking):
            self._prompt.stop()
        elif isinstance(effect, events.Abandon):
            self._worker.abandon()
        else:
            self._worker.submit(self._task(effect))

    def _task(self, effect: Effect) -> Task:
        from . import tasks  # here, because an idle agent has none

        self._has_worked = True
        config = self._config
        if isinstance(effect, events.Clean):
            # Until the journal says that an upgrade is over, what shows how it ended is kept.
            only_copies = self._store.behind
            return lambda _abandoned: tasks.clean(config, "", only_copies)
        if isinstance(effect, events.Prepare):
            prepared = effect.upgrade
            return lambda abandoned: tasks.prepare(config, prepared, abandoned)
        if isinstance(effect, events.Inspect):
            inspected = effect.upgrade
            return lambda abandoned: tasks.inspect(config, inspected, abandoned)
        if isinstance(effect, events.Install):
            return partial(_unabandoned, tasks.install, config, effect.upgrade)
        assert isinstance(effect, events.Settle)
        return partial(_unabandoned, tasks.settle, config, effect.upgrade)

    def _tidy(self) -> None:
        """Remove what an agent that was killed left behind."""
        self._prompt.recover()
        self._tidy_work()

    def _tidy_work(self) -> None:
        config, current = self._config, self._store.memory.current
        if mounted(config.mount_point) or (config.work_dir.is_dir() and os.listdir(config.work_dir)):
            from . import tasks  # here, because there is mostly nothing to remove

            keep = current.upgrade_id if current else ""
            self._worker.submit(lambda _abandoned: tasks.clean(config, keep))

    # The control socket.

    def _answer_control(self, request: str) -> Reply:
        if request == "status":
            return status(self._store, self._link)
        if request not in ("answer confirm", "answer decline"):
            return {"ok": False, "error": "unknown request"}
        upgrade = self._store.memory.current
        if upgrade is None or upgrade.state is not State.ASKING:
            return {"ok": False, "error": "nothing is being asked"}
        self._handle(events.Answered(upgrade.upgrade_id, request == "answer confirm"))
        return {"ok": True, "upgrade_id": upgrade.upgrade_id}


def _unabandoned(
    work: Callable[[Config, Upgrade], Event], config: Config, upgrade: Upgrade, _abandoned: Callable[[], bool]
) -> Event:
    """A task that is too short, or too far gone, to be abandoned."""
    return work(config, upgrade)


def _log_move(before: Upgrade | None, after: Upgrade | None) -> None:
    if before and (after is None or after.upgrade_id != before.upgrade_id):
        log.info(f"upgrade {before.upgrade_id}: {before.state.value}, done")
    if after and (before is None or (before.upgrade_id, before.state) != (after.upgrade_id, after.state)):
        log.info(f"upgrade {after.upgrade_id}: {after.state.value}")
