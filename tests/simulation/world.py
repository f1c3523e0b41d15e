# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run: builds the parts that a plan names, lets go wrong what it lists, and runs until all is over."""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from unittest.mock import patch
from uuid import UUID

from ansible_collections.isolift.vm.plugins.module_utils import records
from ansible_collections.isolift.vm.plugins.module_utils.campaign import Campaign
from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_id
from ansible_collections.isolift.vm.plugins.module_utils.media import DEFAULT_MEDIA_DIR
from ansible_collections.isolift.vm.plugins.module_utils.records import Control, Opened, Row
from ansible_collections.isolift.vm.plugins.module_utils.topology import journal
from ansible_collections.isolift.vm.plugins.module_utils.upgrade import INELIGIBLE_REASONS
from ansible_collections.isolift.vm.plugins.module_utils.wire import encode
from simulation.broker import Broker
from simulation.coordinator import Coordinator
from simulation.domain import Domain, Iso
from simulation.faults import Injector
from simulation.ground import BEGIN, Ground, Killed, Violation
from simulation.guest import Guest, simulated_machine
from simulation.installer import Installer
from simulation.invariants import Invariants
from simulation.kinds import Kind
from simulation.node import Node
from simulation.opener import Opener
from simulation.plan import CampaignPlan, Plan
from simulation.relay import RelayProcess

COMPONENT = "guest-tools"

ROWS_A_RECORD = 2
"""VMs that one record of the selection lists, few enough for several records."""

RESUME_S = 120.0
"""Seconds between an operator's looks at whether a coordinator runs."""

CANCEL_AGAIN_S = 5.0
"""Seconds between an operator's attempts to cancel."""

PATIENCE_S = 600.0
"""Seconds after the last deadline within which a campaign has to be closed."""

AFTERMATH_S = 200.0
"""Seconds for which a run goes on after the last campaign was closed."""

STEPS_MOST = 200_000
"""Events of a run beyond which something goes round in circles."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run. ``endings`` has the word for how it ended by (campaign ID, VM)."""

    happened: Counter[Kind]
    endings: Mapping[tuple[str, str], str]
    steps: int
    violation: Violation | None
    trace: tuple[str, ...] = ()

    @property
    def words(self) -> Counter[str]:
        """How many upgrades ended so, by word."""
        return Counter(self.endings.values())

    def digest(self) -> str:
        """A hash of the whole trace."""
        return hashlib.sha256("\n".join(self.trace).encode("utf-8")).hexdigest()


def simulate(plan: Plan, traced: bool = False) -> Outcome:
    """Run ``plan``."""
    ground = Ground(plan.seed, plan.faults, traced)
    violation: Violation | None = None
    with simulated_machine(ground), patch.object(records, "CHUNK", ROWS_A_RECORD):
        world = World(ground, plan)
        try:
            world.run()
        except Violation as found:
            violation = found
    endings = {
        (campaign, vm): outcome.word
        for campaign, ledger in world.invariants.ledgers.items()
        for vm, outcome in ledger.outcomes.items()
    }
    return Outcome(ground.happened, endings, ground.steps, violation, tuple(ground.trace or ()))


def vm_uuid(number: int) -> str:
    """The UUID of a VM."""
    return str(UUID(int=(0x6A7D0B525D5C4F0E9D0E << 48) | (number + 1)))


class World:
    """All parts of one run."""

    def __init__(self, ground: Ground, plan: Plan) -> None:
        self.ground = ground
        self.plan = plan
        self.invariants = Invariants(ground)
        self.broker = Broker(ground)
        self.broker.appended = self.invariants.appended
        self._isos: dict[str, Iso] = {}
        self._named = 0
        self.campaigns = [self._name() for _campaign in plan.campaigns]
        self.openings = [self._opening(n, campaign) for n, campaign in enumerate(plan.campaigns)]
        self.nodes = [Node(ground, number, self._isos) for number in range(plan.nodes)]
        self.domains = [
            Domain(ground, number, vm_uuid(number), vm, self.nodes[vm.node])
            for number, vm in enumerate(plan.vms)
        ]
        self.invariants.domains = {domain.uuid: domain for domain in self.domains}
        for domain in self.domains:
            domain.guest = Guest(ground, domain, self.invariants)
            domain.installer = Installer(ground, domain, self.invariants)
        for node in self.nodes:
            node.relay = RelayProcess(ground, node, self.broker, self.domains, self.invariants)
        self.coordinators: list[Coordinator] = []
        self.openers: dict[int, Opener] = {}  # by number of the campaign
        self.unsealed: list[str] = []  # campaigns that were given up
        self.awaited = 1  # how many campaigns there will be
        self.control_skew_s = 0.0
        self._until = 0.0
        self._injector = Injector(self)
        ground.inject = self._injector.inject

    # Running

    def run(self) -> None:
        """Until all is over.

        :raises Violation: a promise was broken.
        """
        for fault in self.plan.faults:
            if fault.nth == 0 and self._injector.inject(fault):
                self.ground.happen(fault)
        for node in self.nodes:
            self.ground.after(0.0, node.relay.start)
        for domain in self.domains:
            if domain.plan.is_on:
                domain.power_on()
            else:
                self.ground.after(domain.plan.boot_s * 20.0, domain.power_on)
        self.begin_campaign(0)
        self.ground.after(RESUME_S, self._look_after)
        self._go_on(self._is_over)
        self._until = self.ground.now + AFTERMATH_S
        self._go_on(lambda: False)
        for number in self.openers:
            campaign = self.campaigns[number]
            self.invariants.finish(campaign, self.broker.streams[journal(campaign)])
        for campaign in self.unsealed:
            self.invariants.check_unsealed(campaign)
        self.invariants.check_discs()

    def _go_on(self, is_over: Callable[[], bool]) -> None:
        ground = self.ground
        while not is_over():
            try:
                if not ground.step(self._until):
                    return
            except Killed as killed:
                self._kill(killed)
            except Violation:
                raise
            except Exception as error:  # whatever a core raises, for whatever input, is a defect of it
                raise Violation("no part fails", "".join(traceback.format_exception(error))) from error
            if ground.steps > STEPS_MOST:
                raise Violation("every run ends", f"not over after {STEPS_MOST} steps")

    def _is_over(self) -> bool:
        return self.invariants.closings == self.awaited

    def _kill(self, killed: Killed) -> None:
        process = killed.process
        process.say("is killed")
        process.end()
        if isinstance(process, Guest):
            process.domain.revive_agent(killed.pause)
        elif isinstance(process, Opener):
            pass  # whoever ran it looks after the campaign
        elif isinstance(process, (RelayProcess, Coordinator)):
            self.ground.after(killed.pause, process.start)

    # Campaigns

    def _name(self) -> str:
        self._named += 1
        return campaign_id(int(BEGIN * 1000) + self._named, bytes(10))

    def _opening(self, number: int, plan: CampaignPlan) -> Opened:
        digit = "abcdef"[number]
        opened = Opened(
            component=COMPONENT,
            target_version=plan.target_version,
            iso_sha256=digit * 64,
            manifest_sha256=str(number) * 64,
            media_path=f"{DEFAULT_MEDIA_DIR}/{self.campaigns[number]}/{digit * 64}.iso",
            deadline=self.ground.now + plan.deadline_s,
            permit_s=plan.permit_s,
            consent=plan.consent,
            request_s=plan.request_s,
            verify_s=plan.verify_s,
            install_s=plan.install_s,
            at_once=plan.at_once,
        )
        self._isos[opened.media_path] = Iso(opened.component, opened.target_version, opened.manifest_sha256)
        return opened

    def begin_campaign(self, number: int) -> None:
        """What the playbook does before it waits: the discs, and `upgrade_start`."""
        if number not in self.openers:
            self._begin(number)

    def _begin(self, number: int) -> None:
        opened = self.openings[number] = self._opening(number, self.plan.campaigns[number])
        self.invariants.begin(self.campaigns[number])
        opener = self.openers[number] = Opener(
            self.ground,
            f"opener {number}",
            self.broker,
            self.campaigns[number],
            self.invariants,
            opened,
            [self._row(domain, opened.media_path) for domain in self.domains],
            done=lambda: self.add_coordinator(number, insists=False),
        )
        opener.skew_s = self.control_skew_s
        self._until = max(self._until, opened.deadline + PATIENCE_S)
        self.ground.after(0.0, opener.start)

    def _row(self, domain: Domain, path: str) -> Row:
        """The VM as it is selected, once it was tried to put the disc into its drive."""
        _seconds, reason = domain.node.insert(domain, path)
        self.invariants.drive_changed(domain.uuid)
        unfit = reason.value if reason and reason.value in INELIGIBLE_REASONS else ""
        return Row(domain.uuid, f"desk-{domain.number}", domain.node.name, unfit)

    def add_coordinator(self, campaign: int, insists: bool) -> bool:
        """Somebody runs a coordinator; see `Coordinator` for ``insists``. False if there is no journal."""
        if journal(self.campaigns[campaign]) not in self.broker.streams:
            return False
        name = f"coordinator {campaign}"
        new = Coordinator(
            self.ground,
            name,
            self.broker,
            self.campaigns[campaign],
            self.invariants,
            insists,
            len(self.coordinators),
        )
        new.skew_s = self.control_skew_s
        self.coordinators.append(new)
        self.ground.after(0.0, new.start)
        return True

    def _look_after(self) -> None:
        """An operator goes on with a campaign that no process works at, and begins it anew if it was never sealed."""
        for number, opener in list(self.openers.items()):
            campaign = self.campaigns[number]
            alive = opener.alive or any(one.alive for one in self.coordinators if one.campaign_id == campaign)
            if not alive and self.invariants.ledgers[campaign].closed_at is None:
                self._resume(number)
        self.ground.after(RESUME_S, self._look_after)

    def _resume(self, number: int) -> None:
        campaign = self.campaigns[number]
        self.add_coordinator(number, insists=False)
        if not self.invariants.ledgers[campaign].is_sealed:
            self.unsealed.append(campaign)
            self.campaigns[number] = self._name()
            self._begin(number)

    def cancel(self, vms: tuple[str, ...]) -> None:
        """An operator cancels the first campaign's upgrades of ``vms`` (none: of all), once the broker takes it."""
        if not self.broker.routes or not self.invariants.ledgers[self.campaigns[0]].is_sealed:
            self.ground.after(CANCEL_AGAIN_S, self.cancel, vms)
            return
        control = Control(action="cancel", vms=vms, reason="changed our minds", by="operator")
        record = Campaign(self.campaigns[0], "control").record(control, self.ground.now)
        self.broker.append(journal(self.campaigns[0]), encode(record))
