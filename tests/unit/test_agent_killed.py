# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent killed at every moment of an upgrade, with real processes: one result in the end, and one installation at most."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from unit import agent_mortal
from unit.agent_disc import Guest, guest_in
from unit.agent_host import WAIT_S, Relay, RunningAgent

from isolift_agent.wire import Notification, Request, Result, Start

LIVES = 4
"""How many agents are killed at the same time."""

INSTALL = 'echo run >> "{runs}"; cp payload/version "$1"\n'
TESTS = Path(agent_mortal.__file__).parents[1]


@dataclass(frozen=True)
class Life:
    """What became of an upgrade whose agent was killed: after which moments, and what was heard and done."""

    moments: tuple[str, ...]
    outcomes: tuple[str, ...]
    runs: int
    mounted: bool

    @property
    def last(self) -> str:
        """The moment of death."""
        return self.moments[-1]


class Conductor:
    """What the controller does: a start at every hello, a permit for every request."""

    def __init__(self, relay: Relay, start: Start) -> None:
        self._relay = relay
        self._start = start
        self._greeted = ""
        self._permits = 0

    def conduct(self, until: Callable[[], bool]) -> None:
        """Serve the agent until a condition holds."""
        deadline = time.monotonic() + WAIT_S
        while not until():
            assert time.monotonic() < deadline, f"no end; there were {self._relay.words()}"
            self._relay.silence(0.02)
            if self._relay.session != self._greeted:
                self._greeted = self._relay.session
                self._relay.send(self._relay.carry(self._start))
            if len(self._relay.payloads(Request)) > self._permits:
                self._permits += 1
                self._relay.send(self._relay.carry(Notification(self._permits, time.time() + 600)))


def live(root: Path, death: int) -> Life:
    """One upgrade, by an agent that is killed at a moment (0: at none) and one that follows it."""
    relay = Relay()
    try:
        with guest_in(root) as guest:
            guest.port = relay.path
            return _upgraded(guest, relay, death)
    finally:
        relay.close()


def _upgraded(guest: Guest, relay: Relay, death: int) -> Life:
    runs, log = guest.root / "runs", guest.root / "moments"
    start = guest.insert(script=INSTALL.format(runs=runs), deadline=time.time() + 600)
    conductor = Conductor(relay, start)
    program = [sys.executable, "-m", "unit.agent_mortal", str(death), str(log)]
    path = f"{TESTS}{os.pathsep}{Path(sys.modules['isolift_agent'].__path__[0]).parent}"
    with RunningAgent(guest, program, awaits=death == 0, PYTHONPATH=path) as agent:
        conductor.conduct(lambda: agent.process.poll() is not None or (death == 0 and _rests(relay, guest)))
    if death:
        assert agent.process.returncode == -9
        relay.session = ""
        with RunningAgent(guest):
            conductor.conduct(lambda: _rests(relay, guest))
    results = {m.message_id: m.payload for m in relay.messages if isinstance(m.payload, Result)}
    return Life(
        tuple(log.read_text().splitlines()),
        tuple(result.outcome for result in results.values()),
        len(runs.read_text().splitlines()) if runs.exists() else 0,
        guest.mounted(),
    )


def _rests(relay: Relay, guest: Guest) -> bool:
    """Whether the result was heard and the private copy removed."""
    work = guest.root / "work"
    return bool(relay.payloads(Result)) and not (work.exists() and list(work.iterdir()))


def test_agent_killed_at_every_moment(tmp_path: Path) -> None:
    whole = live(tmp_path / "whole", 0)
    assert (whole.outcomes, whole.runs) == (("succeeded",), 1)
    deaths = range(1, len(whole.moments) + 1)
    with ThreadPoolExecutor(LIVES) as pool:
        lives = list(pool.map(lambda death: live(tmp_path / str(death), death), deaths))
    for life in lives:
        assert (life.outcomes, life.runs) in endings(life), life
        assert not life.mounted, life
    assert {life.outcomes for life in lives} == {SUCCEEDED, INTERRUPTED}
    assert {SAFE, BEGINS, ENDED} <= {life.last for life in lives}, "the moments that matter are among them"


SUCCEEDED, INTERRUPTED = ("succeeded",), ("interrupted",)
WRITTEN, SAFE = "before the fsync of installing", "after the fsync of installing"
BEGINS, ENDED = "before the deed Install", "after a task: Installed"


def endings(life: Life) -> set[tuple[tuple[str, ...], int]]:
    """The outcomes, and how often the installer ran, that are right for the moment of death."""
    if WRITTEN in life.moments and BEGINS not in life.moments[:-1]:
        return {(INTERRUPTED, 0)}  # the journal says that it may have begun, so it is not begun again
    if WRITTEN in life.moments and ENDED not in life.moments:
        return {(INTERRUPTED, 0), (SUCCEEDED, 1)}
    return {(SUCCEEDED, 1)}
