# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One emulated VM: the socket on which its QEMU would listen, and the agent behind it.

The agent is the real one from the port to the core: channel, link, session, lifecycle. Stand-ins are its journal, which is kept in memory
and never fails, and its tasks (disc, installer, version), which are done at once. A guest's disk and processor are its own, so
what they cost says nothing about the host that is measured here.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from isolift_agent import events
from isolift_agent.channel import Channel, OpenPort
from isolift_agent.clock import HostClock
from isolift_agent.events import Effect, Event
from isolift_agent.lifecycle import handle
from isolift_agent.link import Link
from isolift_agent.memory import Memory, Upgrade
from isolift_agent.session import Brought, Heard, Opened, Taken
from isolift_agent.wire import Facts, Hello
from scale.fleet import Vm

AGENT_VERSION = "scale"

_FACTS: Facts = {
    "agent_version": AGENT_VERSION,
    "arch": "x86_64",
    "free_bytes": 21_474_836_480,
    "kernel": "6.1.0-18-amd64",
    "memory_bytes": 4_294_967_296,
    "os_id": "debian",
    "os_version": "12",
    "sessions": 0,
    "uptime_s": 86_400,
}
_LOG_TAIL = "\n".join(f"installer: step {number} of 6 done" for number in range(1, 7))
_ARRIVALS = select.EPOLLIN | select.EPOLLET


@dataclass
class Deeds:
    """What some guests did, and how many lines and bytes went over their ports."""

    installs: int = 0
    sent: int = 0
    sent_bytes: int = 0
    heard: int = 0
    heard_bytes: int = 0


class CountedChannel(Channel):
    """A port on which is counted what goes over it."""

    def __init__(self, open_port: OpenPort, epoll: select.epoll, deeds: Deeds) -> None:
        super().__init__(open_port, epoll)
        self._deeds = deeds

    def ready(self, events: int) -> list[bytes]:
        """As the agent's."""
        lines = super().ready(events)
        self._deeds.heard += len(lines)
        self._deeds.heard_bytes += sum(map(len, lines)) + len(lines)
        return lines

    def send(self, line: bytes) -> None:
        """As the agent's."""
        super().send(line)
        self._deeds.sent += 1
        self._deeds.sent_bytes += len(line)


class PretendedComponent:
    """A component that is only a version."""

    def __init__(self) -> None:
        self.version = "1.0.0"

    def install(self, version: str) -> None:
        """Make ``version`` the installed one."""
        self.version = version


class DirectoryComponent:
    """A component in a directory, with an installer of its own (see targets.py)."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    @property
    def version(self) -> str:
        """The installed version."""
        return (self._directory / "version").read_text().strip()

    def install(self, version: str) -> None:
        """Run the installer."""
        subprocess.run(["sh", self._directory / "install.sh", version], check=True)


class Guest:
    """One VM, watched by an epoll that its owner polls."""

    def __init__(self, vm: Vm, epoll: select.epoll, deeds: Deeds) -> None:
        self._deeds = deeds
        self._component = DirectoryComponent(vm.directory) if vm.directory else PretendedComponent()
        self._memory = Memory(generation=os.urandom(8).hex())
        self._steps = 0
        self._clock = HostClock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(vm.path)
        self._listener.listen(1)
        self._epoll = epoll
        self._link = self._new_link()
        epoll.register(self._listener, _ARRIVALS)

    @property
    def listener(self) -> int:
        """The descriptor of the listening socket."""
        return self._listener.fileno()

    @property
    def port(self) -> int | None:
        """The descriptor of the connection with the relay, if there is one."""
        return self._link.port

    @property
    def open(self) -> bool:
        """Whether agent and relay have a session."""
        return self._link.open

    def connect(self) -> None:
        """Take the relay that waits, unless there is one already; it waits on then, as it does with QEMU."""
        if self.port is None:
            self._link = self._new_link()
            self._link.open_port()

    def ready(self, mask: int) -> None:
        """Go on after the kernel reported ``mask`` for the connection."""
        for heard in self._link.hear(mask):
            self._handle_heard(heard)
        if mask & select.EPOLLHUP:
            self._link.close()
        if self.port is None:
            self._epoll.modify(self._listener, _ARRIVALS)  # tells again of a relay that waits

    def _new_link(self) -> Link:
        return Link(CountedChannel(self._accept, self._epoll, self._deeds), self._hello)

    def _accept(self) -> int:
        connection, _address = self._listener.accept()
        connection.setblocking(False)
        return connection.detach()

    def _hello(self) -> Hello:
        memory = self._memory
        return Hello(os.urandom(16).hex(), AGENT_VERSION, memory.vm, memory.generation, self._steps)

    def _handle_heard(self, heard: Heard) -> None:
        if isinstance(heard, Opened):
            self._clock.set(heard.now)
            self._handle(events.Welcomed(heard.vm, os.urandom(8).hex()))
        elif isinstance(heard, Brought):
            self._clock.set(heard.now)
            self._handle(events.Commanded(heard.message))
        elif isinstance(heard, Taken):
            self._handle(events.Acknowledged(heard.message_id, heard.refused))

    def _handle(self, event: Event) -> None:
        pending = deque([event])
        while pending:
            self._memory, effects = handle(self._memory, pending.popleft(), self._clock.now())
            self._steps += 1
            for effect in effects:
                following = self._do(effect)
                if following is not None:
                    pending.append(following)

    def _do(self, effect: Effect) -> Event | None:
        """Do it; return the event that follows from it, if one does."""
        if isinstance(effect, events.Transmit):
            self._link.carry(effect.message)
        elif isinstance(effect, events.Acknowledge):
            self._link.acknowledge(effect.message_id, effect.refused)
        elif isinstance(effect, events.Greet):
            self._link.greet()
        elif isinstance(effect, events.Repeat):
            return effect.event
        elif isinstance(effect, events.Ask):
            return events.Answered(effect.upgrade.upgrade_id, confirmed=True)
        elif isinstance(effect, events.Inspect):
            return self._inspect(effect.upgrade)
        elif isinstance(effect, events.Prepare):
            return events.Prepared(effect.upgrade.upgrade_id, unmounted=True)
        elif isinstance(effect, events.Install):
            return self._install(effect.upgrade)
        return None

    def _inspect(self, upgrade: Upgrade) -> Event:
        start = upgrade.start
        return events.Inspected(
            upgrade.upgrade_id,
            True,
            None,
            start.component,
            start.target_version,
            self._component.version,
            _FACTS,
        )

    def _install(self, upgrade: Upgrade) -> Event:
        self._deeds.installs += 1
        self._component.install(upgrade.start.target_version)
        return events.Installed(upgrade.upgrade_id, self._component.version, 0, False, 1.5, _LOG_TAIL)
