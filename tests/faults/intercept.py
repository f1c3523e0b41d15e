# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy between one client and the broker that stops a connection at a chosen message.

A stopped connection is open, and nothing passes on it in either direction. So whatever is done then is done at a moment that is
known: the message was provably not sent, or provably arrived.
"""

from __future__ import annotations

import contextlib
import enum
import json
import queue
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .amqp import PROTOCOL_HEADER, Acknowledgement, Delivery, Publication, Reader, Unit

_CONNECT_S = 10.0


class Stop(enum.Enum):
    """Where on its way a message stops the connection."""

    PUBLISHING = "published by the client, and the broker does not get it"
    PUBLISHED = "confirmed by the broker, and the client does not hear it"
    DELIVERING = "delivered by the broker, and the client does not get it"
    DELIVERED = "acknowledged by the client, and the broker does not hear it"


@dataclass(frozen=True)
class Breakpoint:
    """Stop at the message ``type`` of ``vm``."""

    stop: Stop
    type: str
    vm: str


@dataclass(frozen=True)
class Hit:
    """A connection was stopped by ``breakpoint`` at ``message``, and stays so until it is resumed or broken."""

    breakpoint: Breakpoint
    message: dict[str, Any]
    connection: _Connection

    def resume(self) -> None:
        """Pass on what was held, and all that comes."""
        self.connection.resume()

    def sever(self) -> None:
        """Break the connection; what was held is lost."""
        self.connection.abort()


class Interceptor:
    """Listens on a port of ``address`` and passes every connection on to ``broker``, but for the breakpoints.

    Each breakpoint stops one connection, once. What was hit is put into ``hits``.
    """

    def __init__(self, address: str, broker: tuple[str, int], hits: queue.Queue[Hit]) -> None:
        self._broker = broker
        self._hits = hits
        self._lock = threading.Lock()
        self._breakpoints: list[Breakpoint] = []
        self._connections: list[_Connection] = []
        self._listener = socket.create_server((address, 0))
        self.address = address
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Interceptor:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(_CONNECT_S * 2)
        for connection in self._connections:
            connection.abort()

    def stop_at(self, breakpoints: Iterable[Breakpoint]) -> None:
        """Add breakpoints."""
        with self._lock:
            self._breakpoints.extend(breakpoints)

    def take(self, stop: Stop, message: dict[str, Any]) -> Breakpoint | None:
        """The breakpoint that ``message`` meets, if any; it is used up."""
        met = Breakpoint(stop, str(message.get("type")), str(message.get("vm")))
        with self._lock:
            if met not in self._breakpoints:
                return None
            self._breakpoints.remove(met)
            return met

    def hit(self, hit: Hit) -> None:
        """A connection of ours was stopped."""
        self._hits.put(hit)

    def _accept(self) -> None:
        while True:
            try:
                near, _address = self._listener.accept()
            except OSError:
                return  # closed
            try:
                far = socket.create_connection(self._broker, timeout=_CONNECT_S)
            except OSError:
                near.close()  # the broker is away: so are we
                continue
            far.settimeout(None)
            connection = _Connection(self, near, far)
            self._connections.append(connection)
            connection.begin()


@dataclass(frozen=True)
class _Awaited:
    """A hit that comes with the acknowledgement of ``tag`` on ``channel``, by the client or by the broker."""

    upward: bool
    channel: int
    tag: int
    hit: Hit


class _Connection:
    """One client's connection: two threads, one for each direction."""

    def __init__(self, interceptor: Interceptor, near: socket.socket, far: socket.socket) -> None:
        self._interceptor = interceptor
        self._near, self._far = near, far
        self._lock = threading.RLock()
        self._awaited: list[_Awaited] = []
        self._closing = False  # a publication awaits its confirm: nothing else passes any more
        self._stopped = False
        self._held: list[tuple[Unit, bool]] = []

    def begin(self) -> None:
        """Pass on what comes."""
        for upward in (True, False):
            threading.Thread(target=self._pump, args=(upward,), daemon=True).start()

    def resume(self) -> None:
        """Go on after a stop, with what was held."""
        with self._lock:
            self._stopped = self._closing = False
            held, self._held = self._held, []
            for unit, upward in held:
                self._pass_on(unit, upward)

    def abort(self) -> None:
        """Break the connection at both ends. Breakpoints that it was about to hit are open again."""
        with self._lock:
            self._stopped = True
            missed, self._awaited = [awaited.hit.breakpoint for awaited in self._awaited], []
        self._interceptor.stop_at(missed)
        for end in (self._near, self._far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _pump(self, upward: bool) -> None:
        source = self._near if upward else self._far
        reader = Reader(PROTOCOL_HEADER if upward else 0)
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                for unit in reader.feed(data):
                    with self._lock:
                        self._pass_on(unit, upward)
        self.abort()

    def _pass_on(self, unit: Unit, upward: bool) -> None:
        """Forward ``unit``, unless the connection is stopped or ``unit`` stops it."""
        # While a confirm is awaited nothing else may be the moment: it would keep the confirm back, and that moment never came.
        deaf = self._stopped or (self._closing and not isinstance(unit, Acknowledgement))
        hit = None if deaf else self._hit_by(unit, upward)
        if hit is not None:
            self._stopped = True
            self._interceptor.hit(hit)
        if self._stopped or self._closing:
            self._held.append((unit, upward))
        else:
            (self._far if upward else self._near).sendall(unit.raw)
            self._await(unit)

    def _hit_by(self, unit: Unit, upward: bool) -> Hit | None:
        """The hit that ``unit`` causes before it is forwarded."""
        if isinstance(unit, Publication):
            return self._met(Stop.PUBLISHING, unit.body)
        if isinstance(unit, Delivery):
            return self._met(Stop.DELIVERING, unit.body)
        if isinstance(unit, Acknowledgement):
            for awaited in self._awaited:
                if awaited.upward == upward and unit.covers(awaited.channel, awaited.tag):
                    self._awaited.remove(awaited)
                    return awaited.hit
        return None

    def _await(self, unit: Unit) -> None:
        """Watch for the acknowledgement of ``unit``, which was forwarded, if a breakpoint wants that."""
        if isinstance(unit, Publication):
            hit = self._met(Stop.PUBLISHED, unit.body)
            if hit is not None:
                self._closing = True
                self._awaited.append(_Awaited(False, unit.channel, unit.number, hit))
        elif isinstance(unit, Delivery):
            hit = self._met(Stop.DELIVERED, unit.body)
            if hit is not None:
                self._awaited.append(_Awaited(True, unit.channel, unit.tag, hit))

    def _met(self, stop: Stop, body: bytes) -> Hit | None:
        """The hit that one of the messages of ``body``, a line each, causes."""
        for line in body.splitlines():
            try:
                message = json.loads(line)
            except ValueError:
                continue
            found = self._interceptor.take(stop, message) if isinstance(message, dict) else None
            if found:
                return Hit(found, message, self)
        return None
