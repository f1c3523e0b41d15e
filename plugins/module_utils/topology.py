# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of everything in the broker: exchanges, queues, streams and routing keys.

The role ``broker`` declares the three exchanges and the campaigns stream, `upgrade_start` a campaign's journal, and every
relay and coordinator its own exclusive queue.
"""

from __future__ import annotations

from functools import lru_cache

from .ids import journal_key

VM_EXCHANGE = "isolift.vm"
"""Direct exchange for commands; the routing key is the VM's UUID or, of several commands together, that of a node."""

JOURNAL_EXCHANGE = "isolift.journal"
"""Direct exchange for records; the routing key is the journal's name."""

PRESENCE_EXCHANGE = "isolift.presence"
"""Fanout exchange for presence messages; coordinators bind transient queues."""

CAMPAIGNS = "isolift.campaigns"
"""Stream that lists every campaign: its opening and its closing record."""

_KEY_LIMIT = 255  # bytes of a routing key in AMQP

RELAY_QUEUE_PREFIX = "isolift.relay."
COORDINATOR_QUEUE_PREFIX = "isolift.coordinator."


@lru_cache(maxsize=64)
def journal(any_id: str) -> str:
    """The name of the stream, and its routing key, that holds the campaign of this campaign or upgrade ID.

    :raises ValueError: not such an ID.
    """
    return "isolift.campaign." + journal_key(any_id)


def node_key(node: str) -> str:
    """The routing key of commands for several VMs of a node; no UUID is like it. AMQP's limit cuts a long name off: where two nodes share
    a key, each hears that some of the VMs are not there."""
    return f"node.{node}".encode()[:_KEY_LIMIT].decode("utf-8", "ignore")


def relay_queue(node: str, session: str) -> str:
    """The exclusive queue of one relay session."""
    return f"{RELAY_QUEUE_PREFIX}{node}.{session}"


def coordinator_queue(campaign_id: str) -> str:
    """The exclusive queue on which the campaign's coordinator hears presence; who holds it conducts the campaign.

    :raises ValueError: not such an ID.
    """
    return COORDINATOR_QUEUE_PREFIX + journal_key(campaign_id)
