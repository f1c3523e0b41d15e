# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals of campaigns that are over, written as such campaigns write them, but by one hand and quickly."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

from ansible_collections.isolift.vm.plugins.module_utils import topology, wire
from ansible_collections.isolift.vm.plugins.module_utils.broker import Broker, Publication
from ansible_collections.isolift.vm.plugins.module_utils.campaign import Campaign
from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_id
from ansible_collections.isolift.vm.plugins.module_utils.records import Closed, Notified, Opened, Row
from ansible_collections.isolift.vm.plugins.module_utils.wire import Message, Payload, encode

TARGET = "2.0.0"
_NONCE = "0123456789abcdef"
_DAY_S = 86_400.0


def course() -> Iterator[Payload]:
    """The records of an upgrade that succeeded, in order."""
    yield wire.Delivered("start", f"{_NONCE}.1")
    yield wire.Request(
        "1.0.0", facts={"os_id": "debian", "os_version": "12", "free_bytes": 2**34, "sessions": 0}
    )
    yield Notified(_NONCE, 1, time.time() + _DAY_S)
    yield wire.Delivered("notification", f"{_NONCE}.2")
    yield wire.Confirmation(1, "confirm", "policy")
    yield wire.Progress("verifying")
    yield wire.Progress("installing")
    yield wire.Result("succeeded", "", "", "", "1.0.0", TARGET, 0, 1.5, "installer: done\n" * 6)


def write_campaign(broker: Broker, number: int, vms: int) -> str:
    """Write a campaign of ``vms`` VMs of its own that all succeeded; return the upgrade ID of one of them.

    :raises BrokerError: the broker fails.
    """
    campaign = Campaign(campaign_id(time.time_ns() // 1_000_000, number.to_bytes(10, "big")), _NONCE)
    journal = topology.journal(campaign.campaign_id)
    rows: list[Row] = [(str(uuid.uuid4()), f"vm{one:06d}", f"node{one // 40:04d}") for one in range(vms)]
    now = time.time()
    opening = [*campaign.opening(_opened(now), rows, now), campaign.claim("control", now)]
    for record in opening:
        campaign.apply(record)
    broker.declare_journal(journal)
    closing = campaign.record(Closed(_NONCE, (("succeeded", str(vms)),)), now)
    written = [*opening, *_upgrades(campaign, now), closing]
    broker.publish(_publication(journal, record) for record in written)
    broker.publish(_publication(topology.CAMPAIGNS, record) for record in (opening[0], closing))
    return campaign.upgrades[rows[vms // 2][0]].upgrade_id


def _upgrades(campaign: Campaign, now: float) -> Iterator[Message]:
    for payload in course():
        for upgrade in campaign.upgrades.values():
            yield campaign.record(payload, now, upgrade)


def _publication(stream: str, record: Message) -> Publication:
    return Publication(topology.JOURNAL_EXCHANGE, stream, encode(record))


def _opened(now: float) -> Opened:
    return Opened("guest-tools", TARGET, "a" * 64, "b" * 64, "/media/x.iso", now + _DAY_S, 900.0, "auto")
