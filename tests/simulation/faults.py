# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each kind of fault does to the parts of a run. Those that a part performs itself are not here (see `Kind.local`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulation.coordinator import Coordinator
from simulation.domain import Domain
from simulation.kinds import Fault, Kind
from simulation.node import FOREIGN_DISC, Node
from simulation.relay import RelayProcess

if TYPE_CHECKING:
    from simulation.world import World

STEP_EVERY_S = 30.0
STEPS = 20
"""How often the clock of a guest steps, once it does: so often that it does so while the agent waits for something."""


class Injector:
    """Lets the faults of a plan happen to a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ground = world.ground
        self._handlers: dict[Kind, Callable[[Fault], bool]] = {
            Kind.COORDINATOR_FROZEN: self._freeze_coordinator,
            Kind.COORDINATOR_CUT_OFF: self._cut_off_coordinator,
            Kind.COORDINATOR_DELAYED: self._delay_coordinator,
            Kind.SECOND_COORDINATOR: self._second_coordinator,
            Kind.SECOND_CAMPAIGN: self._second_campaign,
            Kind.CANCEL: self._cancel,
            Kind.BROKER_RESTART: self._restart_broker,
            Kind.RELAY_CUT_OFF: lambda fault: self._relay(fault).cut_off(fault.seconds),
            Kind.RELAY_DELAYED: self._delay_relay,
            Kind.LIBVIRT_LOST: self._lose_libvirt,
            Kind.HOST_SKEW: self._skew,
            Kind.ISO_MISSING: self._lose_iso,
            Kind.DISK_FULL: self._fill_disk,
            Kind.CLOCK_WRONG: self._shift_wall_clock,
            Kind.CLOCK_STEP: self._step_wall_clock,
            Kind.GUEST_RESET: lambda fault: self._domain(fault).reset(),
            Kind.DOMAIN_RESTART: lambda fault: self._domain(fault).cycle(fault.seconds),
            Kind.DOMAIN_OFF: lambda fault: self._domain(fault).cycle(fault.seconds),
            Kind.DOMAIN_PAUSED: lambda fault: self._domain(fault).pause(fault.seconds),
            Kind.MIGRATION: lambda fault: self._migrate(fault, keeps_disc=True),
            Kind.MIGRATION_EMPTY_DRIVE: lambda fault: self._migrate(fault, keeps_disc=False),
            Kind.SNAPSHOT_REVERT: lambda fault: self._domain(fault).snapshot_and_revert(fault.seconds),
            Kind.CLONE: self._clone,
            Kind.FOREIGN_DISC: self._foreign_disc,
            Kind.INSTALLER_FAILS: self._habit,
            Kind.INSTALLER_HANGS: self._habit,
            Kind.INSTALLER_DIES: self._habit,
            Kind.INSTALLER_KILLS_AGENT: self._habit,
            Kind.USER_DECLINES: self._habit,
            Kind.USER_LATE: self._habit,
            Kind.USER_NEVER: self._habit,
        }

    def inject(self, fault: Fault) -> bool:
        """Let ``fault`` happen; false if it cannot, as things are, or if it is a habit, which shows later or never."""
        return self._handlers[fault.kind](fault)

    # Whom it hits

    def _domain(self, fault: Fault) -> Domain:
        return self._world.domains[fault.target % len(self._world.domains)]

    def _other_domain(self, fault: Fault) -> Domain:
        domains = self._world.domains
        return domains[(fault.target + 1 + fault.other % (len(domains) - 1)) % len(domains)]

    def _node(self, fault: Fault) -> Node:
        return self._world.nodes[fault.target % len(self._world.nodes)]

    def _relay(self, fault: Fault) -> RelayProcess:
        return self._node(fault).relay

    def _coordinator(self) -> Coordinator | None:
        """The one that conducts the first campaign, or any."""
        campaign = self._world.campaigns[0]
        alive = [
            one
            for one in self._world.coordinators
            if one.alive and not one.frozen and one.campaign_id == campaign
        ]
        return next((one for one in alive if one.campaign.mine), alive[0] if alive else None)

    # The controller

    def _freeze_coordinator(self, fault: Fault) -> bool:
        coordinator = self._coordinator()
        if coordinator is None:
            return False
        coordinator.freeze_for(fault.seconds)
        return True

    def _cut_off_coordinator(self, fault: Fault) -> bool:
        coordinator = self._coordinator()
        return coordinator is not None and coordinator.cut_off(fault.seconds)

    def _delay_coordinator(self, fault: Fault) -> bool:
        coordinator = self._coordinator()
        if coordinator is None or coordinator.connection is None:
            return False
        coordinator.connection.stall(fault.seconds, upwards_only=fault.share < 0.5)
        return True

    def _second_coordinator(self, _fault: Fault) -> bool:
        return self._world.add_coordinator(0, insists=True)

    def _second_campaign(self, fault: Fault) -> bool:
        self._world.awaited = 2
        self._ground.after(fault.seconds, self._world.begin_campaign, 1)
        return True

    def _cancel(self, fault: Fault) -> bool:
        vms = () if fault.share < 0.5 else (self._domain(fault).uuid,)
        self._ground.after(fault.seconds, self._world.cancel, vms)
        return True

    # The network

    def _restart_broker(self, fault: Fault) -> bool:
        if not self._world.broker.is_up:
            return False
        self._world.broker.restart(fault.seconds, fault.routeless_s)
        return True

    def _delay_relay(self, fault: Fault) -> bool:
        connection = self._relay(fault).connection
        if connection is None:
            return False
        connection.stall(fault.seconds)
        return True

    # The nodes

    def _lose_libvirt(self, fault: Fault) -> bool:
        return self._node(fault).lose_libvirt(fault.seconds, self._world.domains)

    def _skew(self, fault: Fault) -> bool:
        if fault.other % 4 == 0:
            self._world.control_skew_s = fault.seconds
        else:
            self._node(fault).skew_s = fault.seconds
        return True

    def _lose_iso(self, fault: Fault) -> bool:
        self._node(fault).missing[self._world.openings[0].media_path] = fault
        return False

    def _migrate(self, fault: Fault, keeps_disc: bool) -> bool:
        domain, nodes = self._domain(fault), self._world.nodes
        target = nodes[(domain.node.number + 1 + fault.other % (len(nodes) - 1)) % len(nodes)]
        return domain.migrate(target, keeps_disc)

    # The guests

    def _fill_disk(self, fault: Fault) -> bool:
        domain = self._domain(fault)
        domain.full, domain.full_until = fault, self._ground.now + fault.seconds
        return False

    def _shift_wall_clock(self, fault: Fault) -> bool:
        self._domain(fault).wall_offset += fault.seconds
        return True

    def _step_wall_clock(self, fault: Fault) -> bool:
        """Again and again in the same direction, because an agent comes to no point while it waits."""
        for number in range(STEPS):
            self._ground.after((fault.share + number) * STEP_EVERY_S, self._shift_wall_clock, fault)
        return True

    def _clone(self, fault: Fault) -> bool:
        return self._other_domain(fault).become_clone_of(self._domain(fault))

    def _foreign_disc(self, fault: Fault) -> bool:
        """At once, or while the campaign goes on."""
        if fault.other % 2:
            self._ground.after(fault.seconds, self._domain(fault).use_drive, FOREIGN_DISC)
        else:
            self._domain(fault).use_drive(FOREIGN_DISC)
        return True

    # The installers and the users: what they do shows when they do it

    def _habit(self, fault: Fault) -> bool:
        habits = self._domain(fault).habits
        habits.faults[fault.kind] = fault
        if fault.kind is Kind.INSTALLER_FAILS:
            habits.exit_code = 1
        elif fault.kind is Kind.INSTALLER_HANGS:
            habits.hangs = True
        elif fault.kind is Kind.INSTALLER_DIES:
            habits.dies_at = fault.share
        elif fault.kind is Kind.INSTALLER_KILLS_AGENT:
            habits.kills_agent_s = fault.seconds
        elif fault.kind is Kind.USER_LATE:
            habits.late_s = fault.seconds
        else:
            habits.answer = "decline" if fault.kind is Kind.USER_DECLINES else "never"
        return False
