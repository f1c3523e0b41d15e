# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of AMQP 0.9.1 as it takes to see which message passes on a connection: frames, contents and acknowledgements."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

PROTOCOL_HEADER = 8
"""Bytes with which a client begins a connection, before its first frame."""

_METHOD, _HEADER, _BODY = 1, 2, 3
_PUBLISH, _RETURN, _DELIVER, _ACK = (60, 40), (60, 50), (60, 60), (60, 80)
_CONTENTS = (_PUBLISH, _RETURN, _DELIVER)


@dataclass(frozen=True)
class Unit:
    """What is forwarded as a whole: the bytes of one frame, or of one content with all its frames."""

    raw: bytes
    channel: int = 0


@dataclass(frozen=True)
class Publication(Unit):
    """A message that a client publishes: the ``number``-th of its channel, counted from 1 as confirms do."""

    number: int = 0
    body: bytes = b""


@dataclass(frozen=True)
class Delivery(Unit):
    """A message that the broker delivers."""

    tag: int = 0
    body: bytes = b""


@dataclass(frozen=True)
class Acknowledgement(Unit):
    """basic.ack: a client's for a delivery, or the broker's confirm of a publication."""

    tag: int = 0
    multiple: bool = False

    def covers(self, channel: int, tag: int) -> bool:
        """Whether it is for the delivery or publication ``tag`` of ``channel``."""
        return self.channel == channel and (self.tag == tag or (self.multiple and self.tag >= tag))


@dataclass
class _Content:
    """A content whose frames have not all come yet."""

    method: tuple[int, int]
    arguments: bytes
    raw: bytearray
    missing: int = 0
    body: bytearray = field(default_factory=bytearray)


class Reader:
    """Cuts one direction of a connection into units. ``skip`` bytes come before the first frame."""

    def __init__(self, skip: int = 0) -> None:
        self._skip = skip
        self._buffer = bytearray()
        self._contents: dict[int, _Content] = {}
        self._published: dict[int, int] = {}

    def feed(self, data: bytes) -> Iterator[Unit]:
        """The units that ``data`` completes."""
        self._buffer += data
        if self._skip:
            if len(self._buffer) < self._skip:
                return
            yield Unit(self._take(self._skip))
            self._skip = 0
        while len(self._buffer) >= 7:
            kind, channel, size = struct.unpack_from(">BHI", self._buffer)
            if len(self._buffer) < size + 8:
                return
            raw = self._take(size + 8)
            yield from self._frame(kind, channel, raw)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _frame(self, kind: int, channel: int, raw: bytes) -> Iterator[Unit]:
        payload = raw[7:-1]
        if kind == _METHOD:
            method: tuple[int, int] = struct.unpack_from(">HH", payload)
            if method in _CONTENTS:
                self._contents[channel] = _Content(method, payload[4:], bytearray(raw))
            elif method == _ACK:
                tag, bits = struct.unpack_from(">QB", payload, 4)
                yield Acknowledgement(raw, channel, tag, bool(bits & 1))
            else:
                yield Unit(raw, channel)
        elif kind in (_HEADER, _BODY):
            content = self._contents[channel]
            content.raw += raw
            if kind == _HEADER:
                content.missing = struct.unpack_from(">Q", payload, 4)[0]
            else:
                content.body += payload
                content.missing -= len(payload)
            if content.missing == 0:
                yield self._whole(channel, self._contents.pop(channel))
        else:
            yield Unit(raw, channel)

    def _whole(self, channel: int, content: _Content) -> Unit:
        raw, body = bytes(content.raw), bytes(content.body)
        if content.method == _PUBLISH:
            number = self._published[channel] = self._published.get(channel, 0) + 1
            return Publication(raw, channel, number, body)
        if content.method == _DELIVER:
            after_name = 1 + content.arguments[0]
            return Delivery(raw, channel, struct.unpack_from(">Q", content.arguments, after_name)[0], body)
        return Unit(raw, channel)
