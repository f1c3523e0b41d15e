# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose turn it is to install, in a campaign that lets only so many VMs do so at once. No I/O, no clock, no randomness.

A VM has a place from the decision to give it leave until its upgrade is over, or its leave ran out and it was not heard to use it.
VMs for which there is none queue in the order of their requests. Whose turn comes is called: it is asked for fresh facts, and a place is
kept for it meanwhile. Every step costs the same, however many VMs there are.
"""

from __future__ import annotations

import heapq

from .states import State
from .upgrade import NEVER, Upgrade


class Turns:
    """The places and the queue of one campaign.

    :param at_once: how many places there are; 0 for no limit.
    :param grace_s: seconds for which a place is kept when leave has run out.
    """

    def __init__(self, at_once: int, grace_s: float) -> None:
        self._at_once = at_once
        self._grace_s = grace_s
        self._places: dict[str, float] = {}  # by VM, until when
        self._ends: list[tuple[float, str]] = []
        self._numbers: dict[str, int] = {}  # by VM, of the request that waits for leave
        self._last = 0
        self._queued: set[str] = set()
        self._queue: list[tuple[int, str]] = []  # and some that left it
        self._called: set[str] = set()

    @property
    def taken(self) -> int:
        """How many VMs have a place."""
        return len(self._places)

    def number(self, vm: str) -> int:
        """The number of the VM's request in the order of the journal; 0 if it does not wait for leave."""
        return self._numbers.get(vm, 0)

    def queues(self, vm: str) -> bool:
        """Whether the VM stands in the queue and was not called yet."""
        return vm in self._queued

    def follow(self, upgrade: Upgrade) -> None:
        """A record moved the upgrade, or a decision about it was read back."""
        if not self._at_once or (upgrade.pending_decision and not upgrade.final):
            return
        self._follow_place(upgrade)
        vm, waits = upgrade.vm, upgrade.state is State.HELD and upgrade.waits
        self._queued.discard(vm)
        if upgrade.state is State.REQUESTED:
            self._give_number(vm)
            return
        self._called.discard(vm)
        if waits:
            self._give_number(vm)
            self._queued.add(vm)
            heapq.heappush(self._queue, (self._numbers[vm], vm))
        else:
            self._numbers.pop(vm, None)

    def _follow_place(self, upgrade: Upgrade) -> None:
        has_leave = upgrade.permit > 0  # who installs without is no reason for others to wait
        if has_leave and upgrade.state in (State.CONFIRMED, State.INSTALLING):
            self._places[upgrade.vm] = NEVER
        elif has_leave and not upgrade.final:
            self._keep(upgrade.vm, upgrade.expires_at)
        else:
            self._places.pop(upgrade.vm, None)

    def _keep(self, vm: str, expires_at: float) -> None:
        until = self._places[vm] = expires_at + self._grace_s
        heapq.heappush(self._ends, (until, vm))

    def _give_number(self, vm: str) -> None:
        if vm not in self._numbers:
            self._last += 1
            self._numbers[vm] = self._last

    def take(self, vm: str, expires_at: float) -> None:
        """The VM is given leave until then."""
        if self._at_once:
            self._called.discard(vm)
            self._keep(vm, expires_at)

    def expire(self, now: float) -> None:
        """Free the places whose time is over."""
        while self._ends and self._ends[0][0] <= now:
            until, vm = heapq.heappop(self._ends)
            if self._places.get(vm) == until:
                del self._places[vm]

    def admits(self, vm: str) -> bool:
        """Whether there is a place for the VM, and nobody in the queue has a better right to it."""
        if not self._at_once or vm in self._places or vm in self._called:
            return True
        first = self._first()
        return not self._full and (first is None or self.number(vm) < first)

    def call(self) -> list[str]:
        """The VMs whose turn has come: a place is kept for each until it has leave, or is held, or `pass_over` is called."""
        called: list[str] = []
        while not self._full and self._first() is not None:
            _number, vm = heapq.heappop(self._queue)
            self._queued.discard(vm)
            self._called.add(vm)
            called.append(vm)
        return called

    def pass_over(self, vm: str) -> bool:
        """The VM does not answer its call: the next one may have the place. False if it was not called."""
        if vm not in self._called:
            return False
        self._called.discard(vm)
        return True

    def due(self) -> float | None:
        """The Unix time at which a place may become free for a VM that waits for one."""
        return self._ends[0][0] if self._queued and self._ends else None

    @property
    def _full(self) -> bool:
        return len(self._places) + len(self._called) >= self._at_once

    def _first(self) -> int | None:
        """The lowest number in the queue."""
        while self._queue:
            number, vm = self._queue[0]
            if vm in self._queued and self._numbers.get(vm) == number:
                return number
            heapq.heappop(self._queue)
        return None
