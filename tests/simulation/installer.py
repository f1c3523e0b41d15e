# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The component's installer in a process of its own: it outlives the agent, and the disk counts how often it was run."""

from __future__ import annotations

from isolift_agent.memory import Upgrade
from simulation.disk import Ending
from simulation.domain import Domain
from simulation.ground import Ground, Process
from simulation.invariants import Invariants
from simulation.kinds import Kind

TIME_LIMIT_S = 120.0
"""Seconds after which the runner ends an installer that hangs."""

KILLED = -9


class Installer(Process):
    """The one installer that may run in a guest at a time."""

    def __init__(self, ground: Ground, domain: Domain, invariants: Invariants) -> None:
        super().__init__(ground, f"installer {domain.number}")
        self._domain = domain
        self._invariants = invariants

    def start(self, upgrade: Upgrade) -> bool:
        """Run the installer of ``upgrade``; false if one runs already."""
        if self.alive:
            return False
        self.begin()
        self._upgrade = upgrade
        self.later(0.02, self._install)
        return True

    def cut_short(self) -> None:
        """The guest stopped."""
        if self.alive:
            self.say("is cut short")
            self.end()

    def _install(self) -> None:
        domain, habits = self._domain, self._domain.habits
        domain.disk.installs += (self._upgrade.upgrade_id,)
        self.say(f"installs {self._upgrade.upgrade_id}")
        self._invariants.installed(domain, self._upgrade)
        if habits.kills_agent_s:
            self.later(0.5 * domain.plan.install_s, self._restart_agent)
        if habits.dies_at:
            self.later(habits.dies_at * domain.plan.install_s, self._die)
        if habits.hangs:
            domain.shows(Kind.INSTALLER_HANGS)
            self.later(TIME_LIMIT_S, self._finish, KILLED)
            return
        self.later(domain.plan.commit * domain.plan.install_s, self._commit)
        self.later(domain.plan.install_s, self._finish, habits.exit_code)

    def _commit(self) -> None:
        if self._domain.habits.exit_code == 0:
            self._domain.disk.version = self._upgrade.start.target_version

    def _finish(self, exit_code: int) -> None:
        domain = self._domain
        self.say(f"ends with {exit_code}")
        if exit_code == domain.habits.exit_code != 0:
            domain.shows(Kind.INSTALLER_FAILS)
        duration_s = TIME_LIMIT_S if exit_code == KILLED else domain.plan.install_s
        domain.disk.endings[self._upgrade.upgrade_id] = Ending(exit_code, exit_code == KILLED, duration_s)
        self._leave()

    def _die(self) -> None:
        """Nobody sees the installer end."""
        self.say("is killed")
        self._domain.shows(Kind.INSTALLER_DIES)
        self._leave()

    def _leave(self) -> None:
        self.end()
        guest = self._domain.guest
        if guest.alive:
            guest.later(0.0, guest.worker.installer_ended)

    def _restart_agent(self) -> None:
        guest = self._domain.guest
        if guest.alive:
            self._domain.shows(Kind.INSTALLER_KILLS_AGENT)
            guest.end()
            self._domain.revive_agent(self._domain.habits.kills_agent_s)
