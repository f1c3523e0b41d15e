# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest agent that says and hears exactly what a test wants, on a unix socket of this machine."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from isolift_relay import wire

DEADLINE_S = 90.0
_COMMANDS = wire.registry(*wire.COMMANDS)


class ScriptedAgent:
    """Listens where the relay will connect; to be used as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.session = ""
        self._listening = socket.socket(socket.AF_UNIX)
        self._client: socket.socket | None = None
        self._received = b""

    def __enter__(self) -> ScriptedAgent:
        self._listening.bind(str(self.path))
        self._listening.listen()
        self._listening.settimeout(DEADLINE_S)
        return self

    def __exit__(self, *_error: object) -> None:
        self.leave()
        self._listening.close()

    def leave(self) -> None:
        """Ends the connection, as QEMU does when the domain stops."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def accept(self) -> None:
        """Waits for the relay to connect."""
        self.leave()
        self._received = b""
        self._client, _address = self._listening.accept()
        self._client.settimeout(DEADLINE_S)

    def say(self, *frames: wire.Payload) -> None:
        """Sends frames."""
        self.send(b"".join(wire.encode_frame(frame) for frame in frames))

    def send(self, data: bytes) -> None:
        """Sends bytes that need not make sense."""
        assert self._client is not None
        self._client.sendall(data)

    def hear(self) -> wire.Payload:
        """The next frame.

        :raise TimeoutError: none came.
        """
        while True:
            line, newline, rest = self._received.partition(b"\n")
            if not newline:
                assert self._client is not None
                chunk = self._client.recv(65536)
                assert chunk, "the relay closed the connection"
                self._received += chunk
            else:
                self._received = rest
                if line:
                    return wire.decode_frame(line, _COMMANDS)

    def hear_until(self, wanted: Callable[[wire.Payload], bool]) -> wire.Payload:
        """The next frame that is wanted; others are dropped."""
        while True:
            frame = self.hear()
            if wanted(frame):
                return frame

    def open(self, nonce: str = "nonce") -> None:
        """Answers the relay's knock and waits for the welcome."""
        assert isinstance(self.hear_until(lambda frame: isinstance(frame, wire.Knock)), wire.Knock)
        self._greet(nonce)

    def report(self, message: wire.Message) -> wire.Ack:
        """Sends a report and waits for the relay's acknowledgement of it.

        Asked for a new session meanwhile, it sends the report again, as an agent does: the broker may have refused it.
        """
        self.say(wire.Carry(session=self.session, now=0.0, message=message))
        while True:
            frame = self.hear()
            if isinstance(frame, wire.Ack) and frame.message_id == message.message_id:
                return frame
            if isinstance(frame, wire.Knock):
                self._greet("asked")
                self.say(wire.Carry(session=self.session, now=0.0, message=message))

    def take(self) -> wire.Message:
        """The next command, acknowledged."""
        carry = self.hear_until(lambda frame: isinstance(frame, wire.Carry))
        assert isinstance(carry, wire.Carry) and carry.session == self.session
        self.say(wire.Ack(session=self.session, message_id=carry.message.message_id))
        return carry.message

    def _greet(self, nonce: str) -> None:
        self.say(wire.Hello(nonce=nonce, agent_version="0.1.0", generation="g", counter=1))
        welcome = self.hear_until(lambda frame: isinstance(frame, wire.Welcome))
        assert isinstance(welcome, wire.Welcome) and welcome.nonce == nonce
        self.session = welcome.session
