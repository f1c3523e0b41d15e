# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A relay's process: the real core, with the broker, the ports and libvirt simulated. Stands for the relay's shell."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from isolift_relay import events
from isolift_relay.channel import LineSplitter
from isolift_relay.core import Relay
from isolift_relay.events import Effect, Event, Level
from isolift_relay.media import Reason
from isolift_relay.rates import Limits
from isolift_relay.topology import node_key
from isolift_relay.wire import FRAME_LIMIT
from simulation.broker import REFUSED, UNROUTABLE, Broker, Connection
from simulation.domain import Domain
from simulation.ground import Action, Ground, Process
from simulation.invariants import Invariants
from simulation.node import Node
from simulation.port import Port

LIMITS = Limits(handed_per_vm=8, unconfirmed=32, unconfirmed_per_vm=8, prefetch=16)
"""Bounds that a run can reach."""

Operation = Callable[[], tuple[float, Reason | None]]
"""Something done to a drive; see `Node.insert`."""

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0


class Socket:
    """The relay's client of one port: connected again whenever it breaks."""

    def __init__(self, relay: RelayProcess, domain: Domain, path: str) -> None:
        self.process = relay
        self._relay = relay
        self._domain = domain
        self._path = path
        self._port: Port | None = None
        self._closed = False
        self._pause = FIRST_PAUSE_S
        relay.later(0.002, self._connect)

    def write(self, data: bytes) -> None:
        """Send bytes to the guest, if connected."""
        if self._port is not None:
            self._port.write_down(self, data)

    def close(self) -> None:
        """Leave; the core hears nothing more."""
        self._closed = True
        if self._port is not None:
            self._port.disconnect(self)
            self._port = None

    def received(self, data: bytes) -> None:
        """The guest sent bytes."""
        if self._port is None:
            return
        for line in self._lines.feed(data):
            uuid = self._domain.uuid
            self._relay.handle(events.LineTooLong(uuid) if line is None else events.Line(uuid, line))

    def broken(self) -> None:
        """The connection ended."""
        if self._port is None:
            return
        self._port = None
        self._relay.handle(events.ChannelDown(self._domain.uuid))
        self._again()

    def _connect(self) -> None:
        if self._closed:
            return
        port = self._domain.port
        if port.path != self._path or not port.connect(self):
            self._again()
            return
        self._port = port
        self._pause = FIRST_PAUSE_S
        self._lines = LineSplitter(FRAME_LIMIT)
        self._relay.handle(events.ChannelUp(self._domain.uuid))

    def _again(self) -> None:
        if not self._closed:
            self._relay.later(self._pause, self._connect)
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)


class RelayProcess(Process):
    """The relay of one node."""

    def __init__(
        self, ground: Ground, node: Node, broker: Broker, domains: list[Domain], checks: Invariants
    ) -> None:
        super().__init__(ground, f"relay {node.number}")
        self.node = node
        self.core = Relay(node.name, "none", LIMITS)
        self.connection: Connection | None = None
        self._broker = broker
        self._domains = {domain.uuid: domain for domain in domains}
        self._invariants = checks
        self._random = ground.random()
        self._cut_until = 0.0
        self._perform: dict[type[Any], Action] = {
            events.OpenChannel: self._open_channel,
            events.CloseChannel: lambda effect: self._sockets.pop(effect.vm).close(),
            events.Write: lambda effect: self._sockets[effect.vm].write(effect.data),
            events.Bind: lambda effect: self._ask(broker.bind, effect.vm),
            events.Unbind: lambda effect: self._ask(broker.unbind, effect.vm),
            events.Publish: self._publish,
            events.Announce: lambda effect: self._ask(broker.announce, effect.exchange, effect.body),
            events.AckDelivery: lambda effect: self._ask(broker.acknowledge, effect.tag),
            events.InsertMedium: lambda effect: self._operate(
                effect, partial(node.insert, self._domains[effect.vm], effect.path)
            ),
            events.EjectMedium: lambda effect: self._operate(
                effect, partial(node.eject, self._domains[effect.vm], effect.campaign_id)
            ),
            events.Wake: lambda effect: self.later(effect.after_s, self.handle, effect.event),
            events.Log: self._log,
        }

    def start(self) -> None:
        """A new run: it knows nothing."""
        self.begin()
        self.say("starts")
        self.core = Relay(self.node.name, f"{self.node.name}-{self.run}", LIMITS)
        self._events: deque[Event] = deque()
        self._busy = False
        self._sockets: dict[str, Socket] = {}
        self._up: set[str] = set()
        self._free_at: dict[str, float] = {}
        self._connect()
        for domain in self._domains.values():
            self.later(0.05, self.look, domain)

    def end(self) -> None:
        """The process is gone, and the kernel closes its sockets."""
        super().end()
        for socket in self._sockets.values():
            socket.close()
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def cut_off(self, seconds: float) -> bool:
        """The network to the broker is gone for a while."""
        if self.connection is None:
            return False
        self._cut_until = self.ground.now + seconds
        self.connection.cut(seconds)
        return True

    # Events

    def look(self, domain: Domain) -> None:
        """Tell the core how the domain is now; once libvirt is back, if it is away."""
        if not self.node.has_libvirt:
            return
        if self.node.runs(domain):
            self._up.add(domain.uuid)
            self.handle(events.DomainUp(domain.uuid, f"desk-{domain.number}", domain.port.path))
        elif domain.uuid in self._up:
            self._up.remove(domain.uuid)
            self.handle(events.DomainDown(domain.uuid))

    def handle(self, event: Event) -> None:
        """Bring an event to the core; events that an effect causes come after it."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        while self._events:
            self.point()
            effects = self.core.handle(self._events.popleft(), self.node.clock(), self.ground.now)
            self._invariants.relay_stepped(self)
            for effect in effects:
                self.point()
                self._perform_one(effect)
        self._busy = False

    def _perform_one(self, effect: Effect) -> None:
        self._perform[type(effect)](effect)

    # The broker

    def answered(self, token: int, outcome: str) -> None:
        """The broker's word on a publication. It has the streams that it finds no route to, and says so when it is asked."""
        self.handle(events.Published(token, events.Outcome(REFUSED if outcome == UNROUTABLE else outcome)))

    def delivered(self, tag: int, body: bytes) -> None:
        """A command from the queue."""
        self.handle(events.Delivery(tag, body))

    def recorded(self, offset: int, body: bytes) -> None:
        """Relays read no journal."""
        raise AssertionError("a relay reads no journal")

    def present(self, body: bytes) -> None:
        """Relays hear no presence."""
        raise AssertionError("a relay hears no presence")

    def lost(self) -> None:
        """The connection is gone."""
        self.connection = None
        self.say("lost the broker")
        self.handle(events.BrokerDown())
        self.later(1.0, self._connect)

    def _connect(self) -> None:
        is_cut = self.ground.now < self._cut_until
        self.connection = None if is_cut else self._broker.connect(self, self._random)
        if self.connection is None:
            self.later(2.0, self._connect)
        else:
            self.handle(events.BrokerUp())
            self._ask(self._broker.bind, node_key(self.node.name))

    def _ask(self, action: Action, *arguments: Any) -> None:
        if self.connection is not None:
            self.connection.ask(action, *arguments)

    def _publish(self, effect: events.Publish) -> None:
        self._ask(self._broker.publish, effect.token, effect.exchange, effect.key, effect.body)

    # The rest

    def _open_channel(self, effect: events.OpenChannel) -> None:
        self._sockets[effect.vm] = Socket(self, self._domains[effect.vm], effect.path)

    def _operate(self, effect: events.InsertMedium | events.EjectMedium, operation: Operation) -> None:
        """Begin an operation on the drive after the one before."""
        wait = max(0.0, self._free_at.get(effect.vm, 0.0) - self.ground.now)
        self.later(wait, self._operate_now, effect, operation)
        self._free_at[effect.vm] = self.ground.now + wait + 0.001

    def _operate_now(self, effect: events.InsertMedium | events.EjectMedium, operation: Operation) -> None:
        seconds, reason = operation()
        self._invariants.drive_changed(effect.vm)
        self._free_at[effect.vm] = max(self._free_at[effect.vm], self.ground.now + seconds)
        self.say(f"{type(effect).__name__} {effect.vm[-2:]}: {reason.value if reason else 'done'}")
        done = events.MediumDone(effect.vm, effect.number, reason, "")
        self.later(seconds, self.handle, done)

    def _log(self, effect: events.Log) -> None:
        if effect.level is Level.WARNING:
            self.say(effect.text)
