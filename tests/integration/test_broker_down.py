# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker adapter while a single RabbitMQ restarts, is killed, or is short of memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from integration.alarm import memory_alarm
from integration.compute_host import ComputeHost
from integration.traffic import flowing

from ansible_collections.isolift.vm.plugins.module_utils import broker_link
from ansible_collections.isolift.vm.plugins.module_utils.broker import (
    Broker,
    BrokerLost,
    BrokerOptions,
    Publication,
)
from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_id
from ansible_collections.isolift.vm.plugins.module_utils.topology import JOURNAL_EXCHANGE, journal
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
    ["systemctl restart rabbitmq-server.service", "systemctl kill --signal=KILL rabbitmq-server.service"],
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
