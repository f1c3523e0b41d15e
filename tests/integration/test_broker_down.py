# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker adapter while a single RabbitMQ restarts, is killed, or is short of memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import pytest
from integration.alarm import memory_alarm
from integration.campaign_run import Run, wait_for
from integration.compute_host import ComputeHost
from integration.journals import TARGET, Journals, opened, vms
from integration.traffic import flowing

from ansible_collections.isolift.vm.plugins.module_utils import broker, broker_link, coordinator
from ansible_collections.isolift.vm.plugins.module_utils.broker import (
    Broker,
    BrokerLost,
    BrokerOptions,
    Delivery,
    Publication,
)
from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_id
from ansible_collections.isolift.vm.plugins.module_utils.topology import (
    JOURNAL_EXCHANGE,
    VM_EXCHANGE,
    journal,
)
from ansible_collections.isolift.vm.plugins.module_utils.wire import Request, Result
from lab.waiting import wait_until


@pytest.fixture
def stream(own_broker: BrokerOptions) -> Iterator[str]:
    name = journal(campaign_id(time.time_ns() // 1_000_000, os.urandom(10)))
    with Broker(own_broker) as broker:
        broker.declare_journal(name)
    yield name
    with Broker(own_broker) as broker:
        broker.delete_journal(name)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("systemctl restart rabbitmq-server.service", marks=pytest.mark.deep),
        "systemctl kill --signal=KILL rabbitmq-server.service",
    ],
)
def test_what_was_confirmed_survives_a_restart_under_writer_and_reader(
    host: ComputeHost, own_broker: BrokerOptions, stream: str, command: str
) -> None:
    with flowing(stream, own_broker, own_broker) as traffic:
        host.run(command, timeout=180)
        wait_until(lambda: len(traffic.readings) > 1, what="the reader to connect again", timeout=180)
        traffic.wait_for_more(timeout=180)
        wait_until(lambda: bool(traffic.readings[-1]), what="the reader to read again", timeout=60)
    with Broker(own_broker) as broker:
        traffic.check([broker.read_all(stream)])


def test_publishing_waits_while_rabbitmq_is_short_of_memory_and_reading_goes_on(
    host: ComputeHost, own_broker: BrokerOptions, stream: str
) -> None:
    options = replace(own_broker, timeout=3.0)
    notices: list[str] = []
    record = Publication(JOURNAL_EXCHANGE, stream, b"one")
    with Broker(options, notices.append) as writer, ThreadPoolExecutor(1) as pool:
        assert writer.publish([record]) == []
        with memory_alarm(host):
            began = time.monotonic()
            publishing = pool.submit(writer.publish, [replace(record, body=b"two")])
            wait_until(lambda: bool(writer.blocked), what="RabbitMQ to block the writer", timeout=30)
            assert "memory" in writer.blocked
            with Broker(options) as reader:
                assert reader.read_all(stream) == [b"one"]
            wait_until(
                lambda: time.monotonic() - began > 2 * options.timeout, what="twice the timeout", timeout=30
            )
            assert not publishing.done()
        assert publishing.result(60) == []
        assert not writer.blocked
        assert writer.read_all(stream) == [b"one", b"two"]
    assert len(notices) == 2
    assert "takes nothing at present (low on memory)" in notices[0] and "takes messages again" in notices[1]


def test_a_writer_does_not_wait_for_ever_for_memory(
    host: ComputeHost, own_broker: BrokerOptions, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_link, "BLOCKED_LIMIT_S", 3.0)
    record = Publication(JOURNAL_EXCHANGE, stream, b"one")
    with Broker(own_broker) as writer, memory_alarm(host), pytest.raises(BrokerLost, match="timeout expired"):
        writer.publish([record])


@pytest.fixture
def campaign(own_broker: BrokerOptions) -> Iterator[tuple[Journals, str, str]]:
    """A campaign that was begun for one VM: where it is, its ID, and the VM."""
    rows = vms(1)
    with Journals(own_broker, replace(own_broker, username="isolift_relay")) as journals:
        name = journals.campaign()
        with Broker(own_broker) as beginning:
            coordinator.Coordinator(beginning, name, "start", "control").begin(opened(300.0), rows)
        yield journals, name, rows[0][0]


def test_a_campaign_waits_while_rabbitmq_is_short_of_memory_and_then_goes_on(
    host: ComputeHost, campaign: tuple[Journals, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "SILENCE_S", 1.0)
    journals, name, vm = campaign
    options = replace(journals.options, timeout=3.0)
    notices: list[str] = []
    with ExitStack() as stack:
        relay = journals.relay(name, [vm])
        with memory_alarm(host):
            run = stack.enter_context(Run(lambda: Broker(options, notices.append), name, "alpha"))
            wait_for(lambda: bool(notices), "RabbitMQ to block the run")
            began = time.monotonic()
            wait_for(lambda: time.monotonic() - began > 2 * options.timeout, "twice the timeout")
        relay.report(vm, Request("1.0.0"))
        wait_for(lambda: run.counts == {"notified": 1}, "the permit")
        relay.report(vm, Result("succeeded", version_after=TARGET))
        ended = run.wait()
    assert (ended.counts(), ended.epoch) == ({"succeeded": 1}, 2)
    assert run.said == [], "the connection was never given up"
    assert len(notices) == 2
    assert "takes nothing at present (low on memory)" in notices[0] and "takes messages again" in notices[1]


class Hindered(Broker):
    """Has a publication under way when it begins to read, and counts how often nothing came because RabbitMQ is short of memory.

    RabbitMQ takes no acknowledgements then either, so that it soon sends no more.
    """

    silences = 0

    def read(self, stream: str) -> int:
        last = super().read(stream)
        self._link.publish(self._link.open_channel(), VM_EXCHANGE, "nobody", b"{}")
        return last

    def poll(self, timeout: float) -> list[Delivery]:
        came = super().poll(timeout)
        self.silences += bool(self.blocked and not came)
        return came


def test_a_journal_that_comes_to_a_halt_because_memory_is_short_is_read_to_its_end(
    host: ComputeHost, campaign: tuple[Journals, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "SILENCE_S", 1.0)
    monkeypatch.setattr(broker, "WINDOW", 1)
    journals, name, vm = campaign
    link = Hindered(journals.options)
    with link, ThreadPoolExecutor(1) as pool:
        reader = coordinator.Coordinator(link, name, "reader", "alpha")
        with memory_alarm(host):
            reading = pool.submit(reader.catch_up)
            wait_for(lambda: link.silences > 3, "silence that would be a failure else")
            assert not reading.done()
        reading.result(60)
    assert list(reader.campaign.upgrades) == [vm]
