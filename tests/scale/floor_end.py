# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One end of the floor: ``python3 -m scale.floor_end controller|nodes HOST PASSWORD VMS``.

It prints a line when it is ready; the controller begins when it then reads one. Plain pika, and nothing of the product but the names
of exchanges: 500 bytes a message, persistent, confirmed, at most 500 unconfirmed and 500 unacknowledged. Down go a start and a
notification for each VM, through a queue for each node; up go a request, a confirmation and a result, into one stream. An end
answers a message when it comes, as the campaign's ends do, and does nothing else with it.
"""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import pika

from ansible_collections.isolift.vm.plugins.module_utils.topology import JOURNAL_EXCHANGE, VM_EXCHANGE
from scale.broker_host import CONTROLLER, PORT, RELAY, VHOST
from scale.fleet import VMS_PER_NODE

STREAM = "isolift.campaign.floor"
NODES = 250
WINDOW = 500
ACK_EVERY = 100
MESSAGE_BYTES = 500

START, NOTIFICATION, REQUEST, CONFIRMATION, RESULT = b"S", b"N", b"R", b"C", b"E"
_PERSISTENT = pika.BasicProperties(delivery_mode=2)


def message(kind: bytes, vm: bytes) -> bytes:
    """A message of ``kind`` about ``vm``, 8 digits."""
    return (kind + vm).ljust(MESSAGE_BYTES, b".")


class End(ABC):
    """A SelectConnection with a channel to publish and one to consume."""

    def __init__(self, host: str, user: str, password: str) -> None:
        credentials = pika.PlainCredentials(user, password)
        parameters = pika.ConnectionParameters(host, PORT, VHOST, credentials, heartbeat=60)
        self.connection = pika.SelectConnection(
            parameters,
            on_open_callback=lambda connection: connection.channel(on_open_callback=self._publishing),
            on_open_error_callback=self._failed,
            on_close_callback=self._closed,
        )
        self.publishing: Any = None
        self.consuming: Any = None
        self._waiting: deque[tuple[str, str, bytes]] = deque()
        self._published = 0
        self._unconfirmed: dict[int, None] = {}
        self._unacknowledged = 0
        self.problem = ""

    def run(self) -> None:
        """Go on until the connection is closed."""
        self.connection.ioloop.start()
        if self.problem:
            raise SystemExit(self.problem)

    @abstractmethod
    def begin(self) -> None:
        """Both channels are open."""

    @abstractmethod
    def came(self, body: bytes) -> None:
        """A message came."""

    def publish(self, exchange: str, key: str, body: bytes) -> None:
        """Publish as soon as the window allows."""
        self._waiting.append((exchange, key, body))
        self._pump()

    def consume(self, queue: str, then: Callable[[Any], None], **arguments: Any) -> None:
        """Have the broker send ``queue``."""
        self.consuming.basic_consume(queue, self._came, callback=then, arguments=arguments or None)

    def _pump(self) -> None:
        while self._waiting and len(self._unconfirmed) < WINDOW:
            exchange, key, body = self._waiting.popleft()
            self.publishing.basic_publish(exchange, key, body, _PERSISTENT)
            self._published += 1
            self._unconfirmed[self._published] = None

    def _on_confirm(self, frame: Any) -> None:
        last = frame.method.delivery_tag
        if frame.method.multiple:
            for tag in list(takewhile(lambda tag: tag <= last, self._unconfirmed)):
                del self._unconfirmed[tag]
        else:
            del self._unconfirmed[last]
        self._pump()

    def _came(self, channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        self._unacknowledged += 1
        if self._unacknowledged >= ACK_EVERY:
            self._unacknowledged = 0
            channel.basic_ack(method.delivery_tag, multiple=True)
        self.came(body)

    def _publishing(self, channel: Any) -> None:
        self.publishing = channel
        channel.confirm_delivery(
            self._on_confirm,
            callback=lambda _frame: self.connection.channel(on_open_callback=self._consuming),
        )

    def _consuming(self, channel: Any) -> None:
        self.consuming = channel
        channel.basic_qos(prefetch_count=WINDOW, callback=lambda _frame: self.begin())

    def _failed(self, _connection: Any, error: object) -> None:
        self.problem = f"no connection with the broker: {error!r}"
        self.connection.ioloop.stop()

    def _closed(self, _connection: Any, reason: Any) -> None:
        if getattr(reason, "reply_code", 0) != 200:
            self.problem = f"the broker's connection was lost: {reason!r}"
        self.connection.ioloop.stop()


class Nodes(End):
    """The compute nodes' end, which goes on until it is killed."""

    def __init__(self, host: str, password: str) -> None:
        super().__init__(host, RELAY, password)
        self._ready = 0

    def begin(self) -> None:
        """Declare, bind and consume the queues of all nodes."""
        for number in range(NODES):
            queue = f"isolift.relay.floor-{number}"
            self.consuming.queue_declare(queue, exclusive=True)
            self.consuming.queue_bind(queue, VM_EXCHANGE, f"floor-{number}")
            self.consume(queue, self._consumes)

    def _consumes(self, _frame: object) -> None:
        self._ready += 1
        if self._ready == NODES:
            print("ready", flush=True)

    def came(self, body: bytes) -> None:
        """Answer a start with a request, a notification with a confirmation and a result."""
        kind, vm = body[:1], body[1:9]
        for answer in (REQUEST,) if kind == START else (CONFIRMATION, RESULT):
            self.publish(JOURNAL_EXCHANGE, STREAM, message(answer, vm))


class Controller(End):
    """The controller's end. Prints the seconds from the first start to the last result, and ends."""

    def __init__(self, host: str, password: str, vms: int) -> None:
        super().__init__(host, CONTROLLER, password)
        self._vms = vms
        self._results = 0
        self._began = 0.0

    def begin(self) -> None:
        """Declare the stream and read it."""
        self.consuming.queue_declare(STREAM, durable=True, arguments={"x-queue-type": "stream"})
        self.consuming.queue_bind(STREAM, JOURNAL_EXCHANGE, STREAM)
        self.consume(STREAM, self._start, **{"x-stream-offset": "first"})

    def _start(self, _frame: object) -> None:
        print("ready", flush=True)
        sys.stdin.readline()
        self._began = time.monotonic()
        for number in range(self._vms):
            self._send(START, b"%08d" % number)

    def _send(self, kind: bytes, vm: bytes) -> None:
        self.publish(VM_EXCHANGE, f"floor-{int(vm) // VMS_PER_NODE % NODES}", message(kind, vm))

    def came(self, body: bytes) -> None:
        """Answer a request with a notification; count the results."""
        kind = body[:1]
        if kind == REQUEST:
            self._send(NOTIFICATION, body[1:9])
        elif kind == RESULT:
            self._results += 1
            if self._results == self._vms:
                print(time.monotonic() - self._began, flush=True)
                self.consuming.queue_delete(STREAM, callback=lambda _frame: self.connection.close())


def main() -> None:
    """The command line."""
    role, host, password, vms = sys.argv[1:]
    end = Controller(host, password, int(vms)) if role == "controller" else Nodes(host, password)
    end.run()


if __name__ == "__main__":
    main()
