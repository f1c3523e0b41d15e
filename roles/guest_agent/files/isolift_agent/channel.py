# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtio-serial port: lines in, lines out, and whether the host's end is there.

An absent host makes the port readable at its end of file for ever, so the port is watched edge-triggered: the kernel wakes us when
the host's end comes or goes, and not in between. Writing never blocks; what the port does not take waits for it.
"""

from __future__ import annotations

import errno
import os
import select
from typing import Callable

from .wire import FRAME_LIMIT

EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET
"""What to watch the port for. The end of the host (EPOLLHUP) is always reported."""

READ_SIZE = 64 * 1024
READS_AT_ONCE = 16
UNSENT_LIMIT = 4 * 1024 * 1024
"""Most bytes that wait for the port."""

OpenPort = Callable[[], int]


def opener(path: str) -> OpenPort:
    """How to open the port at ``path``, without blocking."""
    return lambda: os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


class PortLost(Exception):
    """The port is gone or failed; open it again."""


class LineBuffer:
    """Cuts received bytes into lines. A line over the limit is dropped up to its end."""

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self._limit = limit
        self._rest = b""
        self._dropping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines, without their ends and without empty ones, that ``data`` completes."""
        *ended, rest = (self._rest + data).split(b"\n")
        lines = []
        for line in ended:
            if not self._dropping and len(line) <= self._limit and line:
                lines.append(line)
            self._dropping = False
        if len(rest) > self._limit:
            self._dropping = True
        self._rest = b"" if self._dropping else rest
        return lines

    def clear(self) -> None:
        """Forget the line that has begun."""
        self._rest, self._dropping = b"", False


class Channel:
    """One port. ``host`` says whether the host's end is there, as far as known."""

    def __init__(self, open_port: OpenPort, epoll: select.epoll) -> None:
        self._open_port = open_port
        self._epoll = epoll
        self._file: int | None = None
        self._lines = LineBuffer()
        self._unsent = bytearray()
        self.host = False

    @property
    def file(self) -> int | None:
        """The descriptor of the open port."""
        return self._file

    def open(self) -> None:
        """Open the port and watch it.

        :raises OSError: it does not exist, cannot be watched, or somebody else has it open.
        """
        file = self._open_port()
        try:
            self._epoll.register(file, EVENTS)
        except OSError:
            os.close(file)
            raise
        self._file = file

    def close(self) -> None:
        """Let go of the port; what was not sent is dropped."""
        if self._file is not None:
            os.close(self._file)  # epoll forgets it by itself
            self._file = None
        self._host_left()

    def ready(self, events: int) -> list[bytes]:
        """Read after the kernel reported ``events``; the lines that came.

        :raises PortLost: the port failed.
        """
        if not events & select.EPOLLHUP:
            self.host = True
        lines = self._read()
        if self.host:
            self._flush()
        return lines

    def send(self, line: bytes) -> None:
        """Send a line now or as soon as the port takes it.

        :raises PortLost: the port failed, or nobody drains it.
        """
        if len(self._unsent) + len(line) > UNSENT_LIMIT:
            raise PortLost(f"the host left {len(self._unsent)} bytes unread")
        self._unsent += line
        self._flush()

    def discard_unsent(self) -> None:
        """Forget what waits to be sent. A line that was half sent needs a newline before the next one."""
        self._unsent.clear()

    def _read(self) -> list[bytes]:
        assert self._file is not None
        lines: list[bytes] = []
        for _unused in range(READS_AT_ONCE):
            try:
                data = os.read(self._file, READ_SIZE)
            except BlockingIOError:
                return lines
            except OSError as error:
                raise PortLost(_reason(error)) from error
            if not data:
                self._host_left()
                return lines
            lines += self._lines.feed(data)
        self._epoll.modify(self._file, EVENTS)  # there is more: be woken again
        return lines

    def _flush(self) -> None:
        while self._unsent and self._file is not None:
            try:
                written = os.write(self._file, self._unsent[:READ_SIZE])
            except BlockingIOError:
                return
            except OSError as error:
                raise PortLost(_reason(error)) from error
            del self._unsent[:written]

    def _host_left(self) -> None:
        self.host = False
        self._lines.clear()
        self._unsent.clear()


def _reason(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "") + f": {error.strerror}"
