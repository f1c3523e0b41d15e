# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Campaigns on a real broker that leave nothing behind, and the relay's side of it as the test wants it."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import ExitStack
from urllib.parse import unquote, urlsplit

import pika

from ansible_collections.isolift.vm.plugins.module_utils.broker import Broker, BrokerOptions, Publication
from ansible_collections.isolift.vm.plugins.module_utils.campaign import Campaign
from ansible_collections.isolift.vm.plugins.module_utils.coordinator import Coordinator
from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_id, upgrade_id
from ansible_collections.isolift.vm.plugins.module_utils.records import RECORDS, Opened, Removed, Row
from ansible_collections.isolift.vm.plugins.module_utils.topology import (
    CAMPAIGNS,
    JOURNAL_EXCHANGE,
    PRESENCE_EXCHANGE,
    VM_EXCHANGE,
    journal,
)
from ansible_collections.isolift.vm.plugins.module_utils.wire import Message, Payload, decode, encode
from lab import settings

TARGET = "2.0.0"


PASSWORDS = {"isolift_controller": settings.CONTROLLER_PASSWORD, "isolift_relay": settings.RELAY_PASSWORD}


def options_of(user: str) -> BrokerOptions:
    """The lab's broker as ``user``, or the one that ``ISOLIFT_TEST_BROKER`` names: amqp://user:password@host:port/vhost."""
    url = os.environ.get("ISOLIFT_TEST_BROKER")
    if not url:
        return BrokerOptions(settings.BROKER_HOST, 5672, "isolift", user, PASSWORDS[user])
    parts = urlsplit(url)
    assert parts.hostname and parts.port and parts.username and parts.password
    return BrokerOptions(
        parts.hostname, parts.port, unquote(parts.path[1:]), parts.username, unquote(parts.password)
    )


def vms(count: int) -> list[Row]:
    """A selection of ``count`` VMs that nobody else has."""
    return [Row(str(uuid.uuid4()), f"desk-{number}", "node1") for number in range(count)]


def opened(deadline_s: float = 600.0) -> Opened:
    """The opening of a campaign that ends in ``deadline_s`` seconds."""
    return Opened(
        component="guest-tools",
        target_version=TARGET,
        iso_sha256="a" * 64,
        manifest_sha256="b" * 64,
        media_path="/var/lib/isolift/media/x.iso",
        deadline=time.time() + deadline_s,
        permit_s=300.0,
        consent="auto",
    )


class Journals:
    """Makes campaigns and connections; at its end it closes these and deletes those."""

    def __init__(self, options: BrokerOptions, relay_options: BrokerOptions) -> None:
        self.options = options
        self._relay_options = relay_options
        self._campaigns: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> Journals:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()
        with Broker(self.options) as broker:
            for campaign in self._campaigns:
                broker.delete_journal(journal(campaign))
                if self.is_listed(broker, campaign):
                    self.publish(
                        broker, CAMPAIGNS, Campaign(campaign, "tests").record(Removed(), time.time())
                    )

    def connect(self) -> Broker:
        """A connection of its own."""
        return self._stack.enter_context(Broker(self.options))

    def campaign(self) -> str:
        """The ID of a campaign that nobody else has."""
        made = campaign_id(time.time_ns() // 1_000_000, os.urandom(10))
        self._campaigns.append(made)
        return made

    def stream(self, broker: Broker) -> str:
        """An empty journal; its name."""
        name = journal(self.campaign())
        broker.declare_journal(name)
        return name

    def coordinator(self, campaign: str, nonce: str) -> Coordinator:
        """A coordinator with a connection of its own."""
        return Coordinator(self.connect(), campaign, nonce, "control")

    def relay(self, campaign: str, vms: list[str]) -> Relay:
        """The relay of these VMs."""
        return self._stack.enter_context(Relay(self._relay_options, campaign, vms))

    def fold(self, campaign: str) -> tuple[Campaign, list[Message]]:
        """The campaign as anybody reads it now, and its records."""
        with Broker(self.options) as broker:
            records = [decode(body, RECORDS) for body in broker.read_all(journal(campaign))]
        folded = Campaign(campaign)
        for record in records:
            folded.apply(record)
        return folded, records

    @staticmethod
    def publish(broker: Broker, stream: str, *messages: Message) -> None:
        """Append to a stream."""
        unroutable = broker.publish(
            [Publication(JOURNAL_EXCHANGE, stream, encode(message)) for message in messages]
        )
        assert not unroutable

    @staticmethod
    def is_listed(broker: Broker, campaign: str) -> bool:
        """Whether the list of campaigns names this one."""
        return any(decode(body, RECORDS).campaign_id == campaign for body in broker.campaigns())


def connected(options: BrokerOptions) -> pika.BlockingConnection:
    """A connection of the test's own."""
    credentials = pika.PlainCredentials(options.username, options.password)
    return pika.BlockingConnection(
        pika.ConnectionParameters(options.host, options.port, options.vhost, credentials)
    )


class Relay:
    """The relay of some VMs, as far as the broker sees one: a queue, and reports into journals."""

    def __init__(self, options: BrokerOptions, campaign: str, vms: list[str]) -> None:
        self._campaign = campaign
        self._sequence = 0
        self._connection = connected(options)
        self._channel = self._connection.channel()
        self._queue = f"isolift.relay.tests.{uuid.uuid4()}"
        self._channel.queue_declare(self._queue, exclusive=True, auto_delete=True)
        for vm in vms:
            self._channel.queue_bind(self._queue, VM_EXCHANGE, vm)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()

    def commands(self) -> list[Message]:
        """The commands that came since the last call."""
        found: list[Message] = []
        while True:
            method, _properties, body = self._channel.basic_get(self._queue, auto_ack=True)
            if method is None or body is None:
                return found
            found.append(decode(body))

    def report(self, vm: str, payload: Payload) -> None:
        """A report about the upgrade of ``vm``."""
        message = self._message(vm, payload, upgrade_id(self._campaign, vm, 1), self._campaign)
        self._channel.basic_publish(JOURNAL_EXCHANGE, journal(self._campaign), encode(message))

    def announce(self, vm: str, payload: Payload) -> None:
        """Presence of ``vm``."""
        self._channel.basic_publish(PRESENCE_EXCHANGE, "", encode(self._message(vm, payload, "", "")))

    def spoil(self, garbage: bytes) -> None:
        """Put something into the journal that is no record."""
        self._channel.basic_publish(JOURNAL_EXCHANGE, journal(self._campaign), garbage)

    def _message(self, vm: str, payload: Payload, upgrade: str, campaign: str) -> Message:
        self._sequence += 1
        return Message(payload, f"tests.{self._sequence}", upgrade, campaign, vm, 1, 0, time.time())
