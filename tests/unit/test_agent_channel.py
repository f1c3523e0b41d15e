# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent's port over real sockets and terminals, and its sessions: half lines, garbage, an absent host."""

from __future__ import annotations

import os
import pty
import select
import socket
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.agent_support import NOW, START, VM, command

from isolift_agent.channel import READ_SIZE, UNSENT_LIMIT, Channel, LineBuffer, PortLost, opener
from isolift_agent.session import HELLO_AGAIN_S, Brought, Opened, SayHello, Session, Taken
from isolift_agent.wire import FRAME_LIMIT, Ack, Carry, Hello, Knock, Payload, Welcome

WAIT_S = 5.0


class Port:
    """A channel on one end of a socket pair; ``host`` is the other end."""

    def __init__(self) -> None:
        self.host, guest = socket.socketpair()
        guest.setblocking(False)
        self.epoll = select.epoll()
        self.channel = Channel(guest.detach, self.epoll)
        self.channel.open()

    def lines(self, until: Callable[[list[bytes]], bool]) -> list[bytes]:
        """What the channel reads until the condition holds."""
        found: list[bytes] = []
        deadline = time.monotonic() + WAIT_S
        while not until(found):
            assert time.monotonic() < deadline, f"only {found!r} came"
            for _file, mask in self.epoll.poll(0.1):
                found += self.channel.ready(mask)
        return found

    def close(self) -> None:
        self.channel.close()
        self.host.close()
        self.epoll.close()


@pytest.fixture
def port() -> Iterator[Port]:
    made = Port()
    yield made
    made.close()


def test_lines_arrive_whole_however_they_are_cut(port: Port) -> None:
    for part in (b"\n", b"fir", b"st\nsec", b"ond\n\nth"):
        port.host.sendall(part)
        port.lines(lambda _found: True)
    port.host.sendall(b"ird\n")
    found = port.lines(lambda lines: b"third" in lines)
    assert found == [b"first", b"second", b"third"][-len(found) :]


def test_line_over_the_limit_is_dropped_and_the_next_one_is_not(port: Port) -> None:
    port.host.sendall(b"x" * FRAME_LIMIT)
    port.host.sendall(b"y" * FRAME_LIMIT + b"\nshort\n")
    assert port.lines(bool) == [b"short"]


def test_more_than_is_read_at_once_is_not_forgotten(port: Port) -> None:
    port.host.setblocking(False)
    line = b"z" * 50_000 + b"\n"
    left = line * 60
    found: list[bytes] = []
    deadline = time.monotonic() + WAIT_S
    while len(found) < 60:
        assert time.monotonic() < deadline
        if left:
            try:
                left = left[port.host.send(left) :]
            except BlockingIOError:
                pass  # the channel must read first
        found += port.lines(lambda _found: True)
        for _file, mask in port.epoll.poll(0):
            found += port.channel.ready(mask)
    assert len(found) == 60 and not left


def test_host_that_does_not_read_blocks_nothing(port: Port) -> None:
    port.lines(lambda _found: port.channel.host)
    line = b"w" * READ_SIZE + b"\n"
    for _unused in range(20):
        port.channel.send(line)
    received = b""
    port.host.settimeout(WAIT_S)
    while len(received) < 20 * len(line):
        received += port.host.recv(65536)
        port.lines(lambda _found: True)
        for _file, mask in port.epoll.poll(0):
            port.channel.ready(mask)
    assert received == line * 20


def test_host_that_never_reads_loses_the_port(port: Port) -> None:
    with pytest.raises(PortLost, match="unread"):
        for _unused in range(2 * UNSENT_LIMIT // READ_SIZE):
            port.channel.send(b"w" * READ_SIZE)


def test_absent_host_wakes_nobody(port: Port) -> None:
    port.lines(lambda _found: port.channel.host)
    port.host.shutdown(socket.SHUT_RDWR)
    port.lines(lambda _found: not port.channel.host)
    assert port.epoll.poll(0.3) == [], "readable at its end of file for ever, and yet silent"


def test_terminal_serves_as_a_port() -> None:
    """A pseudo terminal has what a socket has not: a path, and an error when nobody is left."""
    host, guest = pty.openpty()
    tty.setraw(guest)
    path = os.ttyname(guest)
    os.close(guest)
    epoll = select.epoll()
    channel = Channel(opener(path), epoll)
    channel.open()
    try:
        os.write(host, b"hello\n")
        lines: list[bytes] = []
        deadline = time.monotonic() + WAIT_S
        while not lines and time.monotonic() < deadline:
            for _file, mask in epoll.poll(0.1):
                lines += channel.ready(mask)
        assert lines == [b"hello"]
        channel.send(b"answer\n")
        assert os.read(host, 100) == b"answer\n"
        os.close(host)
        with pytest.raises(PortLost, match="EIO"):
            channel.send(b"to nobody\n")
    finally:
        channel.close()
        epoll.close()


def test_port_that_does_not_exist() -> None:
    epoll = select.epoll()
    channel = Channel(opener("/dev/virtio-ports/none"), epoll)
    with pytest.raises(FileNotFoundError):
        channel.open()
    epoll.close()


def test_port_that_cannot_be_watched_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "port").touch()  # epoll watches no regular file
    epoll = select.epoll()
    channel = Channel(opener(str(tmp_path / "port")), epoll)
    before = os.listdir("/proc/self/fd")
    for _unused in range(3):
        with pytest.raises(PermissionError):
            channel.open()
    assert len(os.listdir("/proc/self/fd")) == len(before) and channel.file is None
    epoll.close()


@given(st.lists(st.binary(max_size=40)), st.integers(1, 30))
def test_line_buffer_cuts_any_bytes_as_a_whole_split_would(parts: list[bytes], limit: int) -> None:
    buffer = LineBuffer(limit)
    found = [line for part in parts for line in buffer.feed(part)]
    *ended, _rest = b"".join(parts).split(b"\n")
    assert found == [line for line in ended if line and len(line) <= limit]


# Sessions.


def opened(at: float = 0.0) -> Session:
    """A session that the relay has welcomed."""
    session = Session()
    session.hello(Hello(nonce="n1"), at)
    assert session.hear(Welcome("n1", "s1", VM, NOW), at) == Opened(VM, NOW)
    return session


def brought(session: str = "s1") -> Carry:
    """A start, carried in a session."""
    return Carry(session=session, now=NOW, message=command(START))


def test_session_opens_with_the_welcome_to_our_hello() -> None:
    session = Session()
    session.hello(Hello(nonce="n1"), 0.0)
    assert not session.open
    assert session.hear(Welcome("other", "s0", VM, NOW), 0.0) is None and not session.open
    assert session.hear(Welcome("n1", "s1", VM, NOW), 0.0) == Opened(VM, NOW) and session.open
    assert session.hear(Welcome("n1", "s2", VM, NOW), 0.0) is None, "a nonce serves once"


def test_frames_of_our_session_are_heard() -> None:
    session = opened()
    assert session.hear(brought(), 1.0) == Brought(command(START), NOW)
    assert session.hear(Ack(session="s1", message_id="m", refused="no"), 1.0) == Taken("m", "no")
    assert session.carry(command(START)).session == session.ack("m").session == "s1"


@pytest.mark.parametrize("frame", [brought("old"), Ack(session="old", message_id="m")])
def test_frames_of_an_unknown_session_call_for_a_hello(frame: Payload) -> None:
    assert opened().hear(frame, 1.0) == SayHello()
    assert Session().hear(frame, 1.0) == SayHello()


def test_frames_of_an_unknown_session_bring_no_storm_of_hellos() -> None:
    session = Session()
    session.hello(Hello(nonce="n1"), 10.0)
    assert session.hear(brought("old"), 10.0 + HELLO_AGAIN_S / 2) is None
    assert session.hear(brought("old"), 10.0 + HELLO_AGAIN_S) == SayHello()


def test_knock_always_calls_for_a_hello() -> None:
    session = opened()
    assert session.hear(Knock(), 1.0) == SayHello()
    session.hello(Hello(nonce="n2"), 1.0)
    assert not session.open
    assert session.hear(Knock(), 1.0) == SayHello()


def test_hello_ends_the_session_before() -> None:
    session = opened()
    session.hello(Hello(nonce="n2"), 5.0)
    assert session.hear(brought("s1"), 5.0) is None


def test_frames_that_only_a_relay_should_get_mean_nothing() -> None:
    assert opened().hear(Hello(nonce="x"), 1.0) is None


def test_closed_session_hears_no_late_welcome() -> None:
    session = Session()
    session.hello(Hello(nonce="n1"), 0.0)
    session.close()
    assert session.hear(Welcome("n1", "s1", VM, NOW), 0.0) is None
