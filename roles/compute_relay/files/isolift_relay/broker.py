# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RabbitMQ: one connection that is made again whenever it breaks. All of pika's callbacks end here.

Works with pika 1.2 (Debian 12) and later. To be used on the event loop only.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import ssl
from collections import OrderedDict
from functools import partial
from typing import Any, Callable, Iterable, NamedTuple

import pika
import pika.exceptions
from pika.adapters.asyncio_connection import AsyncioConnection

from . import topology, wire
from .coalescing import Coalescing
from .config import BrokerConfig, ConfigError
from .events import Outcome
from .rates import Bucket
from .waiting import within

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
OPEN_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 5.0
HEARTBEAT_S = 15
BLOCKED_LIMIT_S = 900.0
"""Seconds for which RabbitMQ may take nothing because it is short of memory or disk space, until the session is given up. It does
not notice meanwhile that a session ended, so new ones would only add to its shortage."""

CONFIRM_LIMIT_S = 15.0
"""Seconds after which a confirm is missed, and after as many again the session is given up: a broker that was killed may have taken
messages for a stream that it had not found yet, and owe for them for ever."""

QUESTIONS_PER_S = 1.0
QUESTIONS_BURST = 10.0
"""How often RabbitMQ is asked whether there is a stream: a guest can name campaigns that never were, and RabbitMQ logs each question."""

GONE_KEPT = 1000
"""Streams that RabbitMQ is known not to have; the journal of a campaign is made once."""

OWED_LIMIT = 10_000
"""Most answers that the broker may owe before nothing more is announced."""

QUEUE_LIMIT = 10_000
QUEUE_BYTES_LIMIT = 16 * 1024 * 1024
"""Most messages with commands, and their bytes, that wait for this relay in the broker; the oldest are dropped, and sent again by their
coordinator."""

_WRONG_STATE = (pika.exceptions.ChannelWrongStateError, pika.exceptions.ConnectionWrongStateError)

_TRANSIENT = pika.BasicProperties(content_type="application/json", delivery_mode=1)

_log = logging.getLogger(__name__)


class _Connection(Coalescing, AsyncioConnection):
    """pika's connection on asyncio, made faster."""

    def hang_up(self) -> None:
        """Ends the stream, whatever RabbitMQ still owes."""
        transport = self._transport  # type: ignore[attr-defined]  # pika has no other way
        if transport is not None:
            transport.abort()


class Listener(NamedTuple):
    """Whom the broker tells what happens."""

    up: Callable[[], None]
    down: Callable[[], None]
    delivery: Callable[[int, bytes], None]
    published: Callable[[int, Outcome], None]


class SessionLost(Exception):
    """The connection or its channel is over. The text says why."""


class Broker:
    """Keeps one session with RabbitMQ; publications and acknowledgements outside of one go nowhere."""

    def __init__(self, config: BrokerConfig, node: str, run: str, prefetch: int, listener: Listener) -> None:
        self._config = config
        self._node = node
        self._run_name = run
        self._prefetch = prefetch
        self._listener = listener
        self._sessions = 0
        self._hosts = itertools.cycle(config.hosts)
        self._session: _Session | None = None

    async def run(self) -> None:
        """Connects, and again after every loss, until it is cancelled."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_S
        while True:
            began = loop.time()
            host = next(self._hosts)
            try:
                await self._serve(host)
            except (SessionLost, ConfigError, OSError, asyncio.TimeoutError) as error:
                _log.warning(
                    "broker %s:%d: %s",
                    host,
                    self._config.port,
                    str(error) or "no answer in time",
                )
            if loop.time() - began > LONGEST_PAUSE_S:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def bind(self, key: str) -> None:
        """Routes the commands with that key, a VM's or the node's, here. What is published later on finds them routed."""
        self._do(lambda channel, queue: channel.queue_bind(queue, topology.VM_EXCHANGE, key))

    def unbind(self, vm: str) -> None:
        """Routes the VM's commands here no more."""
        self._do(
            lambda channel, queue: channel.queue_unbind(queue, topology.VM_EXCHANGE, vm, callback=_nothing)
        )

    def ack(self, tag: int) -> None:
        """The command is done."""
        if self._session is not None:
            self._session.ack(tag)

    def publish(self, token: int, exchange: str, key: str, body: bytes) -> None:
        """Publishes persistently and mandatorily; the listener's ``published`` hears of it, unless the session ends."""
        if self._session is not None:
            self._session.publish(token, exchange, key, body)

    def announce(self, exchange: str, body: bytes) -> None:
        """Publishes transiently; nobody needs to listen."""
        if self._session is not None:
            self._session.announce(exchange, body)

    def _do(self, call: Callable[[Any, str], object]) -> None:
        if self._session is not None:
            self._session.do(call)

    async def _serve(self, host: str) -> None:
        self._sessions += 1
        queue = topology.relay_queue(self._node, f"{self._run_name}-{self._sessions}")
        session = _Session(queue, self._listener)
        try:
            await within(OPEN_TIMEOUT_S, session.open(self._parameters(host), self._prefetch))
            _log.info("connected to the broker at %s:%d", host, self._config.port)
            self._session = session
            self._listener.up()
            self.bind(
                topology.node_key(self._node)
            )  # behind the VMs that are sent commands together by that key
            await session.wait()
        finally:
            if self._session is not None:
                self._session = None
                self._listener.down()
            await session.close()

    def _parameters(self, host: str) -> pika.ConnectionParameters:
        config = self._config
        options = None
        if config.tls:
            options = pika.SSLOptions(_tls_context(config.ca_file), host)
        return pika.ConnectionParameters(
            host=host,
            port=config.port,
            virtual_host=config.vhost,
            credentials=pika.PlainCredentials(config.username, config.password()),
            heartbeat=HEARTBEAT_S,
            blocked_connection_timeout=BLOCKED_LIMIT_S,
            ssl_options=options,
            client_properties={"connection_name": f"isolift relay {self._node}"},
        )


class Deliveries:
    """The deliveries of one channel that the broker wants acknowledged, in the order in which they came, by their tags. The commands in
    them are numbered here: a delivery is done when all of its commands are."""

    def __init__(self) -> None:
        self._open: OrderedDict[int, int] = OrderedDict()  # how many commands of it are not done, by tag
        self._tags: dict[int, int] = {}  # by the number of a command
        self._numbered = 0
        self._done: set[int] = set()

    def came(self, tag: int, commands: int) -> range:
        """A delivery came with so many commands; their numbers."""
        numbers = range(self._numbered + 1, self._numbered + commands + 1)
        self._numbered += commands
        self._open[tag] = commands
        self._tags.update(dict.fromkeys(numbers, tag))
        return numbers

    def done(self, number: int) -> bool:
        """The command is done; true if there is something for `acks` that was not there before."""
        tag = self._tags.pop(number)
        self._open[tag] -= 1
        if self._open[tag]:
            return False
        self._done.add(tag)
        return len(self._done) == 1

    def acks(self) -> list[tuple[int, bool]]:
        """What to acknowledge, and whether all before it are meant too: those up to the first that is not done together, the others each."""
        done, self._done = self._done, set()
        oldest = list(itertools.takewhile(done.__contains__, self._open))
        for tag in done:
            del self._open[tag]
        single = [(tag, False) for tag in sorted(done.difference(oldest))]
        return [(oldest[-1], True), *single] if oldest else single


class _Bundle:
    """Records that go into one stream together."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.bodies: list[bytes] = []
        self.size = 0

    def add(self, token: int, body: bytes) -> None:
        """One more."""
        self.tokens.append(token)
        self.bodies.append(body)
        self.size += len(body) + 1


class _Session:
    """One connection with one channel in confirm mode and one exclusive queue, which ends with it."""

    def __init__(self, queue: str, listener: Listener) -> None:
        self._queue = queue
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[str] = (
            self._loop.create_future()
        )  # the channel or the connection ended, and why
        self._closed: asyncio.Future[None] = self._loop.create_future()  # the connection ended
        self._connection: Any = None
        self._channel: Any = None
        self._published = 0
        self._unconfirmed: OrderedDict[int, tuple[int, ...]] = OrderedDict()  # delivery tag: tokens
        self._bundles: dict[tuple[str, str], _Bundle] = {}
        self._returned: dict[int, str] = {}  # first token: the stream that no route leads to
        self._sought: dict[str, list[int]] = {}  # the stream that was asked for: tokens that wait
        self._questions = Bucket(QUESTIONS_PER_S, QUESTIONS_BURST)
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._deliveries = Deliveries()
        self._blocked = False

    async def open(self, parameters: pika.ConnectionParameters, prefetch: int) -> None:
        """Connects and gets everything ready to publish and consume.

        :raises SessionLost: the broker refuses.
        """
        opened: asyncio.Future[Any] = self._loop.create_future()
        self._connection = _Connection(
            parameters,
            on_open_callback=lambda connection: _resolve(opened, connection),
            on_open_error_callback=lambda _connection, error: self._closed_for(
                f"cannot connect: {_reason(error)}"
            ),
            on_close_callback=lambda _connection, error: self._closed_for(_reason(error)),
            custom_ioloop=self._loop,
        )
        await self._unless_lost(opened)
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)
        opened = self._loop.create_future()
        self._channel = self._connection.channel(on_open_callback=lambda channel: _resolve(opened, channel))
        self._channel.add_on_close_callback(lambda _channel, error: self._end(_reason(error)))
        self._channel.add_on_cancel_callback(lambda _frame: self._end("the broker deleted the queue"))
        self._channel.add_on_return_callback(self._on_return)
        await self._unless_lost(opened)
        await self._call(self._channel.confirm_delivery, ack_nack_callback=self._on_confirm)
        await self._call(self._channel.basic_qos, prefetch_count=prefetch)
        bounds = {"x-max-length": QUEUE_LIMIT, "x-max-length-bytes": QUEUE_BYTES_LIMIT}
        await self._call(self._channel.queue_declare, queue=self._queue, exclusive=True, arguments=bounds)
        await self._call(self._channel.basic_consume, queue=self._queue, on_message_callback=self._on_message)

    async def wait(self) -> None:
        """Waits for the end of the session.

        :raises SessionLost: always.
        """
        missed: set[tuple[str, int]] = set()
        while not self._lost.done():
            await asyncio.wait({self._lost}, timeout=CONFIRM_LIMIT_S)
            owed = set() if self._blocked else self._owed()
            if owed & missed:
                self._end(f"it left a message or a question unanswered for more than {CONFIRM_LIMIT_S:g} s")
            missed = owed
        raise SessionLost(self._lost.result())

    async def close(self) -> None:
        """Ends the connection in order, so that the broker drops the queue at once."""
        if self._connection is None or self._connection.is_closed:
            return
        if not self._connection.is_closing:
            self._connection.close()
        await asyncio.wait({self._closed}, timeout=CLOSE_TIMEOUT_S)
        if not self._closed.done():
            self._connection.hang_up()
            await asyncio.wait({self._closed}, timeout=CLOSE_TIMEOUT_S)

    def do(self, call: Callable[[Any, str], object]) -> None:
        """Calls a method of the channel, unless it is about to end."""
        try:
            call(self._channel, self._queue)
        except _WRONG_STATE as error:
            _log.debug("the session is ending: %r", error)  # _end was or will be called

    def publish(self, token: int, exchange: str, key: str, body: bytes) -> None:
        """Publishes persistently and mandatorily, together with what else goes the same way in this turn of the loop."""
        bundle = self._bundles.get((exchange, key))
        if bundle is not None and bundle.size + len(body) >= wire.BUNDLE_LIMIT:
            self._publish_bundles()
            bundle = None
        if bundle is None:
            if not self._bundles:
                self._loop.call_soon(self._publish_bundles)
            bundle = self._bundles[exchange, key] = _Bundle()
        bundle.add(token, body)

    def ack(self, tag: int) -> None:
        """The command is done; the broker is told of all that are at the end of this turn of the loop."""
        if self._deliveries.done(tag):
            self._loop.call_soon(self.do, self._ack_done)

    def _ack_done(self, channel: Any, _queue: str) -> None:
        for tag, multiple in self._deliveries.acks():
            channel.basic_ack(tag, multiple)

    def announce(self, exchange: str, body: bytes) -> None:
        """Publishes transiently, unless too much waits already."""
        if len(self._unconfirmed) < OWED_LIMIT:
            self._send((), exchange, "", body, _TRANSIENT)

    def _publish_bundles(self) -> None:
        bundles, self._bundles = self._bundles, {}
        for (exchange, key), bundle in bundles.items():
            properties = pika.BasicProperties(
                content_type="application/json", delivery_mode=2, correlation_id=str(bundle.tokens[0])
            )
            self._send(tuple(bundle.tokens), exchange, key, wire.bundled(bundle.bodies), properties)

    def _send(self, tokens: tuple[int, ...], exchange: str, key: str, body: bytes, properties: Any) -> None:
        try:
            self._channel.basic_publish(exchange, key, body, properties, mandatory=bool(tokens))
        except _WRONG_STATE as error:
            _log.debug("the session is ending: %r", error)
            return
        self._published += 1
        self._unconfirmed[self._published] = tokens

    async def _call(self, method: Callable[..., object], **arguments: Any) -> None:
        answered: asyncio.Future[Any] = self._loop.create_future()
        method(callback=lambda frame: _resolve(answered, frame), **arguments)
        await self._unless_lost(answered)

    async def _unless_lost(self, future: asyncio.Future[Any]) -> None:
        await asyncio.wait({future, self._lost}, return_when=asyncio.FIRST_COMPLETED)
        if self._lost.done():
            raise SessionLost(self._lost.result())

    def _closed_for(self, reason: str) -> None:
        self._end(reason)
        _resolve(self._closed, None)

    def _owed(self) -> set[tuple[str, int]]:
        """The confirm, and the answer whether a stream is there, that RabbitMQ owes for longest, by delivery tag and token."""
        confirm = [("confirm", tag) for tag in itertools.islice(self._unconfirmed, 1)]
        answer = [("answer", tokens[0]) for tokens in itertools.islice(self._sought.values(), 1)]
        return {*confirm, *answer}

    def _end(self, reason: str) -> None:
        _resolve(self._lost, reason)

    def _on_blocked(self, _connection: object, frame: Any) -> None:
        self._blocked = True
        _log.warning("the broker takes nothing at present: %s", frame.method.reason or "no reason given")

    def _on_unblocked(self, _connection: object, _frame: object) -> None:
        self._blocked = False
        _log.info("the broker takes messages again")

    def _on_message(self, _channel: object, method: Any, _properties: object, body: bytes) -> None:
        commands = wire.unbundled(body)
        numbers = self._deliveries.came(method.delivery_tag, len(commands))
        for number, command in zip(numbers, commands):
            self._listener.delivery(number, command)

    def _on_return(self, _channel: object, method: Any, properties: Any, _body: bytes) -> None:
        self._returned[int(properties.correlation_id)] = method.routing_key  # the confirm of it follows

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        outcome = Outcome.CONFIRMED if isinstance(method, pika.spec.Basic.Ack) else Outcome.REFUSED
        tags = [method.delivery_tag]
        if method.multiple:
            tags = list(itertools.takewhile(lambda tag: tag <= method.delivery_tag, self._unconfirmed))
        for tag in tags:
            tokens = self._unconfirmed.pop(tag)
            stream = self._returned.pop(tokens[0], None) if tokens else None
            if stream is None:
                self._settle(tokens, outcome)
            else:
                self._seek(stream, tokens)

    def _settle(self, tokens: Iterable[int], outcome: Outcome) -> None:
        for token in tokens:
            self._listener.published(token, outcome)

    def _seek(self, stream: str, tokens: Iterable[int]) -> None:
        """Settles publications that had no route, once RabbitMQ said whether the stream is there: after it was killed it takes messages
        for a while before it has found its streams, but it never forgets that it has them."""
        if stream in self._sought:
            self._sought[stream].extend(tokens)
            return
        if stream in self._gone:
            self._settle(tokens, Outcome.GONE)
            return
        if not self._questions.take(1, self._loop.time()):
            self._settle(tokens, Outcome.REFUSED)  # to be said again
            return
        self._sought[stream] = list(tokens)
        try:
            channel = self._connection.channel(on_open_callback=partial(_look_for, stream))
        except _WRONG_STATE as error:
            _log.debug("the session is ending: %r", error)
            return
        channel.add_on_close_callback(lambda _channel, reason: self._found(stream, reason))

    def _found(self, stream: str, reason: Exception) -> None:
        tokens = self._sought.pop(stream)
        if not is_gone(reason):
            self._settle(tokens, Outcome.REFUSED)
            return
        self._gone[stream] = None
        if len(self._gone) > GONE_KEPT:
            self._gone.popitem(last=False)
        self._settle(tokens, Outcome.GONE)


def _resolve(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def is_gone(reason: Exception) -> bool:
    """Whether the channel that asked for a stream ended because there is none. Of one that it has, but cannot reach at present, RabbitMQ
    says something else with the same code."""
    if not isinstance(reason, pika.exceptions.ChannelClosedByBroker):
        return False
    return reason.reply_code == 404 and "no queue" in reason.reply_text


def _look_for(stream: str, channel: Any) -> None:
    """Asks on a channel of its own, which the answer ends: RabbitMQ ends the channel that asks for what it does not have."""

    def found(_frame: object) -> None:
        if channel.is_open:
            channel.close()

    channel.queue_declare(stream, passive=True, callback=found)


def _tls_context(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:  # SSLError is one
        raise ConfigError(f"broker.ca_file {ca_file}: {error}") from error


def _reason(error: BaseException) -> str:
    """What went wrong, without the exceptions that pika wraps around it."""
    inner: object = error
    while isinstance(inner, BaseException):
        error = inner
        causes = getattr(inner, "exceptions", None) or getattr(inner, "exception", None) or inner.args
        inner = causes[-1] if isinstance(causes, (list, tuple)) and causes else causes
    return str(error) or repr(error)


def _nothing(_frame: object) -> None:
    """pika cannot unbind without waiting for the answer."""
