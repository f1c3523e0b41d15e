# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A broker that owes the relay a confirm, or has no route to a journal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pika
import pika.exceptions
import pytest

from isolift_relay import broker
from isolift_relay.events import Outcome

LIMIT_S = 0.02


@pytest.fixture(autouse=True)
def short_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(broker, "CONFIRM_LIMIT_S", LIMIT_S)
    yield


class Session(broker._Session):
    """A session whose connection swallows what is published, and leaves questions open."""

    def __init__(self) -> None:
        self.settled: dict[int, Outcome] = {}
        self.questions = 0
        self._ends: list[Callable[[object, Exception], None]] = []
        heard: Any = SimpleNamespace(published=self.settled.__setitem__)
        super().__init__("queue", heard)
        self._channel = SimpleNamespace(basic_publish=lambda *_args, **_options: None)
        self._connection = SimpleNamespace(channel=self._asked)

    def _asked(self, on_open_callback: object) -> SimpleNamespace:
        self.questions += 1
        return SimpleNamespace(add_on_close_callback=self._ends.append)

    def answer(self, reason: Exception) -> None:
        """The channel of the last question ends."""
        self._ends.pop()(None, reason)

    def publishes(self, token: int) -> None:
        self._send((token,), "exchange", "key", b"{}", None)

    def hears(self, tag: int) -> None:
        self._on_confirm(SimpleNamespace(method=pika.spec.Basic.Ack(tag)))

    def returns(self, tag: int, stream: str = "stream") -> None:
        """No queue took the message of this tag, which is its token as well."""
        properties = pika.BasicProperties(correlation_id=str(tag))
        self._on_return(None, SimpleNamespace(routing_key=stream), properties, b"")
        self.hears(tag)


def run(story: Any) -> None:
    asyncio.run(asyncio.wait_for(story(), 10.0))


def test_a_broker_that_never_confirms_is_given_up() -> None:
    async def story() -> None:
        session = Session()
        session.publishes(1)
        with pytest.raises(broker.SessionLost, match="unanswered"):
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
        with pytest.raises(broker.SessionLost, match="unanswered"):
            await waiting

    run(story)


ABSENT = "NOT_FOUND - queue 'stream' in vhost '/' process is stopped by supervisor"
DOWN = "NOT_FOUND - home node 'rabbit@a' of durable queue 'stream' in vhost '/' is down or inaccessible"
DELETED = "NOT_FOUND - no queue 'stream' in vhost '/'"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (pika.exceptions.ChannelClosedByBroker(404, DELETED), Outcome.GONE),
        (pika.exceptions.ChannelClosedByBroker(404, DOWN), Outcome.REFUSED),
        (pika.exceptions.ChannelClosedByBroker(404, ABSENT), Outcome.REFUSED),
        (pika.exceptions.ChannelClosedByBroker(406, "no queue"), Outcome.REFUSED),
        (pika.exceptions.ChannelClosedByClient(200, "Normal shutdown"), Outcome.REFUSED),  # it is there
        (pika.exceptions.StreamLostError("reset"), Outcome.REFUSED),
    ],
)
def test_only_a_stream_that_does_not_exist_is_gone(answer: Exception, outcome: Outcome) -> None:
    async def story() -> None:
        session = Session()
        session.publishes(1)
        session.publishes(2)
        session.returns(1)
        session.returns(2)
        assert session.questions == 1 and session.settled == {}
        session.answer(answer)
        assert session.settled == {1: outcome, 2: outcome}
        session.publishes(3)
        session.returns(3)
        if outcome is Outcome.GONE:
            assert session.questions == 1 and session.settled[3] is outcome, "such a stream never comes back"
        else:
            assert session.questions == 2 and 3 not in session.settled

    run(story)


def test_a_broker_that_never_says_whether_a_stream_is_there_is_given_up() -> None:
    async def story() -> None:
        session = Session()
        session.publishes(1)
        session.returns(1)
        with pytest.raises(broker.SessionLost, match="unanswered"):
            await session.wait()

    run(story)


def test_a_guest_that_names_many_campaigns_makes_few_questions_and_loses_no_report() -> None:
    async def story() -> None:
        session = Session()
        for token in range(1, 101):
            session.publishes(token)
            session.returns(token, f"stream {token}")
        assert session.questions == broker.QUESTIONS_BURST
        assert list(session.settled.values()) == [Outcome.REFUSED] * (100 - session.questions)

    run(story)


def test_a_connection_that_does_not_end_in_order_is_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """pika says no more than that it closes as long as RabbitMQ owes the end of a channel: the queue would stay bound."""
    monkeypatch.setattr(broker, "CLOSE_TIMEOUT_S", LIMIT_S)

    async def story() -> None:
        session = Session()
        session._connection = SimpleNamespace(
            is_closed=False, is_closing=True, hang_up=lambda: session._closed_for("hung up")
        )
        await session.close()
        assert session._closed.done()

    run(story)
