# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try what the broker's users may do and what not: ``permissions.py HOST CA_FILE CONTROLLER_PASSWORD RELAY_PASSWORD``.

Plays a campaign's course between a controller and a relay, then tries what neither may. Prints a line for each promise; the
exit status is 1 if one is broken.
"""

from __future__ import annotations

import ssl
import sys
from typing import Callable

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from ansible_collections.isolift.vm.plugins.module_utils import topology

PORT = 5671
ACCESS_REFUSED = 403
VM = "5f0c1c62-0d6f-4f4a-9d3b-7a1f2f5b1c11"
CAMPAIGN = "01900000-0000-7000-8000-000000000000"
JOURNAL = topology.journal(CAMPAIGN)
RELAY_QUEUE = topology.relay_queue("node1", "s1")
COORDINATOR_QUEUE = topology.coordinator_queue(CAMPAIGN)
DEFAULT_EXCHANGE = ""
FROM_THE_FIRST = {"x-stream-offset": "first"}
STREAM = {"x-queue-type": "stream"}
PATIENCE_S = 15

Deed = Callable[[BlockingChannel], object]


class Broker:
    """RabbitMQ, reached with TLS."""

    def __init__(self, host: str, ca_file: str) -> None:
        self._host = host
        self._tls = pika.SSLOptions(ssl.create_default_context(cafile=ca_file), host)

    def login(self, user: str, password: str, vhost: str = "isolift") -> pika.BlockingConnection:
        """A connection of ``user``."""
        return pika.BlockingConnection(
            pika.ConnectionParameters(
                self._host,
                PORT,
                vhost,
                pika.PlainCredentials(user, password),
                ssl_options=self._tls,
                socket_timeout=PATIENCE_S,
                blocked_connection_timeout=PATIENCE_S,
            )
        )

    def refuses_login(self, user: str, password: str, vhost: str = "isolift") -> bool:
        """Whether ``user`` is turned away for the password or the virtual host."""
        try:
            self.login(user, password, vhost).close()
        except (ProbableAuthenticationError, ProbableAccessDeniedError):
            return True
        return False

    def has_plain_listener(self) -> bool:
        """Whether something answers where RabbitMQ listens without TLS."""
        parameters = pika.ConnectionParameters(self._host, 5672, socket_timeout=PATIENCE_S)
        try:
            pika.BlockingConnection(parameters).close()
        except AMQPConnectionError:
            return False
        return True


def may(connection: pika.BlockingConnection, deed: Deed) -> bool:
    """Whether RabbitMQ lets ``deed`` happen.

    :raises ChannelClosedByBroker: it fails for another reason than permissions.
    """
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        deed(channel)
    except ChannelClosedByBroker as error:
        if error.reply_code != ACCESS_REFUSED:
            raise
        return False
    channel.close()
    return True


def first(
    connection: pika.BlockingConnection, queue: str, arguments: dict[str, str] | None = None
) -> bytes | None:
    """The first message of ``queue``, or None if none comes in time. It is left there: a stream takes no rejection."""
    channel = connection.channel()
    channel.basic_qos(prefetch_count=1)
    messages = channel.consume(queue, arguments=arguments, inactivity_timeout=PATIENCE_S)
    _method, _properties, body = next(messages)
    channel.close()
    return body


def consume(queue: str) -> Deed:
    """Reading ``queue``."""

    def deed(channel: BlockingChannel) -> None:
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(queue, lambda *_arguments: None)

    return deed


def publish(exchange: str, key: str) -> Deed:
    """Publishing to ``exchange``."""
    return lambda channel: channel.basic_publish(exchange, key, b"forged")


class Promises:
    """What was promised, and whether all of it holds."""

    def __init__(self) -> None:
        self.broken = 0

    def check(self, promise: str, holds: bool) -> None:
        """Print ``promise`` with the verdict."""
        print(f"{'holds ' if holds else 'BROKEN'} {promise}")
        self.broken += not holds


def course(promises: Promises, controller: pika.BlockingConnection, relay: pika.BlockingConnection) -> None:
    """What a campaign needs."""
    ours, theirs = controller.channel(), relay.channel()
    for channel in (ours, theirs):
        channel.confirm_delivery()
    ours.queue_declare(JOURNAL, durable=True, arguments=STREAM)
    ours.queue_bind(JOURNAL, topology.JOURNAL_EXCHANGE, JOURNAL)
    ours.queue_declare(COORDINATOR_QUEUE, exclusive=True)
    ours.queue_bind(COORDINATOR_QUEUE, topology.PRESENCE_EXCHANGE, "")
    theirs.queue_declare(RELAY_QUEUE, exclusive=True)
    theirs.queue_bind(RELAY_QUEUE, topology.VM_EXCHANGE, VM)

    ours.basic_publish(topology.VM_EXCHANGE, VM, b"start", mandatory=True)
    promises.check("a command reaches the relay that bound the VM", first(relay, RELAY_QUEUE) == b"start")
    theirs.basic_publish(topology.JOURNAL_EXCHANGE, JOURNAL, b"result", mandatory=True)
    read = first(controller, JOURNAL, FROM_THE_FIRST)
    promises.check("a relay's record is in the journal that the controller reads", read == b"result")
    theirs.basic_publish(topology.PRESENCE_EXCHANGE, "", b"presence", mandatory=True)
    promises.check("presence reaches the coordinator", first(controller, COORDINATOR_QUEUE) == b"presence")
    ours.basic_publish(topology.JOURNAL_EXCHANGE, topology.CAMPAIGNS, b"opened", mandatory=True)
    listed = first(controller, topology.CAMPAIGNS, FROM_THE_FIRST)
    promises.check("the campaigns stream lists what the controller opened", listed == b"opened")


def relay_limits(promises: Promises, relay: pika.BlockingConnection) -> None:
    """What a relay that fell into wrong hands may not do."""
    bind = BlockingChannel.queue_bind
    forbidden: dict[str, Deed] = {
        "read a journal": consume(JOURNAL),
        "read the campaigns stream": consume(topology.CAMPAIGNS),
        "hear what is written to journals": lambda c: bind(
            c, RELAY_QUEUE, topology.JOURNAL_EXCHANGE, JOURNAL
        ),
        "hear presence": lambda c: bind(c, RELAY_QUEUE, topology.PRESENCE_EXCHANGE, ""),
        "send to a VM": publish(topology.VM_EXCHANGE, VM),
        "write to a queue past the exchanges": publish(DEFAULT_EXCHANGE, COORDINATOR_QUEUE),
        "make a journal": lambda c: c.queue_declare(JOURNAL + "2", durable=True, arguments=STREAM),
        "delete a journal": lambda c: c.queue_delete(JOURNAL),
        "delete an exchange": lambda c: c.exchange_delete(topology.VM_EXCHANGE),
        "make an exchange": lambda c: c.exchange_declare("isolift.other"),
    }
    for name, deed in forbidden.items():
        promises.check(f"a relay cannot {name}", not may(relay, deed))


def controller_limits(promises: Promises, controller: pika.BlockingConnection) -> None:
    """What not even the controller may do."""
    forbidden: dict[str, Deed] = {
        "read a relay's queue": consume(RELAY_QUEUE),
        "delete the campaigns stream": lambda c: c.queue_delete(topology.CAMPAIGNS),
        "delete an exchange": lambda c: c.exchange_delete(topology.JOURNAL_EXCHANGE),
        "make a queue of another name": lambda c: c.queue_declare("other"),
        "publish presence": publish(topology.PRESENCE_EXCHANGE, ""),
    }
    for name, deed in forbidden.items():
        promises.check(f"the controller cannot {name}", not may(controller, deed))


def main(host: str, ca_file: str, controller_password: str, relay_password: str) -> int:
    """Check everything and return the exit status."""
    broker, promises = Broker(host, ca_file), Promises()
    with broker.login("isolift_controller", controller_password) as controller:
        with broker.login("isolift_relay", relay_password) as relay:
            course(promises, controller, relay)
            relay_limits(promises, relay)
            controller_limits(promises, controller)
        promises.check(
            "the controller can delete a journal", may(controller, lambda c: c.queue_delete(JOURNAL))
        )
    promises.check("a wrong password is refused", broker.refuses_login("isolift_relay", "wrong"))
    promises.check("guest is refused", broker.refuses_login("guest", "guest", "/"))
    refused = broker.refuses_login("isolift_relay", relay_password, "/")
    promises.check("a relay has no other virtual host", refused)
    promises.check("nothing listens without TLS", not broker.has_plain_listener())
    return 1 if promises.broken else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
