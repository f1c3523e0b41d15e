# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker adapter against a real RabbitMQ."""

from __future__ import annotations

import asyncio
import gc
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from integration.journals import Journals
from integration.proxy import Proxy

from ansible_collections.isolift.vm.plugins.module_utils.broker import (
    WINDOW,
    Broker,
    BrokerError,
    BrokerLost,
    BrokerOptions,
    Connector,
    NoSuchStream,
    Publication,
    QueueLocked,
)
from ansible_collections.isolift.vm.plugins.module_utils.topology import (
    JOURNAL_EXCHANGE,
    PRESENCE_EXCHANGE,
    VM_EXCHANGE,
    coordinator_queue,
)
from isolift_relay import broker as relay_broker
from isolift_relay.config import BrokerConfig

UNKNOWN_PORT = 9  # discard: nobody listens


@pytest.fixture
def broker(journals_of_test: Journals) -> Broker:
    return journals_of_test.connect()


def bodies(count: int, word: str = "record") -> list[bytes]:
    return [f"{word} {number}".encode() for number in range(count)]


def append(broker: Broker, stream: str, records: list[bytes]) -> None:
    assert broker.publish([Publication(JOURNAL_EXCHANGE, stream, record) for record in records]) == []


def refusal(options: BrokerOptions) -> str:
    with pytest.raises(BrokerError) as raised, Broker(options):
        pass
    return str(raised.value)


# What is wrong with the options, said so that it can be put right.


def test_a_broker_that_is_down_is_told_with_its_address_and_what_to_check(
    broker_options: BrokerOptions,
) -> None:
    text = refusal(replace(broker_options, host="127.0.0.1", port=UNKNOWN_PORT))
    assert f"127.0.0.1:{UNKNOWN_PORT}" in text
    assert "Connection refused" in text
    assert "check broker_host and broker_port" in text


def test_a_host_without_an_address_is_told(broker_options: BrokerOptions) -> None:
    text = refusal(replace(broker_options, host="broker.invalid"))
    assert "broker.invalid" in text and "check broker_host" in text


@pytest.mark.parametrize(
    "wrong", [{"password": "wrong"}, {"password": ""}, {"password": "pässwörd"}, {"username": "nobody"}]
)
def test_a_wrong_password_or_user_is_told_without_telling_the_password(
    broker_options: BrokerOptions, wrong: dict[str, Any]
) -> None:
    options = replace(broker_options, **wrong)
    text = refusal(options)
    assert "refused the user name or the password; check broker_username and broker_password" in text
    assert not options.password or options.password not in text.replace("the password", "")


def test_a_vhost_that_does_not_exist_is_told_by_name(broker_options: BrokerOptions) -> None:
    text = refusal(replace(broker_options, vhost="nowhere"))
    assert "'nowhere'" in text and "check broker_vhost" in text


def test_a_certificate_authority_that_cannot_be_read_is_told(
    broker_options: BrokerOptions, tmp_path: Path
) -> None:
    missing, empty = tmp_path / "missing.pem", tmp_path / "empty.pem"
    empty.touch()
    for file in (missing, empty):
        text = refusal(replace(broker_options, ca_cert=str(file)))
        assert "broker_ca_cert" in text and str(file) in text


def test_something_that_accepts_and_then_says_nothing_is_given_up_and_left_with_nothing_open(
    broker_options: BrokerOptions,
) -> None:
    with Proxy("127.0.0.1", UNKNOWN_PORT) as proxy:  # it accepts, and leads nowhere
        proxy.fall_silent()
        text = refusal(replace(broker_options, host="127.0.0.1", port=proxy.port, timeout=2.0))
    assert f"127.0.0.1:{proxy.port}" in text
    gc.collect()  # a socket that was left open is warned about here


def test_the_password_is_not_in_the_options_text(broker_options: BrokerOptions) -> None:
    assert replace(broker_options, password="s3cret").password not in str(
        replace(broker_options, password="s3cret")
    )


# Several nodes.


NOBODY = "192.0.2.1"  # an address that is kept for documentation


def test_a_node_that_is_away_or_has_no_address_is_passed_over(broker_options: BrokerOptions) -> None:
    hosts = f"{NOBODY}, broker.invalid, {broker_options.host}"
    with Broker(replace(broker_options, host=hosts, timeout=9.0)) as broker:
        assert broker.host == broker_options.host


def test_when_no_node_is_up_all_are_named(broker_options: BrokerOptions) -> None:
    options = replace(broker_options, host=f"{NOBODY},broker.invalid", timeout=2.0)
    with pytest.raises(BrokerLost, match=rf"{NOBODY}:.*; .*broker\.invalid:"), Broker(options):
        pass


def test_the_next_connection_begins_behind_the_node_of_the_last(broker_options: BrokerOptions) -> None:
    host = broker_options.host
    connect = Connector(replace(broker_options, host=f"broker.invalid,{host}"), print)
    with connect() as broker:
        assert broker.host == host
    with connect() as broker:
        assert broker.host == host


# Publishing.


def test_what_no_queue_takes_comes_back_and_the_rest_is_stored(
    journals_of_test: Journals, broker: Broker
) -> None:
    stream = journals_of_test.stream(broker)
    publications = [
        Publication(JOURNAL_EXCHANGE, stream if number % 3 else "isolift.campaign.none", record, number)
        for number, record in enumerate(bodies(10))
    ]
    returned = broker.publish(publications)
    assert [publication.tag for publication in returned] == [0, 3, 6, 9]
    assert broker.read_all(stream) == [one.body for one in publications if one.key == stream]


def test_a_command_for_a_vm_that_runs_nowhere_comes_back(broker: Broker) -> None:
    command = Publication(VM_EXCHANGE, "00000000-0000-0000-0000-000000000000", b"x", "tag")
    assert broker.publish([command]) == [command]
    assert broker.publish([]) == []


def test_two_equal_messages_both_come_back(broker: Broker) -> None:
    command = Publication(VM_EXCHANGE, "00000000-0000-0000-0000-000000000000", b"x")
    assert len(broker.publish([command, command])) == 2


def test_many_unroutable_messages_come_back_each_once_and_in_order(broker: Broker) -> None:
    commands = [Publication(VM_EXCHANGE, f"nobody-{number}", b"x", number) for number in range(3 * WINDOW)]
    assert [one.tag for one in broker.publish(commands)] == list(range(3 * WINDOW))


def test_commands_for_the_vms_of_a_node_go_together_to_its_relay(
    broker: Broker, relay_options: BrokerOptions, tmp_path: Path
) -> None:
    here, moved, _off = vms = [str(uuid.uuid4()) for _vm in range(3)]
    commands = [Publication(VM_EXCHANGE, vm, f"for {vm}".encode(), node="node1") for vm in vms]
    alone = [replace(command, node="") for command in commands]
    nobodys = [replace(command, node="node3") for command in commands]

    async def story() -> None:
        async with (
            Relay("node1", here, relay_options, tmp_path) as old,
            Relay("node2", moved, relay_options, tmp_path) as new,
        ):
            assert await asyncio.to_thread(broker.publish, [*commands, *nobodys]) == nobodys
            assert await old.heard(3) == [command.body for command in commands]
            assert await asyncio.to_thread(broker.publish, alone) == [alone[2]]
            assert (await old.heard(1), await new.heard(1)) == ([alone[0].body], [alone[1].body])
            assert (
                await asyncio.to_thread(broker.publish, commands[1:2]) == []
            )  # one by itself goes to its VM
            assert await new.heard(1) == [commands[1].body]
            assert (old.more, new.more) == (0, 0)

    asyncio.run(story())


class Relay:
    """A relay's own connection, which has one VM. It is done with each command as soon as it heard it."""

    def __init__(self, node: str, vm: str, options: BrokerOptions, directory: Path) -> None:
        password = directory / "password"
        password.write_text(options.password)
        config = BrokerConfig(options.host, options.username, str(password), options.port, options.vhost)
        self._vm = vm
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._bound = asyncio.Event()
        listener = relay_broker.Listener(self._up, lambda: None, self._came, lambda *_: self._bound.set())
        self._broker = relay_broker.Broker(config, node, uuid.uuid4().hex, 8, listener)

    async def __aenter__(self) -> Relay:
        self._task = asyncio.ensure_future(self._broker.run())
        await asyncio.wait_for(self._bound.wait(), 20.0)
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def heard(self, count: int) -> list[bytes]:
        """The next commands."""
        return [await asyncio.wait_for(self._inbox.get(), 20.0) for _command in range(count)]

    @property
    def more(self) -> int:
        """How many commands came besides."""
        return self._inbox.qsize()

    def _up(self) -> None:
        self._broker.bind(self._vm)
        self._broker.publish(1, JOURNAL_EXCHANGE, "isolift.campaign.none", b"x")  # answered after it is bound

    def _came(self, number: int, body: bytes) -> None:
        self._inbox.put_nowait(body)
        self._broker.ack(number)


def test_an_exchange_that_is_not_there_is_told(broker: Broker) -> None:
    with pytest.raises(BrokerError, match=r"isolift\.nowhere"):
        broker.publish([Publication("isolift.nowhere", "x", b"x")])


# Streams.


def test_a_long_stream_is_read_to_its_end_exactly(journals_of_test: Journals, broker: Broker) -> None:
    stream = journals_of_test.stream(broker)
    records = bodies(5000)
    append(broker, stream, records)
    assert journals_of_test.connect().read_all(stream) == records


@pytest.mark.parametrize("count", [0, 1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW])
def test_a_stream_of_any_length_is_read_to_its_end(
    journals_of_test: Journals, broker: Broker, count: int
) -> None:
    stream = journals_of_test.stream(broker)
    append(broker, stream, bodies(count))
    assert broker.read_all(stream) == bodies(count)


def test_streams_read_one_after_the_other_are_not_mixed_up(
    journals_of_test: Journals, broker: Broker
) -> None:
    first, second = journals_of_test.stream(broker), journals_of_test.stream(broker)
    append(broker, first, bodies(3, "first"))
    append(broker, second, bodies(3, "second"))
    assert broker.read_all(first) == bodies(3, "first")
    append(broker, first, bodies(1, "later"))
    assert broker.read_all(second) == bodies(3, "second")
    assert broker.read_all(first) == bodies(3, "first") + bodies(1, "later")


def test_a_stream_is_followed_while_it_grows(journals_of_test: Journals, broker: Broker) -> None:
    stream = journals_of_test.stream(broker)
    for body in bodies(3):
        append(broker, stream, [body])
    reader = journals_of_test.connect()
    assert reader.read(stream) == 2
    for body in bodies(2, "later"):
        append(broker, stream, [body])
    found: list[tuple[int, bytes]] = []
    give_up = time.monotonic() + 15
    while len(found) < 5 and time.monotonic() < give_up:
        found += [(delivery.offset, delivery.body) for delivery in reader.poll(1.0)]
    assert found == list(enumerate(bodies(3) + bodies(2, "later")))
    assert reader.poll(0.0) == []


def test_records_that_are_published_together_are_one_message_of_the_stream(
    journals_of_test: Journals, broker: Broker
) -> None:
    stream = journals_of_test.stream(broker)
    append(broker, stream, bodies(3))
    append(broker, stream, bodies(2, "later"))
    reader = journals_of_test.connect()
    assert reader.read(stream) == 1
    found: list[tuple[int, bytes]] = []
    give_up = time.monotonic() + 15
    while len(found) < 5 and time.monotonic() < give_up:
        found += [(delivery.offset, delivery.body) for delivery in reader.poll(1.0)]
    assert found == [(0, body) for body in bodies(3)] + [(1, body) for body in bodies(2, "later")]
    assert reader.read_all(stream) == bodies(3) + bodies(2, "later")


def test_polling_a_quiet_stream_takes_the_time_that_was_given_and_no_more(
    journals_of_test: Journals, broker: Broker
) -> None:
    broker.read(journals_of_test.stream(broker))
    began = time.monotonic()
    assert broker.poll(0.5) == []
    assert 0.4 < time.monotonic() - began < 5


def test_a_stream_that_is_not_there_is_told_and_the_connection_goes_on(
    journals_of_test: Journals, broker: Broker
) -> None:
    for read in (broker.read, broker.read_all):
        with pytest.raises(NoSuchStream, match=r"isolift\.campaign\.none"):
            read("isolift.campaign.none")
    assert not broker.stream_exists("isolift.campaign.none")
    assert broker.read_all(journals_of_test.stream(broker)) == []


def test_a_journal_is_made_once(journals_of_test: Journals, broker: Broker) -> None:
    stream = journals_of_test.stream(broker)
    append(broker, stream, bodies(1))
    with pytest.raises(BrokerError, match=f"{stream} exists already"):
        broker.declare_journal(stream)
    assert broker.read_all(stream) == bodies(1)


def test_a_journal_that_was_deleted_takes_nothing_any_more(
    journals_of_test: Journals, broker: Broker
) -> None:
    stream = journals_of_test.stream(broker)
    broker.delete_journal(stream)
    broker.delete_journal(stream)
    assert not broker.stream_exists(stream)
    assert len(broker.publish([Publication(JOURNAL_EXCHANGE, stream, b"x")])) == 1


# Presence.


def test_every_coordinator_hears_every_presence(
    journals_of_test: Journals, relay_options: BrokerOptions
) -> None:
    listeners = [journals_of_test.connect() for _coordinator in range(2)]
    queues = [coordinator_queue(journals_of_test.campaign()) for _listener in listeners]
    for queue, listener in zip(queues, listeners, strict=True):
        listener.hear_presence(queue)
    with Broker(relay_options) as relay:
        assert relay.publish([Publication(PRESENCE_EXCHANGE, "", b"hello")]) == []
    for queue, listener in zip(queues, listeners, strict=True):
        assert _first_from(listener, queue, b"hello") == -1


def test_only_one_coordinator_hears_presence_for_a_campaign(journals_of_test: Journals) -> None:
    first, second = journals_of_test.connect(), journals_of_test.connect()
    queue = coordinator_queue(journals_of_test.campaign())
    first.hear_presence(queue)
    with pytest.raises(QueueLocked, match=queue):
        second.hear_presence(queue)
    first.close()
    second.hear_presence(queue)


def _first_from(listener: Broker, queue: str, body: bytes) -> int:
    """The offset of the delivery with this body; there may be others, from the lab's own relays."""
    give_up = time.monotonic() + 15
    while time.monotonic() < give_up:
        for delivery in listener.poll(1.0):
            if (delivery.source, delivery.body) == (queue, body):
                return delivery.offset
    raise AssertionError("nothing was heard")


# A network that fails.


@pytest.fixture
def proxy(broker_options: BrokerOptions) -> Iterator[Proxy]:
    with Proxy(broker_options.host, broker_options.port) as proxy:
        yield proxy


ANSWER_S = 3.0


def through(proxy: Proxy, options: BrokerOptions) -> Broker:
    broker = Broker(replace(options, host="127.0.0.1", port=proxy.port, timeout=ANSWER_S))
    broker.open()
    return broker


def test_a_connection_that_breaks_while_waiting_is_told(proxy: Proxy, broker_options: BrokerOptions) -> None:
    broker = through(proxy, broker_options)
    proxy.cut()
    for _again in range(2):
        with pytest.raises(BrokerLost, match="lost the connection to RabbitMQ"):
            broker.poll(10.0)
    with pytest.raises(BrokerLost):
        broker.publish([Publication(VM_EXCHANGE, "x", b"x")])
    broker.close()


def test_a_connection_that_breaks_while_publishing_is_told(
    proxy: Proxy, broker_options: BrokerOptions, journals_of_test: Journals, broker: Broker
) -> None:
    stream = journals_of_test.stream(broker)
    failing = through(proxy, broker_options)

    def publications() -> Iterator[Publication]:
        for number, record in enumerate(bodies(5000)):
            if number == 1000:
                proxy.cut()
            yield Publication(JOURNAL_EXCHANGE, stream, record)

    with pytest.raises(BrokerLost, match="RabbitMQ at 127"):
        failing.publish(publications())
    stored = broker.read_all(stream)
    assert stored == bodies(5000)[: len(stored)]
    failing.close()


def test_a_slow_line_may_take_longer_than_the_time_for_an_answer(
    proxy: Proxy, broker_options: BrokerOptions, journals_of_test: Journals, broker: Broker
) -> None:
    stream = journals_of_test.stream(broker)
    records = [b"x" * 2000 for _record in range(1500)]
    patient = through(proxy, broker_options)
    proxy.slow_down(500_000.0)
    began = time.monotonic()
    assert patient.publish(Publication(JOURNAL_EXCHANGE, stream, record) for record in records) == []
    assert time.monotonic() - began > ANSWER_S
    patient.close()
    assert broker.read_all(stream) == records


def test_a_broker_that_falls_silent_is_given_up_in_time(proxy: Proxy, broker_options: BrokerOptions) -> None:
    broker = through(proxy, broker_options)
    proxy.fall_silent()
    began = time.monotonic()
    with pytest.raises(BrokerLost, match="took more than 3 s"):
        broker.publish([Publication(VM_EXCHANGE, "x", b"x")])
    assert time.monotonic() - began < 10
    proxy.cut()
    broker.close()
