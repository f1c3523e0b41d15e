# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes time in a guest: looking at the disc, copying it, installing. Stands for the agent's worker, tasks and runner."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from isolift_agent.events import (
    Clean,
    Effect,
    Event,
    Failure,
    Inspect,
    Inspected,
    Install,
    Installed,
    Prepare,
    Prepared,
    Settle,
)
from isolift_agent.memory import Upgrade
from simulation.disk import Ending

if TYPE_CHECKING:
    from simulation.guest import Guest

DISC_PATIENCE_S = 120.0
"""Seconds that a task waits for the right disc."""

DISC_POLL_S = 5.0

NO_DISC = Failure("media", "no_disc", "the disc is not in the drive")


class Worker:
    """The agent's tasks, one after the other. All die with the agent, but not the installer."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._domain = guest.domain
        self._waiting: deque[Effect] = deque()
        self._running: Effect | None = None
        self._abandoned = False
        self._keep = ""

    def submit(self, effect: Effect) -> None:
        """Do it after what is to be done already."""
        self._waiting.append(effect)
        if self._running is None:
            self._next()

    def tidy(self, keep: str) -> None:
        """Remove what an agent that was killed left behind, but for the copy of one upgrade."""
        if self._domain.disk.copies - {keep}:
            self._keep = keep
            self.submit(Clean())

    def abandon(self) -> None:
        """The running task's work is not wanted any more."""
        self._abandoned = True

    def installer_ended(self) -> None:
        """No installer runs any more."""
        effect = self._running
        if isinstance(effect, (Install, Settle)):
            self._done(self._judged(effect.upgrade))

    def _next(self) -> None:
        if not self._waiting:
            self._running = None
            return
        effect = self._running = self._waiting.popleft()
        self._abandoned = False
        self._guest.later(self._guest.random.uniform(0.05, 1.0), self._work, effect)

    def _done(self, event: Event | None) -> None:
        self._next()
        if event is not None:
            self._guest.post(event)

    def _work(self, effect: Effect) -> None:
        if isinstance(effect, (Inspect, Prepare)):
            self._find_disc(effect, DISC_PATIENCE_S)
        elif isinstance(effect, Install):
            self._install(effect.upgrade)
        elif isinstance(effect, Settle):
            self._settle(effect.upgrade)
        else:
            assert isinstance(effect, Clean)
            self._clean()

    # The disc

    def _find_disc(self, effect: Inspect | Prepare, patience_s: float) -> None:
        iso = self._domain.iso()
        if iso is not None and iso.manifest_sha256 == effect.upgrade.start.manifest_sha256:
            self._domain.is_mounted = True
            seconds = self._guest.random.uniform(0.1, 4.0)
            self._guest.later(seconds, self._read_disc, effect, self._domain.disc)
        elif self._abandoned or patience_s <= 0.0:
            self._done(self._without_disc(effect))
        else:
            self._guest.later(DISC_POLL_S, self._find_disc, effect, patience_s - DISC_POLL_S)

    def _without_disc(self, effect: Inspect | Prepare) -> Event:
        if isinstance(effect, Inspect):
            return Inspected(effect.upgrade.upgrade_id, True, NO_DISC)
        return Prepared(effect.upgrade.upgrade_id, True, NO_DISC)

    def _read_disc(self, effect: Inspect | Prepare, disc: str) -> None:
        domain, upgrade_id = self._domain, effect.upgrade.upgrade_id
        iso = domain.iso()
        domain.is_mounted = False
        if iso is None or domain.disc != disc:
            self._done(self._without_disc(effect))
        elif isinstance(effect, Inspect):
            ready = self._guest.ground.now >= domain.ready_at
            facts = {"ready": ready}
            found = Inspected(upgrade_id, True, None, iso.component, iso.version, domain.disk.version, facts)
            self._done(found)
        elif self._abandoned:
            self._done(Prepared(upgrade_id, True, Failure("prepare", "abandoned")))
        else:
            domain.disk.copies |= {upgrade_id}
            self._done(Prepared(upgrade_id, True))

    # The installer

    def _install(self, upgrade: Upgrade) -> None:
        if upgrade.upgrade_id not in self._domain.disk.copies:
            failure = Failure("install", "no_copy", "the private copy is gone")
            self._done(Installed(upgrade.upgrade_id, None, failure=failure))
        elif not self._domain.installer.start(upgrade):
            failure = Failure(
                "install", "installer_running", "the installer of an earlier upgrade still runs"
            )
            self._done(Installed(upgrade.upgrade_id, None, failure=failure))

    def _settle(self, upgrade: Upgrade) -> None:
        if not self._domain.installer.alive:
            self._done(self._judged(upgrade))

    def _judged(self, upgrade: Upgrade) -> Installed:
        disk, upgrade_id = self._domain.disk, upgrade.upgrade_id
        version = disk.version if upgrade_id in disk.copies else None
        ending: Ending | None = disk.endings.get(upgrade_id)
        if ending is None:
            return Installed(upgrade_id, version)
        return Installed(upgrade_id, version, ending.exit_code, ending.timed_out, ending.duration_s)

    def _clean(self) -> None:
        if not self._domain.installer.alive:
            self._domain.disk.copies &= {self._keep}
        self._keep = ""
        self._done(None)
