# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay's channel against real unix sockets, and its cutting of lines."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolift_relay import channel as module
from isolift_relay.channel import READ_SIZE, SHARE_BURST, WRITE_LIMIT, Channel, LineSplitter, Listener
from isolift_relay.rates import Limits
from isolift_relay.wire import FRAME_LIMIT

DEADLINE_S = 10.0


class Host:
    """Stands for the relay: keeps what the channel tells it, and waits for it."""

    def __init__(self) -> None:
        self.heard: list[str | bytes] = []
        self._news = asyncio.Event()

    def listener(self) -> Listener:
        return Listener(
            up=lambda: self._hear("up"),
            down=lambda: self._hear("down"),
            line=self._hear,
            overlong=lambda: self._hear("overlong"),
        )

    def _hear(self, what: str | bytes) -> None:
        self.heard.append(what)
        self._news.set()

    async def hears(self, *expected: str | bytes) -> None:
        """Waits until exactly this was heard, and forgets it."""

        async def wait() -> None:
            while self.heard != list(expected):
                assert len(self.heard) <= len(expected), self.heard
                self._news.clear()
                await self._news.wait()

        await asyncio.wait_for(wait(), DEADLINE_S)
        self.heard.clear()


class EagerGuest:
    """Stands for QEMU with a guest that speaks the moment somebody connects."""

    def __init__(self, path: Path, words: bytes) -> None:
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._listening.settimeout(DEADLINE_S)
        self.has_spoken = threading.Event()
        self._thread = threading.Thread(target=self._speak, args=(words,))
        self._thread.start()

    def _speak(self, words: bytes) -> None:
        self._client, _address = self._listening.accept()
        self._client.sendall(words)
        self.has_spoken.set()

    def close(self) -> None:
        self._thread.join()
        self._client.close()
        self._listening.close()


class Guest:
    """Stands for QEMU: listens on the socket and serves one client after the other."""

    def __init__(self, path: Path) -> None:
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.setblocking(False)
        self._listening.bind(str(path))
        self._listening.listen()
        self._client: socket.socket | None = None

    async def accepts(self) -> None:
        self.leaves()
        accepting = asyncio.get_running_loop().sock_accept(self._listening)
        client, _address = await asyncio.wait_for(accepting, DEADLINE_S)
        client.setblocking(False)
        self._client = client

    async def sends(self, data: bytes) -> None:
        assert self._client is not None
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self._client, data), DEADLINE_S)

    async def receives(self, size: int) -> bytes:
        assert self._client is not None
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._client, size), DEADLINE_S)

    def leaves(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def stops(self) -> None:
        self.leaves()
        self._listening.close()


async def until(condition: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), DEADLINE_S)


def test_lines_come_whole_however_they_were_sent(tmp_path: Path) -> None:
    async def story() -> None:
        host, guest = Host(), Guest(tmp_path / "agent")
        channel = Channel(str(tmp_path / "agent"), host.listener())
        await guest.accepts()
        await guest.sends(b"one\ntw")
        await host.hears("up", b"one")
        await guest.sends(b"o\n\nthree\n")
        await host.hears(b"two", b"", b"three")
        channel.close()
        guest.stops()

    asyncio.run(story())


def test_a_guest_that_speaks_at_once_is_heard_after_the_connection(tmp_path: Path) -> None:
    async def story() -> None:
        host, guest = Host(), EagerGuest(tmp_path / "agent", b"hello\n")
        channel = Channel(str(tmp_path / "agent"), host.listener())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(guest.has_spoken.wait, DEADLINE_S)  # the relay is busy meanwhile
        await host.hears("up", b"hello")
        channel.close()
        guest.close()

    asyncio.run(story())


def test_a_line_without_end_is_thrown_away_and_the_next_one_heard(tmp_path: Path) -> None:
    async def story() -> None:
        host, guest = Host(), Guest(tmp_path / "agent")
        channel = Channel(str(tmp_path / "agent"), host.listener())
        await guest.accepts()
        await guest.sends(b"x" * (20 * FRAME_LIMIT) + b"\nnext\n" + b"y" * FRAME_LIMIT + b"\n")
        await host.hears("up", "overlong", b"next", b"y" * FRAME_LIMIT)
        channel.close()
        guest.stops()

    asyncio.run(story())


def test_it_writes_and_connects_again_when_the_guest_is_back(tmp_path: Path) -> None:
    async def story() -> None:
        host, path = Host(), tmp_path / "agent"
        channel = Channel(str(path), host.listener())
        channel.write(b"nobody is there yet")
        guest = Guest(path)
        await guest.accepts()
        await host.hears("up")
        channel.write(b"hello\n")
        channel.write(b"in one piece\n")
        assert await guest.receives(100) == b"hello\nin one piece\n"
        guest.stops()
        await host.hears("down")
        channel.write(b"lost")
        path.unlink()
        guest = Guest(path)
        await guest.accepts()
        await host.hears("up")
        channel.close()
        guest.stops()

    asyncio.run(story())


def test_a_guest_that_does_not_read_loses_the_connection_and_costs_no_memory(tmp_path: Path) -> None:
    async def story() -> None:
        host, guest = Host(), Guest(tmp_path / "agent")
        channel = Channel(str(tmp_path / "agent"), host.listener())
        await guest.accepts()
        await host.hears("up")
        piece = b"x" * 4096
        for _time in range(4 * WRITE_LIMIT // len(piece)):
            channel.write(piece)
        await host.hears("down")
        await guest.accepts()
        await host.hears("up")
        channel.close()
        guest.stops()

    asyncio.run(story())


def test_a_guest_that_floods_is_drained_at_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARE_PER_S", 200_000.0)

    async def story() -> None:
        host, guest = Host(), Guest(tmp_path / "agent")
        channel = Channel(str(tmp_path / "agent"), host.listener())
        await guest.accepts()
        began = asyncio.get_running_loop().time()
        await guest.sends(b"z\n" * 100_000)
        await until(lambda: len(host.heard) == 100_001)
        at_once = SHARE_BURST + READ_SIZE
        assert asyncio.get_running_loop().time() - began > (100_000 - at_once) / 200_000
        channel.close()
        guest.stops()

    asyncio.run(story())


@pytest.fixture
def no_second_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has used up what may be read at once waits for ever."""
    monkeypatch.setattr(module, "SHARE_PER_S", 1e-6)


@pytest.mark.usefixtures("no_second_share")
def test_while_a_guest_that_floods_waits_another_is_heard(tmp_path: Path) -> None:
    async def story() -> None:
        hosts, guests = (Host(), Host()), (Guest(tmp_path / "rude"), Guest(tmp_path / "polite"))
        channels = [
            Channel(str(tmp_path / name), host.listener())
            for name, host in zip(("rude", "polite"), hosts, strict=True)
        ]
        for guest in guests:
            await guest.accepts()
        flood = asyncio.ensure_future(guests[0].sends(b"\n" * 20_000_000))
        await until(lambda: len(hosts[0].heard) > SHARE_BURST)
        await guests[1].sends(b"hello\n")
        await hosts[1].hears("up", b"hello")
        assert len(hosts[0].heard) <= 1 + SHARE_BURST + READ_SIZE and not flood.done()
        flood.cancel()
        for channel, guest in zip(channels, guests, strict=True):
            channel.close()
            guest.stops()

    asyncio.run(story())


@pytest.mark.usefixtures("no_second_share")
def test_no_guest_waits_that_sends_what_the_core_takes_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        host, guest = Host(), Guest(tmp_path / "agent")
        channel = Channel(str(tmp_path / "agent"), host.listener())
        await guest.accepts()
        count = int(Limits().messages_burst)
        line = b"z" * (int(Limits().bytes_burst) // count)
        await guest.sends((line + b"\n") * count)
        await host.hears("up", *[line] * count)
        channel.close()
        guest.stops()

    asyncio.run(story())


def test_a_guest_that_leaves_while_it_waits_is_noticed_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARE_PER_S", 50_000.0)

    async def story() -> None:
        host, guest = Host(), Guest(tmp_path / "agent")
        channel = Channel(str(tmp_path / "agent"), host.listener())
        await guest.accepts()
        await guest.sends(b"\n" * READ_SIZE)
        guest.leaves()
        await until(lambda: host.heard[-1:] == ["down"])
        assert host.heard.count(b"") == READ_SIZE
        channel.close()
        guest.stops()

    asyncio.run(story())


def test_after_close_nothing_is_heard_and_nothing_left(tmp_path: Path) -> None:
    async def story() -> None:
        host, guest = Host(), Guest(tmp_path / "agent")
        channel = Channel(str(tmp_path / "agent"), host.listener())
        await guest.accepts()
        await host.hears("up")
        channel.close()
        assert await guest.receives(1) == b""
        await until(lambda: not any("Channel" in repr(task.get_coro()) for task in asyncio.all_tasks()))
        assert host.heard == []
        guest.stops()

    asyncio.run(story())


def test_a_socket_that_is_not_there_is_tried_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.01)

    async def story() -> None:
        tries = 0
        connect = asyncio.get_running_loop().create_unix_connection

        def counting(*arguments: object) -> object:
            nonlocal tries
            tries += 1
            return connect(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(asyncio.get_running_loop(), "create_unix_connection", counting)
        channel = Channel(str(tmp_path / "agent"), Host().listener())
        await until(lambda: tries > 5)
        channel.close()

    asyncio.run(story())


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 20))
def test_cutting_does_not_depend_on_how_the_bytes_arrive(pieces: list[bytes], limit: int) -> None:
    whole = b"".join(pieces)
    splitter = LineSplitter(limit)
    heard = [line for piece in pieces for line in splitter.feed(piece)]
    at_once = LineSplitter(limit).feed(whole)
    assert heard == at_once
    complete = whole.split(b"\n")[:-1]
    assert [line for line in heard if line is not None] == [line for line in complete if len(line) <= limit]
    assert heard.count(None) == sum(len(line) > limit for line in whole.split(b"\n"))
