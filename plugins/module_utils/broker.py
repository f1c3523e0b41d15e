# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RabbitMQ for the modules, the coordinator and the callback: pika, wrapped once.

`Broker` drives pika's SelectConnection (the fastest of its adapters) and shows plain calls that return when their work is done:
publish a batch and have it confirmed, read a stream, hear presence. pika's callbacks end in this file.
"""

from __future__ import annotations

import ssl
import time
import traceback
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Iterable, NoReturn, Sequence

try:
    import pika
    from pika.exceptions import AMQPError, ChannelClosedByBroker, ConnectionClosedByBroker

    PIKA_ERROR: str | None = None
except ImportError:
    PIKA_ERROR = traceback.format_exc()

from .topology import CAMPAIGNS, JOURNAL_EXCHANGE, PRESENCE_EXCHANGE

WINDOW = 500
"""Publications that may be unconfirmed, and deliveries that may be unacknowledged, at one time."""

_MOST_PREFETCH = 65535

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "broker_host": {"type": "str", "default": "localhost"},
    "broker_port": {"type": "int", "default": 5672},
    "broker_vhost": {"type": "str", "default": "isolift"},
    "broker_username": {"type": "str", "default": "isolift_controller"},
    "broker_password": {"type": "str", "required": True, "no_log": True},
    "broker_ca_cert": {"type": "path"},
    "broker_timeout": {"type": "float", "default": 15.0},
}
"""The broker options that the modules and the coordinator share."""


class BrokerError(Exception):
    """The broker cannot be used; the text says why and what to look at."""


class NoSuchStream(BrokerError):
    """The stream does not exist."""


@dataclass(frozen=True)
class BrokerOptions:
    """Where the broker is and who we are there. ``timeout`` is in seconds, for connecting and for every answer."""

    host: str
    port: int
    vhost: str
    username: str
    password: str
    ca_cert: str | None = None
    timeout: float = 15.0

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> BrokerOptions:
        """The options among a module's or action's validated arguments.

        :raises BrokerError: an option that cannot be meant so.
        """
        if not 0 < arguments["broker_timeout"] < float("inf"):
            raise BrokerError(f"broker_timeout must be seconds above 0, not {arguments['broker_timeout']}")
        return cls(**{name[len("broker_") :]: arguments[name] for name in ARGUMENT_SPEC})

    def __str__(self) -> str:
        return f"{self.host}:{self.port} (vhost {self.vhost!r}, user {self.username!r})"


@dataclass(frozen=True)
class Publication:
    """A message to publish; ``tag`` is the caller's own."""

    exchange: str
    key: str
    body: bytes
    tag: Any = None


@dataclass(frozen=True)
class Delivery:
    """A message that came: from the stream or queue ``source``, at ``offset`` (streams only, else -1)."""

    source: str
    offset: int
    body: bytes


class Broker:
    """One connection. Use it as a context manager.

    Every method raises `BrokerError` if the connection is lost or the broker refuses what was asked.
    """

    def __init__(self, options: BrokerOptions) -> None:
        self._options = options
        self._connection: Any = None
        self._channel: Any = None
        self._problem: BrokerError | None = None
        self._inbox: deque[Delivery] = deque()
        self._unacked: dict[Any, int] = {}
        self._next_tag = 1
        self._unconfirmed: dict[int, Publication] = {}
        self._returned: list[Publication] = []
        self._closing = False

    def __enter__(self) -> Broker:
        self.open()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # The connection

    def open(self) -> None:
        """Connect and open the publishing channel with confirms.

        :raises BrokerError: unreachable, wrong credentials, no such vhost.
        """
        try:
            self._connect()
        except BrokerError:
            self.close()
            raise

    def _connect(self) -> None:
        self._connection = pika.SelectConnection(
            self._parameters(),
            on_open_callback=lambda _connection: self._wake(),
            on_open_error_callback=self._on_open_error,
            on_close_callback=self._on_closed,
        )
        self._await(lambda: self._connection.is_open, "to accept the connection")
        self._channel = self._open_channel()
        confirmed: list[Any] = []
        self._channel.add_on_return_callback(self._on_return)
        self._channel.confirm_delivery(self._on_confirm, callback=self._collect(confirmed))
        self._await(lambda: bool(confirmed), "to enable confirms")

    def _parameters(self) -> Any:
        options = self._options
        tls = None
        if options.ca_cert:
            try:
                context = ssl.create_default_context(cafile=options.ca_cert)
            except OSError as error:  # SSLError is one
                raise BrokerError(f"broker_ca_cert {options.ca_cert} cannot be used: {error}") from error
            tls = pika.SSLOptions(context, options.host)
        return pika.ConnectionParameters(
            host=options.host,
            port=options.port,
            virtual_host=options.vhost,
            credentials=pika.PlainCredentials(options.username, options.password),
            ssl_options=tls,
            socket_timeout=options.timeout,
            stack_timeout=options.timeout,
            blocked_connection_timeout=300,
        )

    def close(self) -> None:
        """Close the connection; what was not confirmed stays unconfirmed."""
        if self._connection is None:
            return
        self._closing = True
        if self._connection.is_open:
            self._connection.close()
        give_up = time.monotonic() + self._options.timeout
        while not self._connection.is_closed and time.monotonic() < give_up:
            self._run(0.5)
        self._connection.ioloop.close()
        self._connection = None

    # Publishing

    def publish(self, publications: Iterable[Publication]) -> list[Publication]:
        """Publish all, persistent and mandatory, and wait until the broker confirmed each.

        :returns: those that no queue took.
        """
        self._returned = []
        properties = pika.BasicProperties(delivery_mode=2, content_type="application/json")
        for publication in publications:
            if len(self._unconfirmed) >= WINDOW:
                self._await(lambda: len(self._unconfirmed) <= WINDOW // 2, "to confirm publications")
            self._unconfirmed[self._next_tag] = publication
            self._next_tag += 1
            self._call(
                self._channel.basic_publish,
                publication.exchange,
                publication.key,
                publication.body,
                properties=properties,
                mandatory=True,
            )
        self._await(lambda: not self._unconfirmed, "to confirm publications")
        return self._returned

    def _on_return(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        # The broker returns a message before it confirms it, so it is still among the unconfirmed.
        for publication in self._unconfirmed.values():
            if publication.key == method.routing_key and publication.body == body:
                self._returned.append(publication)
                return

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        if isinstance(method, pika.spec.Basic.Nack):
            self._fail(BrokerError(f"RabbitMQ at {self._options} refused to store a message; see its log"))
            return
        if method.multiple:
            for tag in [tag for tag in self._unconfirmed if tag <= method.delivery_tag]:
                del self._unconfirmed[tag]
        else:
            self._unconfirmed.pop(method.delivery_tag, None)
        if len(self._unconfirmed) <= WINDOW // 2:
            self._wake()

    # Streams and queues

    def declare_journal(self, name: str) -> None:
        """Make the stream ``name`` and bind it to the journal exchange by its own name.

        :raises BrokerError: a stream of that name exists already, or we may not make one.
        """
        if self.stream_exists(name):
            raise BrokerError(f"the stream {name} exists already")
        arguments = {"x-queue-type": "stream"}
        self._request("queue_declare", queue=name, durable=True, arguments=arguments)
        self._request("queue_bind", queue=name, exchange=JOURNAL_EXCHANGE, routing_key=name)

    def delete_journal(self, name: str) -> None:
        """Delete the stream ``name`` with all its records; no error if there is none."""
        self._request("queue_delete", queue=name)

    def stream_exists(self, name: str) -> bool:
        """Whether there is a queue or stream of that name."""
        try:
            self._request("queue_declare", queue=name, passive=True)
        except NoSuchStream:
            return False
        return True

    def read(self, stream: str) -> int:
        """Begin to read ``stream`` from its first record; `poll` brings what comes.

        :returns: the offset of the last record that it has now, -1 if it has none.
        :raises NoSuchStream: there is no such stream.
        """
        return self._open_stream(stream, self._inbox.append)[1]

    def _open_stream(self, stream: str, take: Callable[[Delivery], None]) -> tuple[Any, int]:
        """Consume ``stream`` from its first record; the channel, and the offset of the last record."""
        last = self._last_offset(stream)
        channel = self._open_channel()
        self._request("basic_qos", channel, prefetch_count=WINDOW)
        self._consume(channel, stream, "first", take)
        return channel, last

    def hear_presence(self, queue: str) -> None:
        """Begin to hear presence on an exclusive queue of our own; `poll` brings what comes."""
        channel = self._open_channel()
        self._request("basic_qos", channel, prefetch_count=WINDOW)
        self._request("queue_declare", channel, queue=queue, exclusive=True, auto_delete=True)
        self._request("queue_bind", channel, queue=queue, exchange=PRESENCE_EXCHANGE, routing_key="")
        self._consume(channel, queue, None, self._inbox.append)

    def read_all(self, stream: str) -> list[bytes]:
        """Every record that ``stream`` holds now.

        :raises NoSuchStream: there is no such stream.
        """
        records: list[Delivery] = []
        channel, last = self._open_stream(stream, records.append)
        while last >= 0 and (not records or records[-1].offset < last):
            self._acknowledge()
            self._await_more(records, stream)
        self._acknowledge()
        channel.close()
        return [record.body for record in records]

    def _await_more(self, records: list[Delivery], stream: str) -> None:
        held = len(records)
        self._await(lambda: len(records) > held, f"to send the next record of {stream}")

    def campaigns(self) -> list[bytes]:
        """Every record of the list of campaigns.

        :raises NoSuchStream: the broker was not set up (role broker).
        """
        return self.read_all(CAMPAIGNS)

    def _last_offset(self, stream: str) -> int:
        """The offset of the last record, -1 if there is none.

        RabbitMQ counts no messages of a stream, but it sends what a new consumer may have before it answers the next
        request on the same channel: so the last chunk is here when that answer is.
        """
        offsets: list[int] = []
        channel = self._open_channel()
        self._request("basic_qos", channel, prefetch_count=_MOST_PREFETCH)
        self._consume(channel, stream, "last", lambda delivery: offsets.append(delivery.offset))
        self._request("basic_qos", channel, prefetch_count=_MOST_PREFETCH)
        channel.close()
        return max(offsets, default=-1)

    def poll(self, timeout: float) -> list[Delivery]:
        """What came since the last call; waits up to ``timeout`` seconds for something to come."""
        self._acknowledge()
        if not self._inbox:
            self._run(timeout)
        batch = list(self._inbox)
        self._inbox.clear()
        return batch

    def _consume(
        self, channel: Any, queue: str, offset: str | None, take: Callable[[Delivery], None]
    ) -> None:
        def on_message(_channel: Any, method: Any, properties: Any, body: bytes) -> None:
            take(Delivery(queue, int((properties.headers or {}).get("x-stream-offset", -1)), body))
            self._unacked[channel] = method.delivery_tag
            self._wake()

        arguments = {"x-stream-offset": offset} if offset else None
        self._request(
            "basic_consume", channel, queue=queue, on_message_callback=on_message, arguments=arguments
        )

    def _acknowledge(self) -> None:
        for channel, tag in self._unacked.items():
            if channel.is_open:
                self._call(channel.basic_ack, tag, multiple=True)
        self._unacked.clear()

    # pika's event loop, seen as plain calls

    def _open_channel(self) -> Any:
        opened: list[Any] = []
        channel = self._call(self._connection.channel, on_open_callback=self._collect(opened))
        channel.add_on_close_callback(self._on_channel_closed)
        self._await(lambda: bool(opened), "to open a channel")
        return channel

    def _request(self, name: str, channel: Any = None, **arguments: Any) -> Any:
        """Call a method of the channel that the broker answers, and wait for the answer."""
        own = None
        if channel is None:  # a channel of its own, because the broker closes one on refusal
            own = channel = self._open_channel()
        answers: list[Any] = []
        self._call(getattr(channel, name), callback=self._collect(answers), **arguments)
        self._await(lambda: bool(answers), f"to answer {name}")
        if own is not None:
            own.close()
        return answers[0]

    def _collect(self, into: list[Any]) -> Callable[[Any], None]:
        def collect(value: Any) -> None:
            into.append(value)
            self._wake()

        return collect

    def _call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except AMQPError as error:
            self._raise(self._problem or BrokerError(f"RabbitMQ at {self._options}: {error!r}"))

    def _await(self, done: Callable[[], bool], what: str) -> None:
        give_up = time.monotonic() + self._options.timeout
        while not done():
            left = give_up - time.monotonic()
            if left <= 0:
                raise BrokerError(
                    f"RabbitMQ at {self._options} took more than {self._options.timeout:g} s {what}"
                )
            self._run(left)

    def _run(self, timeout: float) -> None:
        """Run the event loop until something wakes it, or for ``timeout`` seconds."""
        loop = self._connection.ioloop
        timer = loop.call_later(timeout, loop.stop)
        loop.start()
        loop.remove_timeout(timer)
        if self._problem is not None:
            self._raise(self._problem)

    def _raise(self, problem: BrokerError) -> NoReturn:
        self._problem = None
        raise problem

    def _wake(self) -> None:
        self._connection.ioloop.stop()

    def _fail(self, problem: BrokerError) -> None:
        if not self._closing:
            self._problem = self._problem or problem
        self._wake()

    def _on_open_error(self, _connection: Any, error: Any) -> None:
        self._fail(BrokerError(f"cannot use RabbitMQ at {self._options}: {_explain(error)}"))

    def _on_closed(self, _connection: Any, reason: Any) -> None:
        self._fail(BrokerError(f"lost the connection to RabbitMQ at {self._options}: {_explain(reason)}"))

    def _on_channel_closed(self, _channel: Any, reason: Any) -> None:
        if not isinstance(reason, ChannelClosedByBroker):
            return
        kind = NoSuchStream if reason.reply_code == 404 else BrokerError
        self._fail(kind(f"RabbitMQ at {self._options} refused: {reason.reply_text}"))


def _explain(error: Any) -> str:
    """One line that says what failed and what to look at, from the exceptions that pika wraps into each other."""
    cause = error
    inner: Sequence[Any] = [error]
    while inner:
        cause = inner[-1]
        nested = getattr(cause, "exception", None)
        inner = getattr(cause, "exceptions", None) or [
            item for item in (nested, *getattr(cause, "args", ())) if isinstance(item, BaseException)
        ]
    name = type(cause).__name__
    if name == "ProbableAuthenticationError" or getattr(cause, "reply_code", 0) == 403:
        return "it refused the user name or the password; check broker_username and broker_password"
    if isinstance(cause, ConnectionClosedByBroker) and cause.reply_code == 530:
        return f"{cause.reply_text}; check broker_vhost, and that the user may use it"
    if name == "ProbableAccessDeniedError":
        return "the vhost does not exist or the user may not use it; check broker_vhost"
    if isinstance(cause, (OSError, AMQPError)):
        return f"{cause}; check broker_host and broker_port, and that RabbitMQ runs there"
    return repr(cause)
