# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's side of the session with the relay: frames in, what they mean out. No input or output happens here.

A session begins with our hello, which bears a fresh nonce, and is open from the welcome that repeats it. Whatever names
another session was left over in a buffer and is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from .wire import Ack, Carry, Hello, Knock, Message, Payload, Welcome

HELLO_AGAIN_S = 2.0
"""Seconds that a hello has before frames of an unknown session are taken as a sign that it was lost."""


@dataclass(frozen=True)
class SayHello:
    """A hello is due."""


@dataclass(frozen=True)
class Opened:
    """The session is open. ``vm`` is who we are, ``now`` the host's clock."""

    vm: str
    now: float


@dataclass(frozen=True)
class Taken:
    """The relay took one of our messages, or (``refused``) never will."""

    message_id: str
    refused: str


@dataclass(frozen=True)
class Brought:
    """A command came, at ``now`` by the host's clock."""

    message: Message
    now: float


Heard = Union[SayHello, Opened, Taken, Brought]


class Session:
    """At most one session. ``open`` says whether messages may be sent."""

    def __init__(self) -> None:
        self._nonce = ""
        self._said_at = 0.0
        self._id = ""

    @property
    def open(self) -> bool:
        """Whether the relay has welcomed us."""
        return bool(self._id)

    def close(self) -> None:
        """The host's end is gone."""
        self._nonce = self._id = ""

    def hello(self, frame: Hello, at: float) -> Hello:
        """Begin anew with this hello, sent ``at`` (monotonic seconds)."""
        self._nonce, self._said_at, self._id = frame.nonce, at, ""
        return frame

    def carry(self, message: Message) -> Carry:
        """The frame that brings a message up. The session must be open."""
        return Carry(message=message, session=self._id, now=0.0)

    def ack(self, message_id: str, refused: str = "") -> Ack:
        """The frame that acknowledges a command. The session must be open."""
        return Ack(session=self._id, message_id=message_id, refused=refused)

    def hear(self, frame: Payload, at: float) -> Heard | None:
        """What a frame means that came ``at`` (monotonic seconds); None if nothing."""
        if isinstance(frame, Knock):
            return SayHello()
        if isinstance(frame, Welcome):
            if not self._nonce or frame.nonce != self._nonce:
                return None
            self._nonce, self._id = "", frame.session
            return Opened(frame.vm, frame.now)
        if not isinstance(frame, (Ack, Carry)):
            return None
        if not self._id or frame.session != self._id:
            waiting = bool(self._nonce) and at < self._said_at + HELLO_AGAIN_S
            return None if waiting else SayHello()
        if isinstance(frame, Ack):
            return Taken(frame.message_id, frame.refused)
        return Brought(frame.message, frame.now)
