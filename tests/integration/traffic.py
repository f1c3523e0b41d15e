# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writers and readers of a journal that go on whatever happens to the broker, as a coordinator does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from ansible_collections.isolift.vm.plugins.module_utils.broker import (
    Broker,
    BrokerLost,
    BrokerOptions,
    Connector,
    Publication,
)
from ansible_collections.isolift.vm.plugins.module_utils.topology import JOURNAL_EXCHANGE
from lab.waiting import wait_until

_BATCH = 20
_PAUSE_S = 0.05


class Traffic:
    """What was confirmed to one writer and what the readers saw of one stream."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.confirmed: list[bytes] = []
        self.writing_on = ""
        self.readings: list[list[bytes]] = []
        """What each connection of a reader saw, from the first record on."""
        self.losses: list[str] = []
        self.notices: list[str] = []
        self.works: list[Future[None]] = []
        self._over = threading.Event()

    def write(self, connect: Connector) -> None:
        """Append numbered records until the end; what a lost connection left unconfirmed is given up."""
        while not self._over.is_set():
            with self._bearing(), connect() as broker:
                self.writing_on = broker.host
                self._write(broker)

    def _write(self, broker: Broker) -> None:
        while not self._over.is_set():
            batch = [Publication(JOURNAL_EXCHANGE, self.stream, self._body()) for _unused in range(_BATCH)]
            # A RabbitMQ that was killed takes messages before it has found all routes.
            unrouted = broker.publish(batch)
            self.confirmed += [publication.body for publication in batch if publication not in unrouted]
            self._over.wait(_PAUSE_S)

    def read(self, connect: Connector) -> None:
        """Read from the first record on, with every connection anew, until the end."""
        while not self._over.is_set():
            with self._bearing(), connect() as broker:
                seen: list[bytes] = []
                self.readings.append(seen)
                self._read(broker, seen)

    def _read(self, broker: Broker, seen: list[bytes]) -> None:
        broker.read(self.stream)
        offset = -1
        while not self._over.is_set():
            for delivery in broker.poll(0.2):  # records that were published together have one offset
                assert delivery.offset - offset in (0, 1), f"offset {delivery.offset} after {offset}"
                offset = delivery.offset
                seen.append(delivery.body)

    def wait_for_more(self, count: int = 200, timeout: float = 90.0) -> None:
        """Wait until so many more records are confirmed."""
        goal = len(self.confirmed) + count

        def reached() -> bool:
            for work in self.works:
                if work.done():
                    work.result()  # it failed, for it does not end by itself
            return len(self.confirmed) >= goal

        wait_until(reached, what=f"{count} confirms", timeout=timeout)

    def end(self) -> None:
        """Let writers and readers end."""
        self._over.set()

    def check(self, logs: list[list[bytes]]) -> None:
        """Compare with what the nodes hold afterwards.

        :raise AssertionError: something confirmed is lost or came twice, or two readers saw different orders.
        """
        for log in logs:
            assert log == logs[0]
        log = logs[0]
        assert len(log) == len(set(log))
        assert not set(self.confirmed) - set(log)
        for seen in self.readings:
            assert seen == log[: len(seen)]

    @contextmanager
    def _bearing(self) -> Iterator[None]:
        try:
            yield
        except BrokerLost as error:
            self.losses.append(str(error))
            self._over.wait(0.5)

    def _body(self) -> bytes:
        return f"{time.monotonic_ns()} {self.writing_on}".encode()


@contextmanager
def flowing(stream: str, writer: BrokerOptions, *readers: BrokerOptions) -> Iterator[Traffic]:
    """A writer and readers at work; they have ended, and failed the test if something was wrong, when the context is left."""
    traffic = Traffic(stream)
    with ThreadPoolExecutor(1 + len(readers)) as pool:
        traffic.works = [pool.submit(traffic.write, Connector(writer, traffic.notices.append))]
        traffic.works += [
            pool.submit(traffic.read, Connector(one, traffic.notices.append)) for one in readers
        ]
        try:
            traffic.wait_for_more()
            yield traffic
        finally:
            traffic.end()
        for work in traffic.works:
            work.result()
