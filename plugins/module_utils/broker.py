# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RabbitMQ for the modules, the coordinator and the callback: publish a batch and have it confirmed, read a stream, hear presence."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Callable, Iterable, Iterator, List

from .broker_errors import BrokerError, BrokerLost, NoSuchStream, QueueLocked
from .broker_link import PIKA_ERROR, Link
from .broker_options import ARGUMENT_SPEC, BrokerOptions
from .topology import CAMPAIGNS, JOURNAL_EXCHANGE, PRESENCE_EXCHANGE, node_key
from .wire import BUNDLE_LIMIT, bundled, unbundled

__all__ = [
    "ARGUMENT_SPEC",
    "PIKA_ERROR",
    "WINDOW",
    "Broker",
    "BrokerError",
    "BrokerLost",
    "BrokerOptions",
    "Connector",
    "Delivery",
    "NoSuchStream",
    "Publication",
    "QueueLocked",
    "append",
]

WINDOW = 500
"""Publications that may be unconfirmed, and deliveries that may be unacknowledged, at one time."""

_MOST_PREFETCH = 65535


@dataclass(frozen=True)
class Publication:
    """A message to publish; ``tag`` is the caller's own. A command with a ``node`` may go together with others for VMs of that node."""

    exchange: str
    key: str
    body: bytes
    tag: Any = None
    node: str = ""


@dataclass(frozen=True)
class Delivery:
    """A message that came: from the stream or queue ``source``, at ``offset`` (streams only, else -1)."""

    source: str
    offset: int
    body: bytes


Bundle = List[Publication]
"""What is published together: records of one stream, or commands for VMs of one node."""


def bundles(publications: Iterable[Publication]) -> Iterator[Bundle]:
    """The publications in their order, together what follows each other into the same stream or to the same node."""
    bundle: Bundle = []
    size = 0
    for publication in publications:
        fits = size + len(publication.body) < BUNDLE_LIMIT
        if bundle and not (fits and _go_together(bundle[0], publication)):
            yield bundle
            bundle, size = [], 0
        bundle.append(publication)
        size += len(publication.body) + 1
    if bundle:
        yield bundle


def _go_together(one: Publication, other: Publication) -> bool:
    if one.exchange != other.exchange:
        return False
    if one.exchange == JOURNAL_EXCHANGE:
        return one.key == other.key
    return bool(one.node) and one.node == other.node


def _route(bundle: Bundle) -> tuple[str, str]:
    """(exchange, routing key)"""
    first = bundle[0]
    goes_to_node = first.node and len(bundle) > 1
    return first.exchange, node_key(first.node) if goes_to_node else first.key


def _body(bundle: Bundle) -> bytes:
    return bundled([publication.body for publication in bundle])


class Broker:
    """One connection. Use it as a context manager.

    Every method raises `BrokerError` if the connection is lost or the broker refuses what was asked, and `BrokerLost`, which is
    one, if trying again later may help.

    :param notice: told what a person should know while a call takes long.
    """

    def __init__(self, options: BrokerOptions, notice: Callable[[str], None] = lambda text: None) -> None:
        self._link = Link(options, notice)
        self._channel: Any = None
        self._inbox: deque[Delivery] = deque()
        self._unacked: dict[Any, int] = {}
        self._next_tag = 1
        self._unconfirmed: dict[int, Bundle] = {}
        self._returned: list[Publication] = []

    def __enter__(self) -> Broker:
        self.open()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def host(self) -> str:
        """The host that the connection is with."""
        return self._link.options.host

    @property
    def blocked(self) -> str:
        """Why the broker takes nothing at present (it is short of memory or disk space); empty if it does."""
        return self._link.blocked

    def open(self) -> None:
        """Connect and open the publishing channel with confirms.

        :raises BrokerError: unreachable, wrong credentials, no such vhost.
        """
        self._link.open()
        try:
            self._channel = self._link.open_channel()
            confirmed: list[Any] = []
            self._channel.add_on_return_callback(self._on_return)
            self._channel.confirm_delivery(self._on_confirm, callback=self._link.collect(confirmed))
            self._link.wait(lambda: bool(confirmed), "to enable confirms")
        except BrokerError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; what was not confirmed stays unconfirmed."""
        self._link.close()

    # Publishing

    def publish(self, publications: Iterable[Publication]) -> list[Publication]:
        """Publish all, persistent and mandatory, and wait until the broker confirmed each.

        :returns: those that no queue took.
        """
        self._returned = []
        for bundle in bundles(publications):
            if len(self._unconfirmed) >= WINDOW:
                self._await_confirms(WINDOW // 2)
            self._unconfirmed[self._next_tag] = bundle
            self._next_tag += 1
            self._link.publish(self._channel, *_route(bundle), _body(bundle))
        self._await_confirms(0)
        return self._returned

    def _await_confirms(self, most: int) -> None:
        """Wait until at most so many publications are unconfirmed."""
        self._link.wait(
            lambda: len(self._unconfirmed) <= most,
            "to confirm publications",
            lambda: len(self._unconfirmed),
        )

    def _on_return(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        # The broker returns a message before it confirms it, so it is still among the unconfirmed.
        for bundle in self._unconfirmed.values():
            if _route(bundle)[1] == method.routing_key and _body(bundle) == body:
                self._returned.extend(bundle)
                return

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        if method.NAME == "Basic.Nack":
            self._link.fail(
                BrokerLost(f"RabbitMQ at {self._link.options} could not store a message; see its log")
            )
            return
        if method.multiple:
            for tag in list(takewhile(lambda tag: tag <= method.delivery_tag, self._unconfirmed)):
                del self._unconfirmed[tag]
        else:
            self._unconfirmed.pop(method.delivery_tag, None)
        if len(self._unconfirmed) <= WINDOW // 2:
            self._link.wake()

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

    def _request(self, name: str, **arguments: Any) -> None:
        """A request that may be made twice."""
        self._link.patiently(lambda: self._link.request(name, **arguments))

    def read(self, stream: str) -> int:
        """Begin to read ``stream`` from its first record; `poll` brings what comes.

        :returns: the offset of the last record that it has now, -1 if it has none.
        :raises NoSuchStream: there is no such stream.
        """
        return self._open_stream(stream, self._inbox.append)[1]

    def _open_stream(self, stream: str, take: Callable[[Delivery], None]) -> tuple[Any, int]:
        """Consume ``stream`` from its first record; the channel, and the offset of the last record."""
        last = self._link.patiently(lambda: self._last_offset(stream))
        return self._link.patiently(lambda: self._consume(stream, "first", WINDOW, take)), last

    def hear_presence(self, queue: str) -> None:
        """Begin to hear presence on an exclusive queue of our own; `poll` brings what comes.

        :raises QueueLocked: another connection holds that queue.
        """
        self._link.request("queue_declare", queue=queue, exclusive=True, auto_delete=True)
        self._link.request("queue_bind", queue=queue, exchange=PRESENCE_EXCHANGE, routing_key="")
        self._consume(queue, None, WINDOW, self._inbox.append)

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
        self._link.wait(lambda: len(records) > held, f"to send the next record of {stream}")

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
        channel = self._consume(stream, "last", _MOST_PREFETCH, lambda one: offsets.append(one.offset))
        self._link.request("basic_qos", channel, prefetch_count=_MOST_PREFETCH)
        channel.close()
        return max(offsets, default=-1)

    def poll(self, timeout: float) -> list[Delivery]:
        """What came since the last call; waits up to ``timeout`` seconds for something to come."""
        self._acknowledge()
        self._link.run(
            0.0 if self._inbox else timeout
        )  # always, so that the broker goes on while the caller works
        batch = list(self._inbox)
        self._inbox.clear()
        return batch

    def _consume(
        self, queue: str, offset: str | None, prefetch: int, take: Callable[[Delivery], None]
    ) -> Any:
        """Have the broker send a queue or, from the offset on, a stream, on a channel of its own."""
        channel = self._link.open_channel()
        self._link.request("basic_qos", channel, prefetch_count=prefetch)

        def on_message(_channel: Any, method: Any, properties: Any, body: bytes) -> None:
            at = int((properties.headers or {}).get("x-stream-offset", -1))
            for message in unbundled(body):
                take(Delivery(queue, at, message))
            self._unacked[channel] = method.delivery_tag
            self._link.wake()

        arguments = {"x-stream-offset": offset} if offset else None
        self._link.request(
            "basic_consume",
            channel,
            queue=queue,
            on_message_callback=on_message,
            consumer_tag=queue,
            arguments=arguments,
        )
        return channel

    def _acknowledge(self) -> None:
        for channel, tag in self._unacked.items():
            if channel.is_open:
                self._link.call(channel.basic_ack, tag, multiple=True)
        self._unacked.clear()


def append(broker: Broker, stream: str, records: Iterable[bytes]) -> None:
    """Append encoded records to a journal, or to the list of campaigns.

    :raises BrokerLost: that may help later; how many of them the stream has is not known.
    :raises BrokerError: there is no such stream.
    """
    lost = broker.publish(Publication(JOURNAL_EXCHANGE, stream, record) for record in records)
    if lost and broker.stream_exists(stream):
        raise BrokerLost(f"RabbitMQ has no route to the stream {stream}; it may just have been started")
    if lost:
        raise BrokerError(
            f"the stream {stream} is gone or not bound; was the campaign deleted? (role broker)"
        )


class Connector:
    """Makes one connection after the other; each tries first the host behind the one that the last was with.

    So a node of a cluster that accepts connections and serves nothing, as one does that was cut off, is not chosen again at once.
    """

    def __init__(self, options: BrokerOptions, notice: Callable[[str], None]) -> None:
        self._options = options
        self._notice = notice
        self._last: Broker | None = None

    def __call__(self) -> Broker:
        """A connection, to be opened."""
        options = self._options if self._last is None else self._options.after(self._last.host)
        self._last = Broker(options, self._notice)
        return self._last
