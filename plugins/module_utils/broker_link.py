# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One connection to RabbitMQ: pika's SelectConnection (the fastest of its adapters) behind calls that return when they are done.

pika's callbacks about the connection and its channels end in this file.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
import traceback
from contextlib import suppress
from typing import Any, Callable, NoReturn, TypeVar

try:
    import pika
    from pika.adapters.select_connection import IOLoop
    from pika.exceptions import AMQPError, ChannelClosedByBroker

    from .coalescing import Coalescing

    class _Connection(Coalescing, pika.SelectConnection):
        """The fastest of pika's connections, made faster."""

    PIKA_ERROR: str | None = None
except ImportError:
    PIKA_ERROR = traceback.format_exc()
    IOLoop = object  # type: ignore[assignment,misc]

from .broker_errors import BrokerError, BrokerLost, check, disconnected, not_connected, refused
from .broker_options import BrokerOptions

HEARTBEAT_S = 20
"""Seconds of AMQP's heartbeat. RabbitMQ gives up a client that is frozen or cut off, and its exclusive queues, after about
2.7 times as long: so long a campaign may be without a coordinator."""

BLOCKED_LIMIT_S = 900.0
"""Seconds for which RabbitMQ may take nothing because it is short of memory or disk space, until the connection is given up."""

CLOSE_LIMIT_S = 3.0
"""Seconds that RabbitMQ gets to agree to the end of a connection."""

RETRY_S = 0.5
"""Seconds between two tries to use what is not to be had at present."""

Answer = TypeVar("Answer")


class Link:
    """A connection with the first node of the broker that accepts one.

    Every method raises `BrokerError` if the connection is lost or the broker refuses what was asked.

    :param notice: told what a person should know while a call takes long.
    """

    def __init__(self, options: BrokerOptions, notice: Callable[[str], None]) -> None:
        self.options = options
        """Those of the node that the connection is with."""
        self.blocked = ""
        """Why RabbitMQ takes nothing at present; empty if it does."""
        self._nodes = options.nodes()
        self._notice = notice
        self._connection: Any = None
        self._persistent: Any = None
        self._problem: BrokerError | None = None
        self._ended: BrokerError | None = None
        self._closing = False
        self._woken = False

    def open(self) -> None:
        """Connect to the first node that accepts us.

        :raises BrokerLost: none can be reached at present.
        :raises BrokerError: wrong credentials, certificate or vhost.
        """
        failures: list[str] = []
        for node in self._nodes:
            try:
                self._connect(node)
            except BrokerLost as error:
                failures.append(str(error))
                self.close()
            except BrokerError:
                self.close()
                raise
            else:
                return
        raise BrokerLost("; ".join(failures))

    def _connect(self, node: BrokerOptions) -> None:
        self.options, self._ended, self._problem, self._closing = node, None, None, False
        self._woken = False
        self._persistent = pika.BasicProperties(delivery_mode=2, content_type="application/json")
        self._connection = _Connection(
            _parameters(node, node.timeout / len(self._nodes)),
            on_open_callback=lambda _connection: self.wake(),
            on_open_error_callback=lambda _connection, error: self._end(not_connected(str(node), error)),
            on_close_callback=lambda _connection, error: self._end(disconnected(str(node), error)),
            custom_ioloop=_Loop(),
        )
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)
        self.wait(lambda: self._connection.is_open, "to accept the connection")

    def close(self) -> None:
        """Close the connection; what was not confirmed stays unconfirmed."""
        if self._connection is None:
            return
        self._closing = True
        if self._connection.is_open:
            self._connection.close()
        self._turn_until_closed(0 if self.blocked else CLOSE_LIMIT_S)
        if not self._connection.is_closed:
            self._connection.ioloop.hang_up()
            self._turn_until_closed(CLOSE_LIMIT_S)
        self._connection.ioloop.close()
        self._connection = None
        self.blocked = ""

    # Asking

    def open_channel(self) -> Any:
        """A new channel."""
        opened: list[Any] = []
        channel = self.call(self._connection.channel, on_open_callback=self.collect(opened))
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_cancel_callback(self._on_cancelled)
        self.wait(lambda: bool(opened), "to open a channel")
        return channel

    def request(self, name: str, channel: Any = None, **arguments: Any) -> Any:
        """Call a method of the channel that the broker answers, and wait for the answer."""
        own = None
        if channel is None:  # a channel of its own, because the broker closes one on refusal
            own = channel = self.open_channel()
        answers: list[Any] = []
        self.call(getattr(channel, name), callback=self.collect(answers), **arguments)
        self.wait(lambda: bool(answers), f"to answer {name}")
        if own is not None:
            own.close()
        return answers[0]

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a method of pika that waits for nothing."""
        try:
            return function(*arguments, **options)
        except AMQPError as error:
            self._raise(self._problem or self._ended or BrokerLost(f"RabbitMQ at {self.options}: {error!r}"))

    def publish(self, channel: Any, exchange: str, key: str, body: bytes) -> None:
        """Publish a persistent message that at least one queue must take."""
        self.call(channel.basic_publish, exchange, key, body, properties=self._persistent, mandatory=True)

    def patiently(self, ask: Callable[[], Answer]) -> Answer:
        """What ``ask`` returns; asked again for a while if what it needs is not to be had at present.

        After a node's restart a stream is away until its replica has started, or a new leader was elected.
        """
        give_up = time.monotonic() + self.options.timeout
        while True:
            try:
                return ask()
            except BrokerLost:
                if self._ended is not None or time.monotonic() > give_up:
                    raise
            self.run(RETRY_S)

    def collect(self, into: list[Any]) -> Callable[[Any], None]:
        """A callback that puts what it is called with into the list."""

        def collect(value: Any) -> None:
            into.append(value)
            self.wake()

        return collect

    # Waiting

    def wait(self, done: Callable[[], bool], what: str, left_to_do: Callable[[], int] = lambda: 0) -> None:
        """Run the event loop until ``done``. The time for which the broker takes nothing does not count, and it is given anew with
        whatever changes in what is ``left_to_do``: much takes long on a slow line."""
        give_up = time.monotonic() + self.options.timeout
        amount = left_to_do()
        while not done():
            if self.blocked or left_to_do() != amount:
                give_up, amount = time.monotonic() + self.options.timeout, left_to_do()
            left = give_up - time.monotonic()
            if left <= 0:
                raise BrokerLost(
                    f"RabbitMQ at {self.options} took more than {self.options.timeout:g} s {what}"
                )
            self.run(left)

    def run(self, timeout: float) -> None:
        """Run the event loop until something wakes it, or for ``timeout`` seconds."""
        if self._ended is None:
            self._turn(timeout)
        problem = self._problem or self._ended
        if problem is not None:
            self._raise(problem)

    def wake(self) -> None:
        """Let `run` return."""
        if not self._woken:  # every stop of the loop is a system call
            self._woken = True
            self._connection.ioloop.stop()

    def fail(self, problem: BrokerError) -> None:
        """Let whoever waits have this problem."""
        if not self._closing:
            self._problem = self._problem or problem
        self.wake()

    def _turn_until_closed(self, timeout: float) -> None:
        give_up = time.monotonic() + timeout
        while not self._connection.is_closed and time.monotonic() < give_up:
            self._turn(RETRY_S)

    def _turn(self, timeout: float) -> None:
        loop = self._connection.ioloop
        timer = loop.call_later(timeout, loop.stop)
        loop.start()
        loop.remove_timeout(timer)
        self._woken = False

    def _raise(self, problem: BrokerError) -> NoReturn:
        self._problem = None
        raise problem

    # What pika tells

    def _end(self, problem: BrokerError) -> None:
        self._ended = problem
        self.fail(problem)

    def _on_channel_closed(self, _channel: Any, reason: Any) -> None:
        if isinstance(reason, ChannelClosedByBroker):
            self.fail(refused(str(self.options), reason.reply_code, reason.reply_text))

    def _on_cancelled(self, frame: Any) -> None:
        self.fail(BrokerLost(f"RabbitMQ at {self.options} sends no more of {frame.method.consumer_tag}"))

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        self.blocked = frame.method.reason or "no reason given"
        self._notice(
            f"RabbitMQ at {self.options} takes nothing at present ({self.blocked}); waiting up to {BLOCKED_LIMIT_S / 60:g} minutes"
        )
        self.wake()

    def _on_unblocked(self, _connection: Any, _frame: Any) -> None:
        self.blocked = ""
        self._notice(f"RabbitMQ at {self.options} takes messages again")
        self.wake()


class _Loop(IOLoop):  # type: ignore[misc,valid-type,unused-ignore]
    """pika's event loop, which knows the connection's socket, so that a connection can be ended that does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self._sockets: set[int] = set()

    def add_handler(self, fd: int, handler: Any, events: int) -> None:
        """As pika's."""
        self._sockets.add(fd)
        super().add_handler(fd, handler, events)

    def remove_handler(self, fd: int) -> None:
        """As pika's."""
        self._sockets.discard(fd)
        super().remove_handler(fd)

    def hang_up(self) -> None:
        """Let pika see the end of the stream."""
        for fd in self._sockets:
            with suppress(OSError), socket.socket(fileno=os.dup(fd)) as twin:
                twin.shutdown(socket.SHUT_RDWR)


def _parameters(node: BrokerOptions, connect_timeout: float) -> Any:
    tls = None
    if node.ca_cert:
        try:
            context = ssl.create_default_context(cafile=node.ca_cert)
        except OSError as error:  # SSLError is one
            raise BrokerError(
                f"the certificates in {node.ca_cert} cannot be used: {error}; {check('broker_ca_cert')}"
            ) from error
        tls = pika.SSLOptions(context, node.host)
    return pika.ConnectionParameters(
        host=node.host,
        port=node.port,
        virtual_host=node.vhost,
        credentials=pika.PlainCredentials(node.username, node.password),
        ssl_options=tls,
        socket_timeout=connect_timeout,
        stack_timeout=connect_timeout,
        heartbeat=HEARTBEAT_S,
        blocked_connection_timeout=BLOCKED_LIMIT_S,
    )
