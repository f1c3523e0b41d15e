# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A world that treats a campaign badly: coordinators that die and overlap, messages that are lost, repeated and late."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from random import Random
from typing import Any

from unit.campaign_rig import BEGIN, CAMPAIGN, DEADLINE, OPENED, TARGET, rows, vm_uuid

from ansible_collections.isolift.vm.plugins.module_utils.campaign import Append, Campaign
from ansible_collections.isolift.vm.plugins.module_utils.ids import upgrade_id
from ansible_collections.isolift.vm.plugins.module_utils.records import Claim, Ended, Held, Notified, Opened
from ansible_collections.isolift.vm.plugins.module_utils.states import State
from ansible_collections.isolift.vm.plugins.module_utils.wire import (
    Confirmation,
    Delivered,
    Facts,
    Message,
    Notification,
    Payload,
    Progress,
    Refused,
    Request,
    Result,
    Start,
    Undeliverable,
)

TEMPERS = (
    "willing",
    "late",
    "declines",
    "fails",
    "silent",
    "forgetful",
    "lies",
    "off",
    "no drive",
    "held",
    "current",
)


def judge(facts: Facts) -> str:
    """The world's condition."""
    return "" if facts.get("ready", False) else "not ready"


@dataclass
class Agent:
    """A guest agent: what it knows, what it did, and its temper."""

    number: int
    temper: str
    counter: int = 0
    generation: int = 0
    permit: int = 0
    expires_at: float = 0.0
    result: Result | None = None
    installs: int = 0

    @property
    def vm(self) -> str:
        return vm_uuid(self.number)


@dataclass
class Coordinator:
    """A coordinator that has read the journal up to ``read``."""

    campaign: Campaign
    read: int = 0
    undecided: set[str] = field(default_factory=set)


class World:
    """``count`` VMs, one journal, a clock, and randomness that decides what goes wrong."""

    def __init__(self, random: Random, count: int, opened: Opened = OPENED) -> None:
        self.random = random
        self.now = BEGIN
        self.journal: list[Message] = []
        self.agents = [Agent(number, random.choice(TEMPERS)) for number in range(count)]
        self.coordinators: list[Coordinator] = []
        self._claims = 0
        self._later: list[tuple[float, int, Any, Any]] = []
        self._number = 0
        self.journal += Campaign(CAMPAIGN, "opening").opening(opened, rows(count), BEGIN)
        self.take_over()

    # The clock

    def after(self, seconds: float, what: Any, argument: Any) -> None:
        """Call ``what(argument)`` that much later."""
        self._number += 1
        heapq.heappush(self._later, (self.now + seconds, self._number, what, argument))

    def step(self) -> None:
        """Some time passes; then what is due happens, and something else besides."""
        self.now += self.random.choice((0.0, 0.1, 1.0, 10.0, 60.0, 400.0))
        while self._later and self._later[0][0] <= self.now:
            _due, _number, what, argument = heapq.heappop(self._later)
            what(argument)
        self.random.choice((self.coordinate, self.coordinate, self.coordinate, self.take_over, self.hello))()

    def run(self) -> None:
        """Until after the deadline, when a last coordinator works undisturbed for a few turns."""
        while self.now < DEADLINE:
            self.step()
        self.take_over()
        while not self.coordinators[-1].campaign.mine:
            self.take_over()
        for _turn in range(4):
            self.work(self.coordinators[-1], everything=True)

    # The coordinators

    def take_over(self) -> None:
        """A coordinator starts. The one before it may be dead, or not know yet."""
        if self.random.random() < 0.5:
            self.coordinators.clear()
        self._claims += 1
        new = Coordinator(Campaign(CAMPAIGN, f"nonce-{self._claims}"))
        self.catch_up(new)
        claim = new.campaign.claim("control", self.now)
        if self.random.random() < 0.2:  # somebody else claims the same epoch, and is first
            self.journal.append(
                Message(Claim("rival"), "rival.1", "", CAMPAIGN, "", 1, claim.epoch, self.now)
            )
        self.journal.append(claim)
        self.coordinators.append(new)
        self.catch_up(new)

    def coordinate(self) -> None:
        """One of the coordinators works; perhaps it has not read everything yet."""
        if not self.coordinators:
            self.take_over()
        self.work(self.random.choice(self.coordinators), self.random.random() < 0.8)

    def work(self, coordinator: Coordinator, everything: bool) -> None:
        """The coordinator reads and does what it decides."""
        self.catch_up(coordinator, everything)
        campaign = coordinator.campaign
        for effect in campaign.decide(self.now, judge):
            message = effect.message
            if isinstance(effect, Append):
                self.check_decision(coordinator, message)
                self.journal.append(message)
            else:
                self.check_command(coordinator, message)
                self.deliver(message)
        self.catch_up(coordinator, self.random.random() < 0.5)

    def catch_up(self, coordinator: Coordinator, everything: bool = True) -> None:
        """The coordinator reads some of the journal, or all of it."""
        end = len(self.journal)
        if not everything:
            end = self.random.randint(coordinator.read, end)
        for record in self.journal[coordinator.read : end]:
            coordinator.campaign.apply(record)
            payload = record.payload
            if (
                isinstance(payload, (Held, Notified, Ended))
                and payload.nonce == coordinator.campaign.claimed_by
            ):
                coordinator.undecided.discard(record.vm)
        coordinator.read = end

    def check_decision(self, coordinator: Coordinator, message: Message) -> None:
        """At most one decision of an upgrade is on its way."""
        if isinstance(message.payload, (Held, Notified, Ended)):
            assert message.vm not in coordinator.undecided, "a second decision before the first was read back"
            coordinator.undecided.add(message.vm)

    def check_command(self, coordinator: Coordinator, message: Message) -> None:
        """A command follows from what was read."""
        known = self.journal[: coordinator.read]
        assert coordinator.campaign.mine
        assert any(record.payload.TYPE == "sealed" for record in known)
        payload = message.payload
        if isinstance(payload, Notification):
            decided = [record.payload for record in known if record.vm == message.vm]
            assert any(
                isinstance(one, Notified)
                and (one.permit, one.expires_at) == (payload.permit, payload.expires_at)
                for one in decided
            ), "a permit that is not in the journal"
            assert not any(isinstance(one, Progress) and one.stage == "installing" for one in decided if one)

    # Relay and agents

    def deliver(self, message: Message) -> None:
        """A command goes to its VM: lost, repeated or late."""
        for _copy in range(self.random.choice((0, 1, 1, 1, 2))):
            self.after(self.random.choice((0.0, 0.5, 30.0, 500.0)), self.arrive, message)

    def arrive(self, message: Message) -> None:
        """A command reaches the relay."""
        agent = next(one for one in self.agents if one.vm == message.vm)
        command = message.payload.TYPE
        if agent.temper == "off" or self.random.random() < 0.1:
            self.say(agent, Undeliverable(command, message.message_id, "no_agent"), by_relay=True)
        elif agent.temper == "no drive" and command == "start":
            self.say(agent, Undeliverable(command, message.message_id, "no_drive"), by_relay=True)
        else:
            if self.random.random() < 0.9:
                self.say(agent, Delivered(command, message.message_id), by_relay=True)
            self.obey(agent, message.payload)

    def obey(self, agent: Agent, command: Payload) -> None:
        """The agent's lifecycle, roughly."""
        if agent.temper == "silent":
            return
        if agent.temper == "forgetful" and self.random.random() < 0.1:
            agent.generation, agent.counter, agent.permit = agent.generation + 1, 0, 0
        if agent.result is not None:
            self.say(agent, agent.result)
        elif isinstance(command, Start):
            self.ask(agent)
        elif isinstance(command, Notification) and command.permit >= agent.permit:
            agent.permit, agent.expires_at = command.permit, command.expires_at
            self.after(
                2000.0 if agent.temper == "late" else self.random.choice((0.0, 5.0)), self.answer, agent
            )

    def ask(self, agent: Agent) -> None:
        """The agent compares versions."""
        if agent.temper == "current":
            self.finish(agent, Result("up_to_date", version_after=TARGET))
        else:
            ready = agent.temper != "held" or self.random.random() < 0.2
            self.say(agent, Request("1.0.0", facts={"ready": ready}))

    def answer(self, agent: Agent) -> None:
        """The user answers, and the agent does what follows."""
        if agent.result is not None or agent.installs:
            return
        if agent.temper == "declines":
            self.say(agent, Confirmation(agent.permit, "decline"))
            self.finish(agent, Result("declined"))
        elif self.now >= agent.expires_at:
            self.ask(agent)
        else:
            agent.installs += 1
            self.say(agent, Confirmation(agent.permit, "confirm"))
            self.say(agent, Progress("verifying"))
            self.say(agent, Progress("installing"))
            self.after(self.random.choice((1.0, 300.0)), self.installed, agent)

    def installed(self, agent: Agent) -> None:
        """The installer ended."""
        version = {"fails": "1.0.0", "lies": "3.0.0"}.get(agent.temper, TARGET)
        self.finish(
            agent, Result("failed" if agent.temper == "fails" else "succeeded", version_after=version)
        )

    def finish(self, agent: Agent, result: Result) -> None:
        """The agent has its result."""
        agent.result = result
        self.say(agent, result)

    def hello(self) -> None:
        """An agent says hello; perhaps garbage was heard before."""
        agent = self.random.choice(self.agents)
        for coordinator in self.coordinators:
            coordinator.campaign.present(agent.vm)
        if self.random.random() < 0.1:
            self.say(agent, Refused("not_json"), by_relay=True)

    def say(self, agent: Agent, payload: Payload, by_relay: bool = False) -> None:
        """A report goes to the journal: repeated, late, out of order, and now and then lost."""
        agent.counter += 1
        message_id = f"relay.{self._number}" if by_relay else f"{agent.generation}.{agent.counter}"
        epoch = self.random.randint(0, self._claims)
        vm = agent.vm
        message = Message(payload, message_id, upgrade_id(CAMPAIGN, vm, 1), CAMPAIGN, vm, 1, epoch, self.now)
        for _copy in range(self.random.choice((0, 1, 1, 1, 1, 1, 1, 2))):
            self.after(self.random.choice((0.0, 0.0, 0.0, 0.0, 1.0, 100.0)), self.journal.append, message)


def first_endings(journal: list[Message]) -> dict[str, State]:
    """By VM, the state that the first final record in the log names; decisions by the rules of claims."""
    epoch, nonce = 0, ""
    found: dict[str, State] = {}
    for record in journal:
        payload = record.payload
        if isinstance(payload, Claim) and record.epoch > epoch:
            epoch, nonce = record.epoch, payload.nonce
        elif isinstance(payload, Ended) and (record.epoch, payload.nonce) == (epoch, nonce):
            found.setdefault(record.vm, State(payload.outcome))
        elif isinstance(payload, Result):
            wrong = payload.outcome in ("succeeded", "up_to_date") and payload.version_after != TARGET
            found.setdefault(record.vm, State.FAILED if wrong else State(payload.outcome))
    return found
