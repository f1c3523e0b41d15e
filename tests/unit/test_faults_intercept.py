# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy that stops a connection at a chosen message, between a client and a broker that are a few lines each."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Iterator

import pytest
from faults import amqp
from faults.cells import ALL, Part, cells_of, stop_of
from faults.intercept import Breakpoint, Hit, Interceptor, Stop
from pika import BasicProperties, frame, spec

VM = "11111111-1111-4111-8111-111111111111"


def message(word: str) -> bytes:
    return json.dumps({"type": word, "vm": VM, "campaign_id": "c"}).encode()


def content(method: spec.Basic.Publish | spec.Basic.Deliver, body: bytes) -> bytes:
    """The frames of a content on channel 1, its body in two of them."""
    half = len(body) // 2
    parts: list[bytes] = [
        frame.Method(1, method).marshal(),
        frame.Header(1, len(body), BasicProperties()).marshal(),
        frame.Body(1, body[:half]).marshal(),
        frame.Body(1, body[half:]).marshal(),
    ]
    return b"".join(parts)


def publication(word: str) -> bytes:
    return content(spec.Basic.Publish(exchange="e", routing_key="k"), message(word))


def delivery(word: str, tag: int) -> bytes:
    return content(spec.Basic.Deliver("consumer", tag, False, "e", "k"), message(word))


def ack(tag: int, multiple: bool = False) -> bytes:
    raw: bytes = frame.Method(1, spec.Basic.Ack(tag, multiple)).marshal()
    return raw


def test_a_stream_of_bytes_is_cut_into_messages_wherever_it_is_broken() -> None:
    stream = b"AMQP\0\0\x09\x01" + publication("start") + frame.Heartbeat().marshal() + publication("cancel")
    reader = amqp.Reader(amqp.PROTOCOL_HEADER)
    units = [unit for byte in stream for unit in reader.feed(bytes([byte]))]
    assert b"".join(unit.raw for unit in units) == stream
    found = [(unit.number, unit.body) for unit in units if isinstance(unit, amqp.Publication)]
    assert found == [(1, message("start")), (2, message("cancel"))]


def test_deliveries_and_acknowledgements_bear_their_tags() -> None:
    units = list(amqp.Reader().feed(delivery("request", 7) + ack(7) + ack(9, multiple=True)))
    assert isinstance(units[0], amqp.Delivery) and (units[0].tag, units[0].body) == (7, message("request"))
    acks = [unit for unit in units if isinstance(unit, amqp.Acknowledgement)]
    assert [unit.covers(1, 7) for unit in acks] == [True, True]
    assert [unit.covers(1, 8) for unit in acks] == [False, True]
    assert not acks[0].covers(2, 7)


class Line:
    """Both ends of one connection through a proxy."""

    def __init__(self, *breakpoints: Breakpoint) -> None:
        self.hits: queue.Queue[Hit] = queue.Queue()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.proxy = Interceptor("127.0.0.1", self._server.getsockname(), self.hits)
        self.proxy.stop_at(breakpoints)
        self.proxy.__enter__()
        self.client = socket.create_connection(("127.0.0.1", self.proxy.port))
        self.broker, _address = self._server.accept()
        for end in (self.client, self.broker):
            end.settimeout(10)
        self.client.sendall(b"AMQP\0\0\x09\x01")
        self.take(self.broker, 8)

    def close(self) -> None:
        self.proxy.__exit__()
        for end in (self.client, self.broker, self._server):
            end.close()

    @staticmethod
    def take(end: socket.socket, count: int) -> bytes:
        taken = b""
        while len(taken) < count and (data := end.recv(count - len(taken))):
            taken += data
        return taken

    def rest_of(self, end: socket.socket) -> bytes:
        """What still came to ``end`` once the stopped connection is broken."""
        hit = self.hits.get(timeout=10)
        threading.Timer(0.05, hit.sever).start()
        try:
            return self.take(end, 1_000_000)
        except ConnectionResetError:
            return b""


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    opened: list[Line] = []
    yield opened
    for line in opened:
        line.close()


def line_with(lines: list[Line], stop: Stop, word: str) -> Line:
    lines.append(Line(Breakpoint(stop, word, VM)))
    return lines[-1]


def test_what_is_published_is_held_back(lines: list[Line]) -> None:
    line = line_with(lines, Stop.PUBLISHING, "start")
    line.client.sendall(publication("cancel") + publication("start") + publication("cancel"))
    assert line.take(line.broker, len(publication("cancel"))) == publication("cancel")
    assert line.rest_of(line.broker) == b""


def test_what_was_published_is_stopped_at_when_it_is_confirmed(lines: list[Line]) -> None:
    line = line_with(lines, Stop.PUBLISHED, "start")
    line.client.sendall(publication("cancel") + publication("start") + publication("cancel"))
    passed = publication("cancel") + publication("start")
    assert line.take(line.broker, len(passed)) == passed
    line.broker.sendall(ack(1))
    with pytest.raises(queue.Empty):
        line.hits.get(timeout=0.1)
    line.broker.sendall(ack(2, multiple=True))
    assert line.rest_of(line.client) == b""


def test_of_two_moments_at_once_the_second_waits_for_the_next_connection(lines: list[Line]) -> None:
    line = line_with(lines, Stop.PUBLISHED, "start")
    line.proxy.stop_at([Breakpoint(Stop.PUBLISHING, "cancel", VM)])
    line.client.sendall(publication("start") + publication("cancel"))
    assert line.take(line.broker, len(publication("start"))) == publication("start")
    line.broker.sendall(ack(1))
    hit = line.hits.get(timeout=10)
    assert hit.breakpoint.stop is Stop.PUBLISHED
    hit.sever()
    assert line.proxy.take(Stop.PUBLISHING, json.loads(message("cancel"))) is not None


def test_what_is_delivered_is_held_back(lines: list[Line]) -> None:
    line = line_with(lines, Stop.DELIVERING, "request")
    line.broker.sendall(delivery("progress", 1) + delivery("request", 2))
    assert line.take(line.client, len(delivery("progress", 1))) == delivery("progress", 1)
    assert line.rest_of(line.client) == b""


def test_what_was_delivered_is_stopped_at_when_it_is_acknowledged(lines: list[Line]) -> None:
    line = line_with(lines, Stop.DELIVERED, "request")
    line.broker.sendall(delivery("request", 2))
    assert line.take(line.client, len(delivery("request", 2))) == delivery("request", 2)
    line.client.sendall(ack(1) + ack(2))
    assert line.take(line.broker, len(ack(1))) == ack(1)
    assert line.rest_of(line.broker) == b""


def test_a_stopped_connection_goes_on_with_all_that_was_held(lines: list[Line]) -> None:
    line = line_with(lines, Stop.PUBLISHED, "start")
    line.client.sendall(publication("start") + publication("cancel"))
    line.take(line.broker, len(publication("start")))
    line.broker.sendall(delivery("request", 5) + ack(1))
    line.hits.get(timeout=10).resume()
    assert line.take(line.broker, len(publication("cancel"))) == publication("cancel")
    assert line.take(line.client, len(delivery("request", 5) + ack(1))) == delivery("request", 5) + ack(1)


def test_a_moment_that_a_broken_connection_missed_comes_on_the_next(lines: list[Line]) -> None:
    line = line_with(lines, Stop.DELIVERED, "request")
    line.broker.sendall(delivery("request", 2))
    line.take(line.client, len(delivery("request", 2)))
    line.client.close()
    assert line.take(line.broker, 1) == b""
    assert line.proxy.take(Stop.DELIVERED, json.loads(message("request"))) is not None


def test_the_matrix_has_every_part_at_every_message_on_both_sides() -> None:
    assert [len(cells_of(part)) for part in Part] == [10, 10, 20, 10]
    stops = [(cell.part, *stop_of(cell)) for cell in ALL if cell.part is not Part.AGENT]
    assert len(set(stops)) == len(stops)
