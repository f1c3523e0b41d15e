# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker: streams in log order, commands routed to whoever bound the VM, transient presence, leases, confirms.

A client is told what happens through its `Connection`, whose two lanes keep their order. A connection that is cut off is given up by
both ends after `HEARTBEAT_S`; with it go its queue, its bindings and its lease.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from ansible_collections.isolift.vm.plugins.module_utils.topology import (
    JOURNAL_EXCHANGE,
    PRESENCE_EXCHANGE,
    VM_EXCHANGE,
)
from ansible_collections.isolift.vm.plugins.module_utils.wire import decode
from simulation.ground import Action, Ground, Process, Violation
from simulation.kinds import Fault, Kind
from simulation.lane import Lane

HEARTBEAT_S = 27.0
PREFETCH = 16

CONFIRMED, UNROUTABLE, REFUSED = "confirmed", "unroutable", "refused"

Token = Any


class Client(Protocol):
    """What the broker tells a client. Each call comes as an event of the client's process."""

    @property
    def process(self) -> Process: ...

    def answered(self, token: Token, outcome: str) -> None:
        """The broker's word on a publication."""

    def delivered(self, tag: int, body: bytes) -> None:
        """A command from the queue."""

    def recorded(self, offset: int, body: bytes) -> None:
        """A record of the stream."""

    def present(self, body: bytes) -> None:
        """A presence."""

    def lost(self) -> None:
        """The connection is gone."""


class Connection:
    """One client's connection, and what it holds at the broker."""

    def __init__(self, broker: Broker, client: Client, random: Random) -> None:
        self.client = client
        self.is_open = True
        self._broker = broker
        self._run = client.process.run
        self._ground = broker.ground
        self._up = Lane(broker.ground, random, 0.001, 0.02)
        self._down = Lane(broker.ground, random, 0.001, 0.02)
        self._cuts = 0
        self._queue: deque[bytes] = deque()
        self._unacked: set[int] = set()
        self._tag = 0

    # The client's calls

    def ask(self, action: Action, *arguments: Any) -> None:
        """Let the broker do ``action(connection, …)``."""
        if self.is_open:
            self._up.put(action, self, *arguments)

    def close(self) -> None:
        """The client is gone, and its kernel says so."""
        self._broker.ground.after(0.06, self._broker.release, self)
        self.is_open = False
        self._up.close()
        self._down.close()

    # The broker's calls

    def tell(self, action: Action, *arguments: Any) -> None:
        """Call ``action`` in the client's process."""
        if self.is_open:
            self._down.put(self.client.process.take, self._run, action, *arguments)

    def enqueue(self, body: bytes) -> None:
        """A command was routed here."""
        self._queue.append(body)
        self._deliver()

    def acknowledge(self, tag: int) -> None:
        """The client is done with a delivery."""
        if tag not in self._unacked:
            raise Violation("known deliveries", f"{self.client.process.name} acknowledged delivery {tag}")
        self._unacked.discard(tag)
        self._deliver()

    def _deliver(self) -> None:
        while self._queue and len(self._unacked) < PREFETCH:
            body = self._queue.popleft()
            self._tag += 1
            self._unacked.add(self._tag)
            self.tell(self.client.delivered, self._tag, body)

    # What goes wrong

    def break_off(self) -> None:
        """Both ends lose the connection; what was under way is lost."""
        if not self.is_open:
            return
        self.close()
        self._broker.ground.after(0.01, self.client.process.take, self._run, self.client.lost)

    def stall(self, seconds: float, upwards_only: bool = False) -> None:
        """Nothing comes through for a while, and then all of it."""
        self._up.stall(seconds)
        if not upwards_only:
            self._down.stall(seconds)

    def cut(self, seconds: float, upwards_only: bool = False) -> None:
        """Nothing comes through; after `HEARTBEAT_S` both ends give up."""
        self._cuts += 1
        self._up.cut()
        if not upwards_only:
            self._down.cut()
        if seconds > HEARTBEAT_S:
            self._ground.after(HEARTBEAT_S, self.break_off)
        else:
            self._ground.after(seconds, self._heal)

    def _heal(self) -> None:
        self._cuts -= 1
        if self.is_open and not self._cuts:
            self._up.heal()
            self._down.heal()


class Broker:
    """The broker.

    :ivar appended: called with every record that is stored: stream, offset, body.
    """

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.is_up = True
        self.routes_from = 0.0  # when it knows the way to its streams
        self.streams: dict[str, list[bytes]] = {}
        self.appended: Callable[[str, int, bytes], None] = lambda _stream, _offset, _body: None
        self._connections: list[Connection] = []
        self._bindings: dict[str, list[Connection]] = {}
        self._consumers: dict[str, list[Connection]] = {}
        self._hearers: list[Connection] = []
        self._leases: dict[str, Connection] = {}

    def connect(self, client: Client, random: Random) -> Connection | None:
        """A new connection; None if the broker is down."""
        if not self.is_up:
            return None
        connection = Connection(self, client, random)
        self._connections.append(connection)
        return connection

    @property
    def routes(self) -> bool:
        """Whether it takes records."""
        return self.is_up and self.ground.now >= self.routes_from

    def restart(self, seconds: float, routeless_s: float) -> None:
        """All connections break, and there are no new ones for a while; then streams have no routes for some seconds more. What was
        stored is kept."""
        self.is_up = False
        self.routes_from = self.ground.now + seconds + routeless_s
        for connection in list(self._connections):
            connection.break_off()
            self.release(connection)
        self.ground.after(seconds, self._up)

    def _up(self) -> None:
        self.is_up = True

    def release(self, connection: Connection) -> None:
        """Forget a connection, its queue, its bindings and its lease."""
        for holders in (
            self._connections,
            self._hearers,
            *self._bindings.values(),
            *self._consumers.values(),
        ):
            if connection in holders:
                holders.remove(connection)
        for name in [name for name, holder in self._leases.items() if holder is connection]:
            del self._leases[name]

    # What clients ask for

    def publish(self, connection: Connection, token: Token, exchange: str, key: str, body: bytes) -> None:
        """Publish with ``mandatory`` and a confirm. Commands that go together are published one after the other, with the node's key."""
        if exchange == JOURNAL_EXCHANGE:
            outcome = self._store(connection, key, body)
        elif exchange == VM_EXCHANGE:
            outcome = self._route(key, body)
        else:
            raise AssertionError(f"nobody publishes to {exchange} and waits for a confirm")
        if outcome is not None:
            connection.tell(connection.client.answered, token, outcome)

    def announce(self, _connection: Connection, exchange: str, body: bytes) -> None:
        """Publish to whoever hears it."""
        assert exchange == PRESENCE_EXCHANGE
        fault = self.ground.reached("presence 0")
        if fault is not None:
            self.ground.happen(fault)
            return
        for hearer in self._hearers:
            hearer.tell(hearer.client.present, body)

    def bind(self, connection: Connection, key: str) -> None:
        """Route the commands with that key, a VM's or a node's, to the connection's queue."""
        bound = self._bindings.setdefault(key, [])
        if connection not in bound:
            bound.append(connection)

    def unbind(self, connection: Connection, vm: str) -> None:
        """Route them there no more."""
        if connection in self._bindings.get(vm, ()):
            self._bindings[vm].remove(connection)

    def acknowledge(self, connection: Connection, tag: int) -> None:
        """The client is done with a delivery."""
        connection.acknowledge(tag)

    def declare(self, _connection: Connection, stream: str) -> None:
        """Make a stream."""
        self.streams[stream] = []

    def consume(self, connection: Connection, stream: str, told: Action) -> None:
        """Deliver the stream from its first record on; ``told`` gets the offset of the last one there is."""
        records = self.streams[stream]
        connection.tell(told, len(records) - 1)
        for offset, body in enumerate(records):
            connection.tell(connection.client.recorded, offset, body)
        self._consumers.setdefault(stream, []).append(connection)

    def lease(self, connection: Connection, name: str, told: Action) -> None:
        """Take the lease, and hear presence, if nobody else has it; ``told`` gets whether it was taken."""
        holder = self._leases.setdefault(name, connection)
        if holder is connection:
            self.hear(connection)
        connection.tell(told, holder is connection)

    def hear(self, connection: Connection) -> None:
        """Hear presence."""
        if connection not in self._hearers:
            self._hearers.append(connection)

    # Inside

    def _store(self, connection: Connection, stream: str, body: bytes) -> str | None:
        if stream not in self.streams or not self.routes:
            return UNROUTABLE
        fault = self.ground.reached("append 0")
        if fault is not None:
            self.ground.happen(fault)
            if fault.kind is Kind.PUBLICATION_REFUSED:
                return REFUSED
        self.append(stream, body)
        if fault is not None and fault.kind is Kind.RECORD_DUPLICATED:
            self.append(stream, body)
        if fault is not None and fault.kind is Kind.CONFIRM_LOST:
            connection.break_off()
            return None
        return CONFIRMED

    def append(self, stream: str, body: bytes) -> None:
        """Store a record, and deliver it to whoever reads the stream."""
        records = self.streams[stream]
        records.append(body)
        offset = len(records) - 1
        self.appended(stream, offset, body)
        for consumer in self._consumers.get(stream, ()):
            consumer.tell(consumer.client.recorded, offset, body)

    def _route(self, key: str, body: bytes) -> str:
        bound = self._bindings.get(key)
        if not bound:
            return UNROUTABLE
        fault = self.ground.reached(f"command {self.number(decode(body).vm)}")
        if fault is None:
            self._hand(key, body)
            return CONFIRMED
        self.ground.happen(fault)
        for delay in _delays(fault):
            self.ground.after(delay, self._hand, key, body)
        return CONFIRMED

    def _hand(self, key: str, body: bytes) -> None:
        for connection in list(self._bindings.get(key, ())):
            connection.enqueue(body)

    @staticmethod
    def number(vm: str) -> int:
        """The number of the VM with that UUID."""
        return int(vm[-12:], 16) - 1


def _delays(fault: Fault) -> tuple[float, ...]:
    """After how many seconds the command that suffers ``fault`` is handed over."""
    if fault.kind is Kind.COMMAND_LOST:
        return ()
    if fault.kind is Kind.COMMAND_DUPLICATED:
        return (0.0, fault.share * 10.0)
    return (fault.seconds,)
