# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A broker that is a list, and a clock that is a number: for what takes hours, or a moment that cannot be met, on a real one."""

from __future__ import annotations

from collections.abc import Iterable

from unit.campaign_rig import BEGIN, CAMPAIGN, vm_uuid

from ansible_collections.isolift.vm.plugins.module_utils.broker import Delivery, Publication
from ansible_collections.isolift.vm.plugins.module_utils.broker_errors import BrokerLost
from ansible_collections.isolift.vm.plugins.module_utils.topology import VM_EXCHANGE, journal
from ansible_collections.isolift.vm.plugins.module_utils.wire import Message, Presence, decode, encode


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = BEGIN

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now - BEGIN

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class ListBroker:
    """A broker that holds one journal. ``bound``: it has a route to it. ``hellos`` come before the next record does; each is delivered
    after ``hello_after`` seconds.

    :ivar commands: what was sent to VMs.
    """

    blocked = ""

    def __init__(self, clock: Clock, log: list[bytes], stores: bool = True, bound: bool = True) -> None:
        self._clock, self._log, self._stores, self._bound = clock, log, stores, bound
        self._read = 0
        self.commands: list[Message] = []
        self.hellos = 0
        self.hello_after = 0.0
        self.silent = False

    def __enter__(self) -> ListBroker:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def read(self, _stream: str) -> int:
        return len(self._log) - 1

    def read_all(self, _stream: str) -> list[bytes]:
        return list(self._log)

    def campaigns(self) -> list[bytes]:
        return []

    def declare_journal(self, _name: str) -> None:
        pass

    def stream_exists(self, _name: str) -> bool:
        return bool(self._log)

    def hear_presence(self, _queue: str) -> None:
        pass

    def publish(self, publications: Iterable[Publication]) -> list[Publication]:
        several = list(publications)
        if not self._stores:
            raise BrokerLost("RabbitMQ could not store a message; see its log")
        if not self._bound:
            return several
        self._log += [one.body for one in several if one.key == journal(CAMPAIGN)]
        self.commands += [decode(one.body) for one in several if one.exchange == VM_EXCHANGE]
        return []

    def poll(self, timeout: float) -> list[Delivery]:
        if self.hellos:
            self.hellos -= 1
            self._clock.sleep(self.hello_after)
            hello = Message(Presence("node1"), "s.1", "", "", vm_uuid(0), 1, 0, BEGIN)
            return [Delivery("presence", -1, encode(hello))]
        if self.silent:
            self._clock.sleep(timeout)
            return []
        found = [Delivery(journal(CAMPAIGN), at, self._log[at]) for at in range(self._read, len(self._log))]
        self._read = len(self._log)
        return found
