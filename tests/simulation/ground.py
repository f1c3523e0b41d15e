# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every part of a run stands on: the time, the faults that are due, and the trace."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from simulation.kinds import Fault, Kind

BEGIN = 1_800_000_000.0
"""The true time at which every run begins, in Unix seconds."""

Action = Callable[..., object]


class Violation(Exception):
    """A promise was broken. ``invariant`` is its short name."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail


class Ground:
    """One run's time, faults and trace.

    :ivar now: the true time in Unix seconds. No core sees it.
    :ivar happened: how often each kind of fault happened; ``last_fault_at`` is when the last one was over.
    :ivar trace: what happened when, if the run is traced.
    """

    def __init__(self, seed: int, faults: Iterable[Fault], traced: bool) -> None:
        self.now = BEGIN
        self.happened: Counter[Kind] = Counter()
        self.steps = 0
        self.trace: list[str] | None = [] if traced else None
        self._seed = seed
        self._streams = 0
        self._agenda: list[tuple[float, int, Action, tuple[Any, ...]]] = []
        self._number = 0
        self._reached: Counter[str] = Counter()
        self.last_fault_at = BEGIN
        self._due: dict[tuple[str, int], list[Fault]] = {}
        self._armed: dict[str, deque[Fault]] = {}
        self._bitten: set[Fault] = set()
        for fault in faults:
            self._due.setdefault((fault.trigger, fault.nth), []).append(fault)
        self.inject: Callable[[Fault], bool] = lambda _fault: False

    def random(self) -> Random:
        """A stream of chance for one part, so that what one part draws does not change what another does."""
        self._streams += 1
        return Random(self._seed * 1009 + self._streams)

    def after(self, seconds: float, action: Action, *arguments: Any) -> None:
        """Call ``action`` that much later."""
        self.at(self.now + seconds, action, *arguments)

    def at(self, time: float, action: Action, *arguments: Any) -> None:
        """Call ``action`` at a true time; what is due at the same time happens in the order of the calls."""
        self._number += 1
        heapq.heappush(self._agenda, (time, self._number, action, arguments))

    def step(self, until: float) -> bool:
        """Do what is due next; false if nothing is before ``until``."""
        if not self._agenda or self._agenda[0][0] > until:
            self.now = max(self.now, until)
            return False
        time, _number, action, arguments = heapq.heappop(self._agenda)
        self.now = time
        self.steps += 1
        action(*arguments)
        return True

    def reached(self, subject: str) -> Fault | None:
        """A part came to a point where something may go wrong; the fault, if the part itself has to perform it."""
        self._reached[subject] = count = self._reached[subject] + 1
        for fault in self._due.get((subject, count), ()):
            if fault.kind.local:
                self._armed.setdefault(fault.site, deque()).append(fault)
            else:
                self.after(0.0, self._inject, fault)
        armed = self._armed.get(subject)
        return armed.popleft() if armed else None

    def happen(self, fault: Fault) -> None:
        """``fault`` took effect."""
        self.happened[fault.kind] += 1
        self.last_fault_at = max(self.last_fault_at, self.now + fault.lasts_s)
        self.say("fault", str(fault))

    def bite(self, fault: Fault | None) -> None:
        """``fault``, a habit of a part, shows; it counts the first time."""
        if fault is not None and fault not in self._bitten:
            self._bitten.add(fault)
            self.happen(fault)

    def say(self, who: str, what: str) -> None:
        """Add a line to the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now - BEGIN:10.3f} {who:<14} {what}")

    def _inject(self, fault: Fault) -> None:
        if self.inject(fault):
            self.happen(fault)


class Killed(Exception):
    """A process was killed in the middle of what it did."""

    def __init__(self, process: Process, pause: float) -> None:
        super().__init__(process.name)
        self.process = process
        self.pause = pause


class Process:
    """Something that can be killed and frozen. What it had planned dies with it, and waits while it is frozen.

    :ivar run: how often it was started.
    """

    def __init__(self, ground: Ground, name: str) -> None:
        self.ground = ground
        self.name = name
        self.run = 0
        self.alive = False
        self.frozen = False
        self._deferred: deque[tuple[Action, tuple[Any, ...]]] = deque()

    @property
    def process(self) -> Process:
        """The process that hears what comes, where this is the end of a connection."""
        return self

    def begin(self) -> None:
        """A new run."""
        self.run += 1
        self.alive = True
        self.frozen = False
        self._deferred.clear()

    def end(self) -> None:
        """The run is over, whatever it was doing."""
        self.alive = False
        self._deferred.clear()

    def later(self, seconds: float, action: Action, *arguments: Any) -> None:
        """Call ``action`` in this run, that much later."""
        self.ground.after(seconds, self.take, self.run, action, *arguments)

    def take(self, run: int, action: Action, *arguments: Any) -> None:
        """Call ``action`` if that run goes on; once it is thawed, if it is frozen."""
        if not self.alive or run != self.run:
            return
        if self.frozen:
            self._deferred.append((action, arguments))
        else:
            action(*arguments)

    def freeze(self) -> None:
        """Stop doing anything."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on. What came meanwhile is there at once."""
        self.frozen = False
        while self._deferred:
            action, arguments = self._deferred.popleft()
            self.ground.after(0.0, self.take, self.run, action, *arguments)

    def point(self) -> None:
        """A moment at which this process may be killed.

        :raises Killed: it is, now.
        """
        fault = self.ground.reached(self.name)
        if fault is not None and not self.suffer(fault):
            self.ground.happen(fault)
            raise Killed(self, fault.seconds)

    def suffer(self, fault: Fault) -> bool:
        """Take a fault that is no kill; false if it is one."""
        return False

    def say(self, what: str) -> None:
        """Add a line to the trace."""
        self.ground.say(self.name, what)
