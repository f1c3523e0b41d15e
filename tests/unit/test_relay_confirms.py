# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A broker that owes the relay a confirm."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pika
import pytest

from isolift_relay import broker

LIMIT_S = 0.02


@pytest.fixture(autouse=True)
def short_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(broker, "CONFIRM_LIMIT_S", LIMIT_S)
    yield


class Session(broker._Session):
    """A session whose connection swallows what is published."""

    def __init__(self) -> None:
        heard: Any = SimpleNamespace(published=lambda _token, _outcome: None)
        super().__init__("queue", heard)
        self._channel = SimpleNamespace(basic_publish=lambda *_args, **_options: None)

    def publishes(self, token: int) -> None:
        self._send((token,), "exchange", "key", b"{}", None)

    def hears(self, tag: int) -> None:
        self._on_confirm(SimpleNamespace(method=pika.spec.Basic.Ack(tag)))


def run(story: Any) -> None:
    asyncio.run(asyncio.wait_for(story(), 10.0))


def test_a_broker_that_never_confirms_is_given_up() -> None:
    async def story() -> None:
        session = Session()
        session.publishes(1)
        with pytest.raises(broker.SessionLost, match="unconfirmed"):
            await session.wait()

    run(story)


def test_a_broker_that_confirms_late_but_goes_on_is_kept() -> None:
    async def story() -> None:
        session = Session()
        waiting = asyncio.ensure_future(session.wait())
        for token in range(1, 30):
            session.publishes(token)
            await asyncio.sleep(LIMIT_S / 4)
            session.hears(token)
        assert not waiting.done()
        session._end("the test is over")
        with pytest.raises(broker.SessionLost, match="over"):
            await waiting

    run(story)


def test_a_broker_that_is_short_of_memory_owes_nothing() -> None:
    async def story() -> None:
        session = Session()
        session.publishes(1)
        session._on_blocked(None, SimpleNamespace(method=SimpleNamespace(reason="memory")))
        waiting = asyncio.ensure_future(session.wait())
        await asyncio.sleep(4 * LIMIT_S)
        assert not waiting.done()
        session._on_unblocked(None, None)
        with pytest.raises(broker.SessionLost, match="unconfirmed"):
            await waiting

    run(story)
