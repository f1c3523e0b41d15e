# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals of campaigns that are over, written as such campaigns write them, but by one hand and quickly."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence

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
    yield wire.Progress("installing")
    yield wire.Result("succeeded", "", "", "", "1.0.0", TARGET, 0, 1.5, "installer: done\n" * 6)


def write_campaigns(broker: Broker, numbers: Sequence[int], vms: int) -> dict[int, str]:
    """Write campaigns of ``vms`` VMs of their own that all succeeded, side by side, as if they had run at the same time.

    :returns: the upgrade ID of one VM of each campaign.
    :raises BrokerError: the broker fails.
    """
    now = time.time()
    written = [_Written(number, vms, now) for number in numbers]
    for one in written:
        broker.declare_journal(one.journal)
    side_by_side = zip(*(one.records() for one in written), strict=True)
    broker.publish(publication for several in side_by_side for publication in several)
    broker.publish(_publication(topology.CAMPAIGNS, record) for one in written for record in one.listed)
    return {number: one.upgrade_id for number, one in zip(numbers, written, strict=True)}


class _Written:
    """A campaign that is over, and what it would have written."""

    def __init__(self, number: int, vms: int, now: float) -> None:
        self._now = now
        self._campaign = Campaign(
            campaign_id(time.time_ns() // 1_000_000, number.to_bytes(10, "big")), _NONCE
        )
        rows = [Row(str(uuid.uuid4()), f"vm{one:06d}", f"node{one // 40:04d}") for one in range(vms)]
        self._opening = [
            *self._campaign.opening(_opened(now), rows, now),
            self._campaign.claim("control", now),
        ]
        for record in self._opening:
            self._campaign.apply(record)
        closed = Closed(_NONCE, (("succeeded", str(vms)),))
        self._closing = self._campaign.record(closed, now)
        self.journal = topology.journal(self._campaign.campaign_id)
        self.upgrade_id = self._campaign.upgrades[rows[vms // 2].vm].upgrade_id
        self.listed = (self._opening[0], self._closing)

    def records(self) -> Iterator[Publication]:
        """The journal, in its order."""
        for record in (*self._opening, *self._upgrades(), self._closing):
            yield _publication(self.journal, record)

    def _upgrades(self) -> Iterator[Message]:
        for payload in course():
            for upgrade in self._campaign.upgrades.values():
                yield self._campaign.record(payload, self._now, upgrade)


def _publication(stream: str, record: Message) -> Publication:
    return Publication(topology.JOURNAL_EXCHANGE, stream, encode(record))


def _opened(now: float) -> Opened:
    return Opened("guest-tools", TARGET, "a" * 64, "b" * 64, "/media/x.iso", now + _DAY_S, 900.0, "auto")
