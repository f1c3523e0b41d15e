# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's agent: the real lifecycle, journal, link, session and clock, on a simulated machine.

It does what `isolift_agent.agent.Agent` does, without threads, descriptors and time of its own.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from isolift_agent import clock, events, journal, link, log, store
from isolift_agent.agent import RECORD_AGAIN_S
from isolift_agent.channel import Channel, LineBuffer
from isolift_agent.events import Effect, Event
from isolift_agent.journal import JournalError
from isolift_agent.lifecycle import due, handle, must_record
from isolift_agent.memory import Memory
from isolift_agent.session import Brought, Heard, Opened, Taken
from isolift_agent.wire import Hello, Message
from simulation.domain import Domain
from simulation.files import GuestJournal, GuestPath, Kernel
from simulation.ground import Ground, Killed, Process
from simulation.invariants import Invariants
from simulation.kinds import Fault, Kind
from simulation.port import Port
from simulation.tasks import Worker

COMPACT_ABOVE = 8 * 1024
"""Bytes beyond which an agent's journal is rewritten, few enough to be reached in a run."""


class GuestTime:
    """Stands for the module ``time`` in the agent: the clocks of the guest that is at work. Its wall clock is often wrong."""

    CLOCK_BOOTTIME = 7
    domain: Domain

    def clock_gettime(self, which: int) -> float:
        """The boot clock, or a wrong one."""
        return self.domain.boot_time() if which == self.CLOCK_BOOTTIME else self.time()

    def monotonic(self) -> float:
        """Seconds since the guest booted."""
        return self.domain.boot_time()

    def time(self) -> float:
        """What the guest takes for the time."""
        return self.domain.ground.now + self.domain.wall_offset


guest_time = GuestTime()


@contextmanager
def simulated_machine(ground: Ground) -> Iterator[None]:
    """Give the agent's code the guests' clocks, names that do not depend on chance, and the trace for its log."""
    names = ground.random()
    with ExitStack() as stack:
        for module in (clock, link):
            stack.enter_context(patch.object(module, "time", guest_time))
        stack.enter_context(patch.object(journal, "os", Kernel()))
        stack.enter_context(patch.object(journal, "COMPACT_ABOVE", COMPACT_ABOVE))
        stack.enter_context(patch.object(store, "Journal", GuestJournal))
        stack.enter_context(patch.object(log, "_write", lambda _level, text: ground.say("log", text)))
        stack.enter_context(patch.object(store, "fresh_generation", lambda: f"{names.getrandbits(64):016x}"))
        yield


class PortChannel(Channel):
    """The agent's channel, on a simulated port."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._file = None
        self._lines = LineBuffer()
        self._unsent = bytearray()
        self.host = False
        self.inbox = b""

    def open(self) -> None:
        """Open the port; whether the host is there is reported at once."""
        self._file = 0
        port = self._guest.domain.port
        port.open(self._guest)
        self._guest.later(0.0, self._guest.host_is, port.host_there)

    def close(self) -> None:
        """Let go of the port."""
        self._file = None
        self._guest.domain.port.leave(self._guest)
        self._host_left()

    def _read(self) -> list[bytes]:
        if not self._guest.domain.port.host_there and not self.inbox:
            self._host_left()
        data, self.inbox = self.inbox, b""
        return self._lines.feed(data)

    def _flush(self) -> None:
        if self._unsent and self._guest.domain.port.host_there:
            data = bytes(self._unsent)
            self._unsent.clear()
            self._guest.domain.port.write_up(self._guest, data)


class Guest(Process):
    """The agent's process in one VM.

    :ivar decided_at: the host's time when it decided to run the installer, as far as it was told that.
    :ivar claims: the highest (epoch, nonce) of each campaign that this disk or this process obeyed.
    """

    def __init__(self, ground: Ground, domain: Domain, invariants: Invariants) -> None:
        super().__init__(ground, f"agent {domain.number}")
        self.domain = domain
        self.invariants = invariants
        self.random = ground.random()
        self.decided_at: float | None = None
        self._told: tuple[float, float] | None = None  # the host's time and the boot clock at that moment
        self.claims: dict[str, tuple[int, str]] = {}
        self._hellos = 0

    def start(self) -> None:
        """The agent begins with what its disk says."""
        self.begin()
        guest_time.domain = self.domain
        self.say("starts")
        self._told = None
        self._is_behind = False
        self.claims = dict(self.domain.disk.claims)
        self._question = 0
        self._armed = 0.0
        self.store = store.Store(cast(Path, GuestPath(self.domain.disk.files, self)))
        self.invariants.agent_began(self)
        self._clock = clock.HostClock()
        self._channel = PortChannel(self)
        self._link = link.Link(self._channel, self._hello)
        self.worker = Worker(self)
        current = self.store.memory.current
        self.worker.tidy(current.upgrade_id if current else "")
        self._handle(events.Restarted())
        self._link.open_port()

    def end(self) -> None:
        """The agent is gone, and the kernel closes its port."""
        super().end()
        self.domain.port.leave(self)
        self.domain.is_mounted = False

    def take(self, run: int, action: Any, *arguments: Any) -> None:
        """Whatever this process does, it does by the clocks of its guest."""
        guest_time.domain = self.domain
        super().take(run, action, *arguments)

    # The disk

    def at_write(self) -> Fault | None:
        """The journal is about to change what is on the disk."""
        return self.ground.reached(f"record {self.domain.number}")

    def stop(self, fault: Fault) -> None:
        """The agent is killed in the middle of that, or the guest loses its power.

        :raises Killed: always.
        """
        self.ground.happen(fault)
        if fault.other % 2:
            self.domain.disk.files.lose_power(fault.share)
            self.ground.after(0.0, self.domain.reset)
        raise Killed(self, fault.seconds)

    def is_full(self) -> bool:
        """Whether the disk is full."""
        is_full = self.ground.now < self.domain.full_until
        if is_full:
            self.ground.bite(self.domain.full)
        return is_full

    # The port

    def readable(self, data: bytes) -> None:
        """The host sent bytes."""
        self._channel.inbox += data
        self._hear(select.EPOLLIN)

    def host_is(self, there: bool) -> None:
        """The host's client came or left."""
        self._hear(select.EPOLLIN if there else select.EPOLLHUP)

    def port_moved(self, old: Port) -> None:
        """The domain moved; the descriptor survives."""
        if self.alive:
            old.leave(self)
            self.domain.port.open(self)
            self.later(0.0, self.host_is, False)

    def _hear(self, mask: int) -> None:
        for heard in self._link.hear(mask):
            self._handle_heard(heard)

    def _hello(self) -> Hello:
        self._hellos += 1
        memory = self.store.memory
        return Hello(
            nonce=f"{self.name}-{self._hellos}",
            agent_version="0.1.0",
            vm=memory.vm,
            generation=memory.generation,
            counter=self.store.count,
        )

    def _handle_heard(self, heard: Heard) -> None:
        if isinstance(heard, Opened):
            self._set_clock(heard.now)
            self._handle(events.Welcomed(heard.vm, f"{self.random.getrandbits(64):016x}"))
        elif isinstance(heard, Brought):
            self._set_clock(heard.now)
            self._handle(events.Commanded(heard.message))
        elif isinstance(heard, Taken):
            self._handle(events.Acknowledged(heard.message_id, heard.refused))

    def host_time(self) -> float | None:
        """The host's time as this process was told it last and the boot clock counted on."""
        return self._told and self._told[0] + self.domain.boot_time() - self._told[1]

    def _set_clock(self, now: float) -> None:
        self._clock.set(now)
        self._told = (now, self.domain.boot_time())

    # Events and effects

    def post(self, event: Event) -> None:
        """A task, or the user, has something to say."""
        self._handle(event)

    def _handle(self, event: Event) -> None:
        pending = deque([event])
        while pending:
            for effect in self._step(pending.popleft()):
                if isinstance(effect, events.Repeat):
                    pending.append(effect.event)
                else:
                    self.point()
                    self._do(effect)
        self._arm()

    def _step(self, event: Event) -> list[Effect]:
        before, now = self.store.memory, self._clock.now()
        memory, effects = handle(before, event, now)
        self.point()
        problem = self._record(memory)
        if problem:
            if must_record(before, memory):
                memory, effects = handle(before, events.Unrecorded(event, problem), now)
            self.store.keep_unrecorded(memory)
        if self.ground.trace is not None:
            self._trace(event, effects)
        self.invariants.agent_stepped(self, event, before, effects, not problem)
        self.point()
        return effects

    def _record(self, memory: Memory) -> str:
        """Make ``memory`` safe, or try again later: why that was not possible."""
        held = [message for message in memory.outbox if self.store.holds_back(message)]
        try:
            self.store.keep(memory)
        except JournalError as error:
            if not self._is_behind:
                self.later(RECORD_AGAIN_S, self._record_again)
            self._is_behind = True
            return str(error)
        if self._is_behind:
            self._is_behind = False
            for message in held:
                self._say(message)
        return ""

    def _record_again(self) -> None:
        if self._is_behind and self._record(self.store.memory):
            self.later(RECORD_AGAIN_S, self._record_again)

    def _say(self, message: Message) -> None:
        if self._link.open:
            self.invariants.agent_says(self, message)
        self._link.carry(message)

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, events.Transmit):
            if not self.store.holds_back(effect.message):
                self._say(effect.message)
        elif isinstance(effect, events.Acknowledge):
            self._link.acknowledge(effect.message_id, effect.refused)
        elif isinstance(effect, events.Greet):
            self._link.greet()
        elif isinstance(effect, events.Ask):
            self._ask(effect)
        elif isinstance(effect, events.StopAsking):
            self._question += 1
        elif isinstance(effect, events.Abandon):
            self.worker.abandon()
        else:
            self.worker.submit(effect)

    def _ask(self, effect: events.Ask) -> None:
        habits = self.domain.habits
        if habits.answer == "never":
            self.domain.shows(Kind.USER_NEVER)
            return
        wait = habits.answer_s
        if habits.late_s:
            wait = max(0.0, effect.upgrade.expires_at - (self._clock.now() or 0.0)) + habits.late_s
        self._question += 1
        self.later(wait, self._answer, self._question, effect.upgrade.upgrade_id)

    def _answer(self, question: int, upgrade_id: str) -> None:
        if question == self._question:
            habits = self.domain.habits
            if habits.late_s:
                self.domain.shows(Kind.USER_LATE)
            if habits.answer == "decline":
                self.domain.shows(Kind.USER_DECLINES)
            self._handle(events.Answered(upgrade_id, habits.answer == "confirm"))

    # Time

    def _arm(self) -> None:
        """Be woken when the core wants to know that time has passed."""
        now, deadline = self._clock.now(), due(self.store.memory)
        if now is not None and deadline is not None and deadline != self._armed:
            self._armed = deadline
            self.later(max(0.0, deadline - now) + 0.01, self._wake)

    def _wake(self) -> None:
        self._armed = 0.0
        now, deadline = self._clock.now(), due(self.store.memory)
        if now is not None and deadline is not None and now >= deadline:
            self._handle(events.Ticked())
        else:
            self._arm()

    def _trace(self, event: Event, effects: list[Effect]) -> None:
        current = self.store.memory.current
        state = f"{current.state.value}" if current else "idle"
        self.say(f"{_brief(event)} → {state}; {', '.join(map(_brief, effects))}")


def _brief(item: Any) -> str:
    name = type(item).__name__
    message = getattr(item, "message", None)
    if message is not None:
        return f"{name} {message.payload.TYPE} {message.message_id}"
    refused = getattr(item, "refused", "")
    return f"{name} {item.message_id} {refused}".strip() if hasattr(item, "message_id") else name
