# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One VM's channel: the unix socket that QEMU offers for the agent's port.

The socket is drained, whatever its bytes are worth, because a guest that cannot write may hang. Only one that sends much more than
the core takes of it is made to wait, and it alone: all VMs of a node share one thread. What waits to be written is bounded: a guest that
does not read loses the connection.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Callable, NamedTuple

from .rates import Bucket
from .waiting import within
from .wire import FRAME_LIMIT

CONNECT_TIMEOUT_S = 5.0
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
READ_SIZE = 16 * 1024
"""Most bytes of one guest that are read while other guests wait."""

SHARE_PER_S = 1000.0
SHARE_BURST = 2000.0
"""Lines and KiB of one guest that are read in a second, and at once after a pause. What the core takes of it (`Limits`) is less, so
that nobody waits but a guest most of whose lines are refused."""

WRITE_LIMIT = 512 * 1024
"""Most bytes that may wait for the guest to read them."""

_log = logging.getLogger(__name__)


class Listener(NamedTuple):
    """Whom a channel tells what happens."""

    up: Callable[[], None]
    down: Callable[[], None]
    line: Callable[[bytes], None]
    overlong: Callable[[], None]


class LineSplitter:
    """Cuts a stream into lines. Of a line longer than ``limit`` bytes nothing is kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._discarding = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """The lines that ``data`` completes, without their newlines; None stands for one that was too long."""
        lines: list[bytes | None] = []
        *complete, rest = data.split(b"\n")
        for piece in complete:
            self._add(piece, lines)
            if not self._discarding:
                lines.append(bytes(self._buffer))
            self._buffer.clear()
            self._discarding = False
        self._add(rest, lines)
        return lines

    def _add(self, piece: bytes, lines: list[bytes | None]) -> None:
        if self._discarding:
            return
        if len(self._buffer) + len(piece) > self._limit:
            self._buffer.clear()
            self._discarding = True
            lines.append(None)
        else:
            self._buffer += piece


class Channel:
    """Keeps the socket at ``path`` connected until `close`. To be made and used on the event loop."""

    def __init__(self, path: str, listener: Listener) -> None:
        self._path = path
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []
        self._task = self._loop.create_task(self._run())

    def write(self, data: bytes) -> None:
        """Sends ``data``, together with what else this turn of the loop has for the guest, or nothing if the socket is not connected
        (``down`` was or will be called)."""
        if self._transport is None or self._transport.is_closing():
            return
        if not self._pieces:
            self._loop.call_soon(self._flush, self._transport, self._pieces)
        self._pieces.append(data)

    def _flush(self, transport: asyncio.Transport, pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        pieces.clear()
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() + len(data) > WRITE_LIMIT:
            _log.warning("%s: the guest does not read, connecting again", self._path)
            transport.abort()
        else:
            transport.write(data)

    def close(self) -> None:
        """Ends the connection; the listener hears nothing more."""
        self._listener = Listener(_nothing, _nothing, _nothing, _nothing)
        self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    async def _run(self) -> None:
        loop = self._loop
        pause = FIRST_PAUSE_S
        while True:
            began = loop.time()
            closed = await self._connect()
            if closed is not None:
                await closed
                self._transport = None
                self._listener.down()
            if loop.time() - began > LONGEST_PAUSE_S:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _connect(self) -> asyncio.Future[None] | None:
        """The future that ends with the connection, or None if there is none."""
        closed: asyncio.Future[None] = self._loop.create_future()
        connecting = self._loop.create_unix_connection(lambda: _Socket(self, closed), self._path)
        try:
            await within(CONNECT_TIMEOUT_S, connecting)
        except (OSError, asyncio.TimeoutError) as error:
            _log.debug("%s: %r", self._path, error)
        return None if self._transport is None else closed

    def connected(self, transport: asyncio.Transport) -> None:
        """The socket is connected, and nothing was read from it yet."""
        self._transport, self._pieces = transport, []
        self._listener.up()

    def received(self, line: bytes | None) -> None:
        """One line of the guest arrived; None stands for one that was too long."""
        if line is None:
            self._listener.overlong()
        else:
            self._listener.line(line)


class _Socket(asyncio.BufferedProtocol):
    """The connection's end of asyncio.

    All share one buffer, which is emptied as soon as it was filled: for every read of an `asyncio.Protocol` asyncio would reserve 256 KiB,
    which takes five times as long as the read itself.
    """

    _buffer = memoryview(bytearray(READ_SIZE))

    def __init__(self, channel: Channel, closed: asyncio.Future[None]) -> None:
        self._channel = channel
        self._closed = closed
        self._splitter = LineSplitter(FRAME_LIMIT)
        self._share = Bucket(SHARE_PER_S, SHARE_BURST)
        self._loop = asyncio.get_running_loop()
        self._rest: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Now, and not when the coroutine that connects goes on: the guest's first line may have been read by then.
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._channel.connected(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        lines = self._splitter.feed(bytes(self._buffer[:nbytes]))
        for line in lines:
            self._channel.received(line)
        owed_s = self._share.charge(len(lines) + nbytes / 1024, self._loop.time())
        if owed_s > 0.0:
            self._transport.pause_reading()  # that the guest left is noticed when it is over, too
            self._rest = self._loop.call_later(owed_s, self._transport.resume_reading)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest is not None:
            self._rest.cancel()
        if not self._closed.done():
            self._closed.set_result(None)


def _nothing(*_ignored: object) -> None:
    """The listener of a closed channel."""
