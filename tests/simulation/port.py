# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One VM's virtio-serial port, as measured: what it keeps, what it loses, and what it does not say.

Bytes that were sent before the other end opened are delivered when it does. Bytes on their way to an end that left are lost, or go to
the next one that opens, and so does half a line. The host does not learn that the agent died; the guest learns whether a
client of the host is there.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

from simulation.ground import Ground, Process
from simulation.kinds import Fault, Kind
from simulation.lane import Lane

BUFFER = 180 * 1024
"""Bytes that QEMU keeps for an end that does not read."""


class HostEnd(Protocol):
    """A relay's client of the port's socket."""

    @property
    def process(self) -> Process: ...

    def received(self, data: bytes) -> None:
        """The guest sent bytes."""

    def broken(self) -> None:
        """The socket is closed."""


class GuestEnd(Protocol):
    """The agent's open descriptor."""

    @property
    def process(self) -> Process: ...

    def readable(self, data: bytes) -> None:
        """The host sent bytes."""

    def host_is(self, there: bool) -> None:
        """The host's client came or left."""


class Port:
    """The port of one QEMU process; ``path`` is its socket."""

    def __init__(self, ground: Ground, random: Random, number: int, path: str) -> None:
        self.path = path
        self.is_open = True
        self.host_there = False  # as the guest sees it
        self._ground = ground
        self._random = random
        self._subject = f"port {number}"
        self._down = Lane(ground, random, 0.0005, 0.004)
        self._up = Lane(ground, random, 0.0005, 0.004)
        self._host: HostEnd | None = None
        self._guest: GuestEnd | None = None
        self._for_guest = bytearray()
        self._for_host = bytearray()

    # The host's side

    def connect(self, end: HostEnd) -> bool:
        """A client connects; it is heard only if it is the only one."""
        if not self.is_open or self._host is not None:
            return False
        self._host = end
        self._down.put(self._host_is, True)
        if self._for_host:
            self._up.put(self._at_host, b"")
        return True

    def disconnect(self, end: HostEnd) -> None:
        """The client left. Perhaps it had not read everything."""
        if self._host is not end:
            return
        self._host = None
        self._down.put(self._host_is, False)

    def write_down(self, end: HostEnd, data: bytes) -> None:
        """The client writes."""
        if self._host is not end:
            return
        whole = self._spoilt(data, self._down)
        self._down.put(self._at_guest, whole)

    # The guest's side

    def open(self, end: GuestEnd) -> None:
        """The agent opens the port and finds what was kept."""
        self._guest = end
        self._down.put(self._at_guest, b"")

    def leave(self, end: GuestEnd) -> None:
        """The agent closed it, or died."""
        if self._guest is end:
            self._guest = None
            self._lose_some(self._for_guest)

    def write_up(self, end: GuestEnd, data: bytes) -> None:
        """The agent writes."""
        if self._guest is end:
            whole = self._spoilt(data, self._up)
            self._up.put(self._at_host, whole)

    # The machine

    def reset(self) -> None:
        """The guest was reset: the host does not notice."""
        self._guest = None
        self._lose_some(self._for_guest)

    def close(self) -> None:
        """QEMU is gone."""
        self.is_open = False
        self._up.close()
        self._down.close()
        self.break_socket()

    def break_socket(self) -> None:
        """The client loses its connection."""
        end, self._host = self._host, None
        if end is None:
            return
        self._ground.after(0.001, end.process.take, end.process.run, end.broken)
        self._down.put(self._host_is, False)

    # Inside

    def _at_guest(self, data: bytes) -> None:
        self._for_guest += data
        if self._guest is None:
            del self._for_guest[BUFFER:]
        elif self._for_guest:
            self._pass(self._guest.process, self._guest.readable, self._for_guest)

    def _at_host(self, data: bytes) -> None:
        self._for_host += data
        if self._host is None:
            self._lose_some(self._for_host)
        elif self._for_host:
            self._pass(self._host.process, self._host.received, self._for_host)

    @staticmethod
    def _pass(process: Process, action: Callable[[bytes], None], buffer: bytearray) -> None:
        data = bytes(buffer)
        buffer.clear()
        process.take(process.run, action, data)

    def _host_is(self, there: bool) -> None:
        self.host_there = there
        if self._guest is not None:
            process = self._guest.process
            process.take(process.run, self._guest.host_is, there)

    def _lose_some(self, buffer: bytearray) -> None:
        """Of what nobody reads, all, nothing, or the first part is lost."""
        if buffer:
            del buffer[: self._random.choice((0, len(buffer), self._random.randint(0, len(buffer))))]

    def _spoilt(self, data: bytes, lane: Lane) -> bytes:
        """What is left of ``data``, should something go wrong with it."""
        fault = self._ground.reached(self._subject)
        if fault is None:
            return data
        self._ground.happen(fault)
        if fault.kind is Kind.PORT_LATE_BYTES:
            lane.stall(fault.seconds)
            return data
        self._ground.after(0.05, self.break_socket)  # nothing is lost while both ends stay
        return self._first_part(data, fault) if fault.kind is Kind.PORT_HALF_LINE else b""

    @staticmethod
    def _first_part(data: bytes, fault: Fault) -> bytes:
        return data[: int(len(data) * fault.share)]
