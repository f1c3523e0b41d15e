# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many messages and bytes went between the parts, each way.

RabbitMQ counts the messages that it takes and sends for all connections together, and the bytes of each connection as long as that
lives. The relays' live on; the controller's are what else went over the wire. Which messages the relays published, their journal tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.isolift.vm.plugins.module_utils.broker import Delivery
from ansible_collections.isolift.vm.plugins.module_utils.records import RECORDS
from ansible_collections.isolift.vm.plugins.module_utils.wire import RELAY_REPORTS, REPORTS, decode
from lab import network
from scale.broker_host import RELAY, BrokerHost

_MESSAGES = """
    Counters = rabbit_global_counters:overview(),
    All = maps:get([{protocol, amqp091}], Counters),
    Of = fun(Name, Type) -> maps:get(Name, maps:get([{protocol, amqp091}, {queue_type, Type}], Counters)) end,
    [maps:get(Name, All) || Name <- [messages_received_total, messages_confirmed_total]]
    ++ [Of(Name, Type) || Name <- [messages_delivered_total, messages_acknowledged_total],
                          Type <- [rabbit_stream_queue, rabbit_classic_queue]].
"""
# Of each packet: what IP and TCP with its timestamps take. The bridge counts Ethernet's 14 bytes in what we send only.
_HEADERS = {"rx": 52, "tx": 66}
_OF_RELAYS = tuple(payload.TYPE for payload in (*REPORTS, *RELAY_REPORTS))


@dataclass(frozen=True)
class Counted:
    """What was counted until some moment: messages, and bytes without what TCP adds."""

    published: int
    confirmed: int
    from_streams: int
    from_queues: int
    acknowledged_streams: int
    acknowledged_queues: int
    relays_up_bytes: int
    relays_down_bytes: int
    wire_up_bytes: int
    wire_down_bytes: int

    def __sub__(self, earlier: Counted) -> Counted:
        before = asdict(earlier)
        return Counted(**{name: count - before[name] for name, count in asdict(self).items()})


@dataclass(frozen=True)
class Flow:
    """What went one way: messages (frames on the agents' ports), and bytes."""

    messages: int
    bytes: int


def count(broker: BrokerHost) -> Counted:
    """What was counted so far. To ask takes some KB on the wire, which count as the controller's."""
    connections = broker.ctl("list_connections", "user", "recv_oct", "send_oct").splitlines()
    relays = [line.split()[1:] for line in connections if line.startswith(RELAY)]
    counts: list[int] = json.loads(broker.ctl("eval", _MESSAGES))
    counts += [sum(int(one[way]) for one in relays) for way in (0, 1)]
    counts += [_wire_bytes(way) for way in ("tx", "rx")]
    return Counted(*counts)


def _wire_bytes(way: str) -> int:
    """The bytes that this machine exchanged with the lab's hosts, among which is only the broker."""
    counters = Path("/sys/class/net", network.BRIDGE, "statistics")
    packets, octets = (int((counters / f"{way}_{unit}").read_text()) for unit in ("packets", "bytes"))
    return octets - packets * _HEADERS[way]


def of_relays(journal: Iterable[Delivery]) -> int:
    """How many messages of a journal relays published, however many records each of them holds."""
    bundles = {delivery.offset: delivery.body for delivery in journal}
    return sum(decode(body, RECORDS).payload.TYPE in _OF_RELAYS for body in bundles.values())


def flows(counted: Counted, by_relays: int, ports: Mapping[str, int]) -> dict[str, Flow]:
    """Who sent how much to whom during a campaign.

    :param by_relays: how many messages the relays published.
    :param ports: what the guests counted (see guest.py).
    """
    controller_up_bytes = counted.wire_up_bytes - counted.relays_up_bytes
    controller_down_bytes = counted.wire_down_bytes - counted.relays_down_bytes
    return {
        "controller → broker": Flow(counted.published - by_relays, controller_up_bytes),
        "broker → controller": Flow(counted.from_streams, controller_down_bytes),
        "relays → broker": Flow(by_relays, counted.relays_up_bytes),
        "broker → relays": Flow(counted.from_queues, counted.relays_down_bytes),
        "relays → agents, frames": Flow(ports["heard"], ports["heard_bytes"]),
        "agents → relays, frames": Flow(ports["sent"], ports["sent_bytes"]),
    }
