# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run: builds the parts that a plan names, lets go wrong what it lists, and runs until all is over."""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

from ansible_collections.isolift.vm.plugins.module_utils.campaign import Campaign
from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_id
from ansible_collections.isolift.vm.plugins.module_utils.records import Control, Opened, Row
from ansible_collections.isolift.vm.plugins.module_utils.topology import journal
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
from simulation.plan import CampaignPlan, Plan
from simulation.relay import RelayProcess

COMPONENT = "guest-tools"

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
    """What came of a run."""

    happened: Counter[Kind]
    words: Counter[str]
    steps: int
    violation: Violation | None
    trace: tuple[str, ...] = ()

    def digest(self) -> str:
        """A hash of the whole trace."""
        return hashlib.sha256("\n".join(self.trace).encode("utf-8")).hexdigest()


def simulate(plan: Plan, traced: bool = False) -> Outcome:
    """Run ``plan``."""
    ground = Ground(plan.seed, plan.faults, traced)
    violation: Violation | None = None
    words: Counter[str] = Counter()
    with simulated_machine(ground):
        world = World(ground, plan)
        try:
            world.run()
        except Violation as found:
            violation = found
        for ledger in world.invariants.ledgers.values():
            words.update(outcome.word for outcome in ledger.outcomes.values())
    return Outcome(ground.happened, words, ground.steps, violation, tuple(ground.trace or ()))


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
        isos: dict[str, Iso] = {}
        self.campaigns = [campaign_id(int(BEGIN * 1000) + n, bytes(10)) for n in range(len(plan.campaigns))]
        self.openings = [self._opening(n, campaign) for n, campaign in enumerate(plan.campaigns)]
        for opened in self.openings:
            isos[opened.media_path] = Iso(opened.component, opened.target_version, opened.manifest_sha256)
        self.nodes = [Node(ground, number, isos) for number in range(plan.nodes)]
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
        self.begun: list[int] = []
        self.awaited = 1  # how many campaigns there will be
        self.control_skew_s = 0.0
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
        self._go_on(self._last_deadline() + PATIENCE_S, self._is_over)
        self._go_on(self.ground.now + AFTERMATH_S, lambda: False)
        for number in self.begun:
            campaign = self.campaigns[number]
            self.invariants.finish(campaign, self.broker.streams[journal(campaign)])
        self.invariants.check_discs()

    def _go_on(self, until: float, is_over: Callable[[], bool]) -> None:
        ground = self.ground
        while not is_over():
            try:
                if not ground.step(until):
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
        ledgers = self.invariants.ledgers.values()
        return len(ledgers) == self.awaited and all(ledger.closed_at is not None for ledger in ledgers)

    def _last_deadline(self) -> float:
        return max(opened.deadline for opened in self.openings)

    def _kill(self, killed: Killed) -> None:
        process = killed.process
        process.say("is killed")
        process.end()
        if isinstance(process, Guest):
            process.domain.revive_agent(killed.pause)
        elif isinstance(process, (RelayProcess, Coordinator)):
            self.ground.after(killed.pause, process.start)

    # Campaigns

    def _opening(self, number: int, plan: CampaignPlan) -> Opened:
        digit = "abcdef"[number]
        return Opened(
            component=COMPONENT,
            target_version=plan.target_version,
            iso_sha256=digit * 64,
            manifest_sha256=str(number) * 64,
            media_path=f"/var/lib/isolift/media/{self.campaigns[number]}/{digit * 64}.iso",
            deadline=BEGIN + plan.deadline_s,
            permit_s=plan.permit_s,
            consent=plan.consent,
            request_s=plan.request_s,
            verify_s=plan.verify_s,
            install_s=plan.install_s,
        )

    def begin_campaign(self, number: int) -> None:
        """What `upgrade_start` does before a coordinator is needed: the opening, and the discs."""
        if number in self.begun:
            return
        self.begun.append(number)
        opened = replace(
            self.openings[number], deadline=self.ground.now + self.plan.campaigns[number].deadline_s
        )
        self.openings[number] = opened
        stream = journal(self.campaigns[number])
        self.broker.streams[stream] = []
        self.invariants.begin(self.campaigns[number])
        rows = [Row(one.uuid, f"desk-{one.number}", one.node.name) for one in self.domains]
        opener = Campaign(self.campaigns[number], f"opening{number}")
        for record in opener.opening(opened, rows, self.ground.now):
            self.broker.append(stream, encode(record))
        for domain in self.domains:
            domain.node.insert(domain, opened.media_path)
        self.add_coordinator(number, insists=False)

    def add_coordinator(self, campaign: int, insists: bool) -> None:
        """Somebody runs a coordinator; see `Coordinator` for ``insists``."""
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

    def _look_after(self) -> None:
        """An operator resumes a campaign that no coordinator works at."""
        for number in self.begun:
            campaign = self.campaigns[number]
            alive = any(one.alive for one in self.coordinators if one.campaign_id == campaign)
            if not alive and self.invariants.ledgers[campaign].closed_at is None:
                self.add_coordinator(number, insists=False)
        self.ground.after(RESUME_S, self._look_after)

    def cancel(self, vms: tuple[str, ...]) -> None:
        """An operator cancels the first campaign's upgrades of ``vms`` (none: of all), once the broker takes it."""
        if not self.broker.routes:
            self.ground.after(CANCEL_AGAIN_S, self.cancel, vms)
            return
        control = Control(action="cancel", vms=vms, reason="changed our minds", by="operator")
        record = Campaign(self.campaigns[0], "control").record(control, self.ground.now)
        self.broker.append(journal(self.campaigns[0]), encode(record))
