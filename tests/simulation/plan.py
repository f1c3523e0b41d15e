# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run consists of and what goes wrong in it, drawn from its seed before it begins.

The faults are a list, so that a failing run can be shrunk by dropping them one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from simulation.kinds import TRANSIENT, Fault, Kind


@dataclass(frozen=True)
class VmPlan:
    """One VM. Times are in seconds; ``ready_s`` is when it meets the campaign's condition."""

    node: int
    version: str
    ready_s: float
    answer_s: float
    install_s: float
    commit: float
    boot_s: float
    is_on: bool


@dataclass(frozen=True)
class CampaignPlan:
    """One campaign. Times are in seconds; ``at_once`` is how many VMs may have leave to install at a time, 0 for no limit."""

    target_version: str
    consent: str
    deadline_s: float
    permit_s: float
    request_s: float
    verify_s: float
    install_s: float
    at_once: int


@dataclass(frozen=True)
class Plan:
    """A whole run."""

    seed: int
    nodes: int
    vms: tuple[VmPlan, ...]
    campaigns: tuple[CampaignPlan, ...]
    faults: tuple[Fault, ...]


OLD_VERSION = "1.0.0"
TARGETS = ("2.0.0", "3.0.0")


def draw(seed: int) -> Plan:
    """The plan of the run with this seed."""
    random = Random(seed)
    nodes = random.choice((2, 2, 3))
    count = random.choice((3, 3, 3, 3, 4))
    vms = tuple(_draw_vm(random, nodes) for _number in range(count))
    is_mild = random.random() < 0.4
    campaigns = tuple(_draw_campaign(random, target, is_mild) for target in TARGETS)
    faults = _Draw(random, nodes, vms, is_mild).faults()
    return Plan(seed, nodes, vms, campaigns, faults)


def _draw_vm(random: Random, nodes: int) -> VmPlan:
    return VmPlan(
        node=random.randrange(nodes),
        version=TARGETS[0] if random.random() < 0.04 else OLD_VERSION,
        ready_s=random.uniform(20.0, 90.0) if random.random() < 0.2 else 0.0,
        answer_s=random.uniform(30.0, 120.0) if random.random() < 0.15 else random.uniform(1.0, 30.0),
        install_s=random.uniform(2.0, 60.0),
        commit=random.random(),
        boot_s=random.uniform(2.0, 20.0),
        is_on=random.random() < 0.95,
    )


def _draw_campaign(random: Random, target: str, is_mild: bool) -> CampaignPlan:
    is_short = not is_mild and random.random() < 0.4
    least = 200.0 if is_mild else 20.0
    at_once = random.choice((0, 0, 0, 0, 0, 1, 2, 2))
    patience = 2.0 if at_once else 1.0
    return CampaignPlan(
        target_version=target,
        consent=random.choice(("auto", "auto", "ask")),
        deadline_s=random.uniform(20.0, 200.0) if is_short else patience * random.uniform(700.0, 1200.0),
        permit_s=random.uniform(90.0 if is_mild else 20.0, 300.0),
        request_s=random.uniform(least, 300.0),
        verify_s=random.uniform(least, 300.0),
        install_s=random.uniform(least, 300.0),
        at_once=at_once,
    )


@dataclass(frozen=True)
class _Recipe:
    """How faults of a kind are drawn: at whose points, how late at the most, and how long they last."""

    subject: str = ""
    latest: int = 0
    seconds: tuple[float, float] = (0.0, 0.0)


_RECIPES: dict[Kind, _Recipe] = {
    Kind.OPENING_CRASH: _Recipe("opener", 14),
    Kind.COORDINATOR_CRASH: _Recipe("coordinator", 30, (0.5, 120.0)),
    Kind.COORDINATOR_FROZEN: _Recipe("coordinator", 30, (2.0, 90.0)),
    Kind.COORDINATOR_CUT_OFF: _Recipe("coordinator", 30, (2.0, 90.0)),
    Kind.COORDINATOR_DELAYED: _Recipe("coordinator", 30, (1.0, 60.0)),
    Kind.SECOND_COORDINATOR: _Recipe("coordinator", 25),
    Kind.SECOND_CAMPAIGN: _Recipe("", 0, (0.0, 90.0)),
    Kind.CANCEL: _Recipe("append", 40, (0.0, 20.0)),
    Kind.BROKER_RESTART: _Recipe("append", 40, (1.0, 40.0)),
    Kind.CONFIRM_LOST: _Recipe("append", 40),
    Kind.PUBLICATION_REFUSED: _Recipe("append", 40),
    Kind.RECORD_DUPLICATED: _Recipe("append", 40),
    Kind.COMMAND_LOST: _Recipe("command", 7),
    Kind.COMMAND_DUPLICATED: _Recipe("command", 7),
    Kind.COMMAND_REORDERED: _Recipe("command", 7, (0.5, 120.0)),
    Kind.PRESENCE_LOST: _Recipe("presence", 6),
    Kind.RELAY_CRASH: _Recipe("relay", 100, (0.5, 30.0)),
    Kind.RELAY_CUT_OFF: _Recipe("relay", 100, (2.0, 90.0)),
    Kind.RELAY_DELAYED: _Recipe("relay", 100, (1.0, 60.0)),
    Kind.LIBVIRT_LOST: _Recipe("relay", 100, (1.0, 60.0)),
    Kind.HOST_SKEW: _Recipe("", 0, (-28.0, 28.0)),
    Kind.ISO_MISSING: _Recipe(),
    Kind.PORT_BYTES_LOST: _Recipe("port", 20),
    Kind.PORT_HALF_LINE: _Recipe("port", 20),
    Kind.PORT_LATE_BYTES: _Recipe("port", 20, (0.5, 30.0)),
    Kind.AGENT_CRASH: _Recipe("agent", 45, (1.0, 10.0)),
    Kind.TORN_WRITE: _Recipe("record", 30, (1.0, 10.0)),
    Kind.DISK_FULL: _Recipe("agent", 40, (1.0, 60.0)),
    Kind.CLOCK_WRONG: _Recipe("", 0, (-1e8, 1e8)),
    Kind.CLOCK_STEP: _Recipe("agent", 45, (-1e6, 1e6)),
    Kind.GUEST_RESET: _Recipe("agent", 45),
    Kind.DOMAIN_RESTART: _Recipe("agent", 45, (1.0, 60.0)),
    Kind.DOMAIN_OFF: _Recipe("agent", 45, (300.0, 3000.0)),
    Kind.DOMAIN_PAUSED: _Recipe("agent", 45, (1.0, 400.0)),
    Kind.MIGRATION: _Recipe("agent", 45),
    Kind.MIGRATION_EMPTY_DRIVE: _Recipe("agent", 45),
    Kind.SNAPSHOT_REVERT: _Recipe("agent", 45, (0.1, 90.0)),
    Kind.CLONE: _Recipe("agent", 45),
    Kind.FOREIGN_DISC: _Recipe("", 0, (0.0, 60.0)),
    Kind.INSTALLER_FAILS: _Recipe(),
    Kind.INSTALLER_HANGS: _Recipe(),
    Kind.INSTALLER_DIES: _Recipe(),
    Kind.INSTALLER_KILLS_AGENT: _Recipe("", 0, (1.0, 10.0)),
    Kind.USER_DECLINES: _Recipe(),
    Kind.USER_LATE: _Recipe("", 0, (5.0, 60.0)),
    Kind.USER_NEVER: _Recipe(),
}

_OF_NODES = {"relay"}
_EARLY = {"opener"}
"""Whose points all come before those of any agent."""

_OF_VMS = {"agent", "record", "port", "command"}
_AWAY_MOST_S = {Kind.DOMAIN_PAUSED: 30.0, Kind.DOMAIN_RESTART: 30.0, Kind.DOMAIN_OFF: 400.0}
"""Seconds that a guest is away in a mild run: after an answer, with its boot, no longer than its upgrade is waited for; or so long that
it may still end before the deadline."""

_LAST_POINT = 50
"""About as many points does an agent come to in an undisturbed upgrade."""


class _Draw:
    """Draws faults. Most of them are close together, around a moment or two of one VM's upgrade: what is hard to get right is
    what goes wrong while something else does."""

    def __init__(self, random: Random, nodes: int, vms: tuple[VmPlan, ...], is_mild: bool) -> None:
        self._random = random
        self._nodes = nodes
        self._vms = vms
        self._kinds = tuple(kind for kind in Kind if not is_mild or kind in TRANSIENT)
        self._is_mild = is_mild
        self._focus = random.randrange(len(vms))
        self._moments = [random.randint(1, _LAST_POINT) for _number in range(2)]

    def faults(self) -> tuple[Fault, ...]:
        """All faults of a run."""
        return tuple(self._fault() for _number in range(self._random.randint(4, 10)))

    def _fault(self) -> Fault:
        random = self._random
        kind = random.choice(self._kinds)
        recipe = _RECIPES[kind]
        is_focused = random.random() < 0.7
        vm = self._focus if is_focused else random.randrange(len(self._vms))
        node = self._vms[vm].node if random.random() < 0.8 else random.randrange(self._nodes)
        is_node = recipe.subject in _OF_NODES or kind in (Kind.HOST_SKEW, Kind.ISO_MISSING)
        target = node if is_node else vm
        has_number = recipe.subject in _OF_NODES or recipe.subject in _OF_VMS
        site = f"{recipe.subject} {target if has_number else 0}" if recipe.subject else ""
        trigger, nth = site, random.randint(1, recipe.latest) if recipe.latest else 0
        if nth and is_focused and recipe.subject not in _EARLY:
            trigger, nth = f"agent {vm}", random.choice(self._moments) + random.randint(0, 6)
        return Fault(
            kind,
            site,
            trigger,
            nth,
            target,
            self._seconds(kind, recipe),
            random.random(),
            random.randrange(1, 1000),
        )

    def _seconds(self, kind: Kind, recipe: _Recipe) -> float:
        seconds = self._random.uniform(*recipe.seconds)
        return min(seconds, _AWAY_MOST_S.get(kind, seconds)) if self._is_mild else seconds
