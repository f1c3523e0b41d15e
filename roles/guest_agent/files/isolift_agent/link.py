# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's line to the relay: a port that comes and goes, and the sessions on it."""

from __future__ import annotations

import time
from typing import Callable, Iterator

from . import log
from .channel import Channel, PortLost
from .session import Heard, SayHello, Session
from .wire import COMMANDS, Hello, Message, Payload, WireError, decode_frame, encode_frame, registry

RETRY_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between attempts to open a port that is not there."""

_COMMANDS = registry(*COMMANDS)


class Link:
    """Opens the port, greets the relay and hears it. ``hello`` makes a fresh hello."""

    def __init__(self, channel: Channel, hello: Callable[[], Hello]) -> None:
        self._channel = channel
        self._hello = hello
        self._session = Session()
        self._open_at = 0.0
        self._failures = 0

    @property
    def port(self) -> int | None:
        """The descriptor of the open port."""
        return self._channel.file

    @property
    def open(self) -> bool:
        """Whether a session is open."""
        return self._session.open

    def due_in(self) -> float | None:
        """Seconds until `open_port` should be called; None while the port is open."""
        return None if self._channel.file is not None else self._open_at - time.monotonic()

    def open_port(self) -> None:
        """Open the port if it is not open and an attempt is due."""
        wait = self.due_in()
        if wait is None or wait > 0:
            return
        try:
            self._channel.open()
        except OSError as error:
            if not self._failures:
                log.warning(f"cannot open the port: {error}; trying again")
            self._try_later()
        else:
            self._failures = 0
            log.info("the port is open")

    def hear(self, mask: int) -> Iterator[Heard]:
        """What the relay says, after the kernel reported ``mask`` for the port. Hellos that are due are said."""
        was_there = self._channel.host
        try:
            lines = self._channel.ready(mask)
        except PortLost as error:
            self._lost(error)
            return
        if not self._channel.host:
            self._session.close()
        elif not was_there:
            self.greet()
        for line in lines:
            heard = self._decode(line)
            if isinstance(heard, SayHello):
                self.greet()
            elif heard:
                yield heard

    def greet(self) -> None:
        """Begin a new session."""
        if self._channel.host:
            self._channel.discard_unsent()
            frame = self._session.hello(self._hello(), time.monotonic())
            self._send(b"\n" + encode_frame(frame))

    def carry(self, message: Message) -> None:
        """Send a message. Without a session it is not sent; the outbox keeps it for the next one."""
        if self._session.open:
            self._send(encode_frame(self._session.carry(message)))

    def acknowledge(self, message_id: str, refused: str) -> None:
        """Acknowledge a command. Without a session it is not sent; the relay brings the command again."""
        if self._session.open:
            self._send(encode_frame(self._session.ack(message_id, refused)))

    def close(self) -> None:
        """Let go of the port."""
        self._channel.close()
        self._session.close()

    def _decode(self, line: bytes) -> Heard | None:
        try:
            frame: Payload = decode_frame(line, _COMMANDS)
        except WireError as error:
            log.warning(f"dropped a line from the host: {error}")
            return None
        return self._session.hear(frame, time.monotonic())

    def _send(self, data: bytes) -> None:
        try:
            self._channel.send(data)
        except PortLost as error:
            self._lost(error)

    def _lost(self, error: PortLost) -> None:
        log.warning(f"the port was lost: {error}; opening it again")
        self.close()
        self._try_later()

    def _try_later(self) -> None:
        self._open_at = time.monotonic() + RETRY_S[min(self._failures, len(RETRY_S) - 1)]
        self._failures += 1
