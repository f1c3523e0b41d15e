# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting with a limit, whatever comes in whichever turn of the loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from isolift_relay.channel import Channel, Listener
from isolift_relay.waiting import within


def nothing(*_unheard: object) -> None:
    """Hears nothing."""


async def turns(count: int) -> None:
    for _turn in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("turn", range(8))
def test_a_cancellation_is_not_lost_in_whichever_turn_it_comes(turn: int) -> None:
    async def story() -> None:
        async def goes_on() -> None:
            await within(10.0, turns(2))
            await asyncio.sleep(10.0)

        task = asyncio.ensure_future(goes_on())
        await turns(turn)
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        assert task.cancelled()

    asyncio.run(story())


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("turn", range(8))
def test_a_channel_that_is_closed_while_it_connects_ends(tmp_path: Path, turn: int, is_there: bool) -> None:
    async def story() -> None:
        channel = Channel(path, Listener(nothing, nothing, nothing, nothing))
        await turns(turn)
        channel.close()
        await asyncio.wait({channel._task}, timeout=1.0)
        assert channel._task.done()
        with contextlib.suppress(BlockingIOError):  # perhaps it had not come as far as to connect
            guest, _address = listening.accept()
            with guest:
                guest.setblocking(False)
                assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(guest, 1), 1.0) == b""

    path = str(tmp_path / "agent")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path if is_there else f"{path}.other")
        listening.listen()
        listening.setblocking(False)
        asyncio.run(story())


def test_what_takes_too_long_is_cancelled() -> None:
    async def story() -> None:
        is_cancelled = asyncio.Event()

        async def long() -> None:
            try:
                await asyncio.sleep(10.0)
            except asyncio.CancelledError:
                is_cancelled.set()
                raise

        with pytest.raises(asyncio.TimeoutError):
            await within(0.01, long())
        await asyncio.wait_for(is_cancelled.wait(), 1.0)

    asyncio.run(story())


def test_what_goes_wrong_is_raised() -> None:
    async def wrong() -> None:
        raise OSError("refused")

    with pytest.raises(OSError, match="refused"):
        asyncio.run(within(1.0, wrong()))
