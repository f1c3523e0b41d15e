# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One VM as its hypervisor sees it: power, migration, snapshots, its drive, and the guest that runs in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from simulation.disk import Disk
from simulation.ground import Ground, Process
from simulation.kinds import Fault, Kind
from simulation.plan import VmPlan
from simulation.port import Port

if TYPE_CHECKING:
    from simulation.guest import Guest
    from simulation.installer import Installer
    from simulation.node import Node


@dataclass
class Habits:
    """How this VM's user and installer behave."""

    answer: str = "confirm"  # or "decline", "never"
    answer_s: float = 5.0
    exit_code: int = 0
    hangs: bool = False
    dies_at: float = 0.0
    """The share of its time after which the installer and its runner are killed; 0 if they are not."""
    late_s: float = 0.0
    """Seconds after the permit's end at which the user answers; 0 if that is not the user's habit."""
    kills_agent_s: float = 0.0
    """Seconds that the agent stays away after the installer restarted it; 0 if it does not."""
    faults: dict[Kind, Fault] = field(default_factory=dict)
    """Those of these that are faults."""


@dataclass(frozen=True)
class Iso:
    """What is on a disc of ours."""

    component: str
    version: str
    manifest_sha256: str


@dataclass(frozen=True)
class Snapshot:
    """A domain's disk and its drive, as they were."""

    disk: Disk
    disc: str
    foreign_disc: str


class Domain:
    """One VM.

    :ivar node: where it runs, or ran last.
    :ivar disc: the path of the ISO in its drive; empty if there is none.
    :ivar foreign_disc: the one that somebody put there, as long as it has to be there.
    :ivar is_mounted: whether the agent has the disc mounted.
    :ivar paused_s: for how many seconds it was paused in all; its boot clock stood still.
    """

    def __init__(self, ground: Ground, number: int, uuid: str, plan: VmPlan, node: Node) -> None:
        self.ground = ground
        self.number = number
        self.uuid = uuid
        self.plan = plan
        self.node = node
        self.disk = Disk(plan.version)
        self.disc = ""
        self.foreign_disc = ""
        self.is_mounted = False
        self.habits = Habits(answer_s=plan.answer_s)
        self.is_running = False
        self.paused_s = 0.0
        self.wall_offset = 0.0
        self.full_until = 0.0
        self.full: Fault | None = None  # why its disk is full until then
        self.ready_at = ground.now + plan.ready_s
        self.random: Random = ground.random()
        self._paths = 0
        self._boots = 0
        self._booted_at = 0.0
        self._stood_still_s = 0.0
        self._paused_at: float | None = None
        self._snapshot: Snapshot | None = None
        self.port = self._new_port()
        self.port.close()
        self.guest: Guest
        self.installer: Installer

    def iso(self) -> Iso | None:
        """What the disc in the drive holds; None if it is none of ours."""
        return self.node.isos.get(self.disc)

    def boot_time(self) -> float:
        """CLOCK_BOOTTIME of the guest."""
        now = self.ground.now if self._paused_at is None else self._paused_at
        return now - self._booted_at - self._stood_still_s

    def use_drive(self, path: str) -> None:
        """Somebody puts a disc of theirs into the drive, as soon as the guest lets go of what is in it."""
        if self.is_mounted:
            self.ground.after(1.0, self.use_drive, path)
        else:
            self.disc = self.foreign_disc = path

    # Power

    def power_on(self) -> None:
        """Start the domain where it was last."""
        if self.is_running:
            return
        if not self.node.has_libvirt:
            self.ground.at(self.node.libvirt_back_at, self.power_on)
            return
        self.is_running = True
        self.port = self._new_port()
        self._boot()
        self.node.domain_changed(self)

    def power_off(self) -> None:
        """Pull the plug."""
        if not self.is_running:
            return
        self._stop_guest()
        self.is_running = False
        self.port.close()
        self.node.domain_changed(self)

    def reset(self) -> bool:
        """Press the reset button: the same QEMU, a new life of the guest."""
        if not self.is_running:
            return False
        self._stop_guest()
        self.port.reset()
        self._boot()
        return True

    def cycle(self, seconds: float) -> bool:
        """Off, and on again after some seconds."""
        if not self.is_running:
            return False
        self.power_off()
        self.ground.after(seconds, self.power_on)
        return True

    def pause(self, seconds: float) -> bool:
        """Stop the virtual CPUs for some seconds."""
        if not self.is_running or self._paused_at is not None:
            return False
        self._paused_at = self.ground.now
        for process in self._processes():
            process.freeze()
        self.ground.after(seconds, self._resume, self._boots)
        return True

    def _resume(self, boots: int) -> None:
        if self._paused_at is None or boots != self._boots:
            return
        self._unpause()
        for process in self._processes():
            process.thaw()
        self.node.domain_changed(self)

    def _unpause(self) -> None:
        if self._paused_at is not None:
            stood_still = self.ground.now - self._paused_at
            self._stood_still_s += stood_still
            self.paused_s += stood_still
            self._paused_at = None

    # Moving and copying

    def migrate(self, target: Node, keeps_disc: bool) -> bool:
        """Move the running domain. The guest does not notice, but its port has another host end."""
        if not self.is_running or self._paused_at is not None or target is self.node:
            return False
        if not (self.node.has_libvirt and target.has_libvirt):
            return False
        source, self.node = self.node, target
        old, self.port = self.port, self._new_port()
        self.guest.port_moved(old)
        old.close()
        if not keeps_disc or not target.has_iso(self.disc):
            self.disc = self.foreign_disc = ""
        source.domain_changed(self)
        target.domain_changed(self)
        return True

    def snapshot_and_revert(self, seconds: float) -> bool:
        """Take a snapshot now and go back to it later."""
        if not self.is_running or self._snapshot is not None:
            return False
        self._snapshot = Snapshot(self.disk.duplicate(), self.disc, self.foreign_disc)
        self.ground.after(seconds, self._revert)
        return True

    def _revert(self) -> None:
        assert self._snapshot is not None
        self.ground.say(f"domain {self.number}", "reverted to its snapshot")
        snapshot, self._snapshot = self._snapshot, None
        self.power_off()
        self.disk, self.disc, self.foreign_disc = snapshot.disk, snapshot.disc, snapshot.foreign_disc
        self.power_on()

    def become_clone_of(self, other: Domain) -> bool:
        """Start again with a copy of the other's disk."""
        if other is self:
            return False
        self.power_off()
        self.disk = other.disk.duplicate()
        self.ground.after(1.0, self.power_on)
        return True

    # Inside

    def shows(self, kind: Kind) -> None:
        """Its user or installer is about to do what such a fault makes it do, if one does."""
        self.ground.bite(self.habits.faults.get(kind))

    def revive_agent(self, seconds: float) -> None:
        """The guest's init system starts the agent again."""
        self.ground.after(seconds, self._start_agent, self._boots)

    def _processes(self) -> tuple[Process, ...]:
        return self.guest, self.installer

    def _boot(self) -> None:
        self._boots += 1
        self._booted_at = self.ground.now
        self._stood_still_s = 0.0
        self.ground.say(f"domain {self.number}", "boots")
        self.revive_agent(self.plan.boot_s)

    def _start_agent(self, boots: int) -> None:
        if self.is_running and boots == self._boots and not self.guest.alive:
            if self._paused_at is not None:
                self.revive_agent(1.0)
            else:
                self.guest.start()

    def _stop_guest(self) -> None:
        self._unpause()
        self.installer.cut_short()
        self.guest.end()
        self.disk.files.lose_power()

    def _new_port(self) -> Port:
        self._paths += 1
        return Port(self.ground, self.random, self.number, f"/run/{self.number}/{self._paths}.sock")
