# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the halves of the relay core share: the VMs, the open publications, and the effects of the event at hand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Union
from uuid import UUID

from . import ids, topology, wire
from .events import AckDelivery, Effect, KnockDue, Level, Log, Publish, Wake, Write
from .rates import Limits
from .sessions import Command, Kind, State, Vm


@dataclass(frozen=True)
class ReportSent:
    """A guest's report waits for the broker's confirm."""

    vm: str
    message: wire.Message


@dataclass(frozen=True)
class AnswerSent:
    """The answer to an undeliverable command waits for it; then the delivery ``tag`` is done."""

    tag: int


@dataclass(frozen=True)
class NoticeSent:
    """Nothing depends on this publication: the coordinator sends what it missed again."""


Sent = Union[ReportSent, AnswerSent, NoticeSent]


@lru_cache(maxsize=16_384)
def upgrade_id(campaign_id: str, vm: str, attempt: int) -> str:
    """The ID that the upgrade of this VM has in this campaign; empty if there can be no such campaign, or no such VM."""
    try:
        campaign = UUID(campaign_id)
        if str(campaign) != campaign_id or campaign.version != 7:
            return ""
        return ids.upgrade_id(campaign_id, vm, attempt)
    except ValueError:
        return ""


class Desk:
    """The relay's memory. ``run`` tells apart the runs of one node's relay; it makes session and message IDs unique."""

    def __init__(self, node: str, run: str, limits: Limits) -> None:
        self.node = node
        self.run = run
        self.limits = limits
        self.now = 0.0  # by the host's clock, which may be set: what others are told, and what they told
        self.elapsed = 0.0  # by a clock that nobody sets: for intervals
        self.broker_up = False
        self.vms: dict[str, Vm] = {}
        self.sent: dict[int, Sent] = {}
        self._effects: list[Effect] = []
        self._count = 0

    def emit(self, *effects: Effect) -> None:
        """Adds effects to those of the event at hand."""
        self._effects.extend(effects)

    def take(self) -> list[Effect]:
        """The effects so far, and forgets them."""
        effects, self._effects = self._effects, []
        return effects

    def number(self) -> int:
        """A number that this run never used before."""
        self._count += 1
        return self._count

    def unique(self) -> str:
        """A session ID or message ID that no relay ever used before."""
        return f"{self.run}.{self.number()}"

    def has_room(self) -> bool:
        """Whether the broker may owe one answer more."""
        return len(self.sent) < self.limits.unconfirmed

    def write(self, vm: Vm, frame: wire.Payload) -> None:
        """Sends a frame to the guest."""
        self.emit(Write(vm.uuid, wire.encode_frame(frame)))

    def publish(self, message: wire.Message, sent: Sent) -> None:
        """Publishes into the campaign's journal.

        :raises wire.WireError: the message cannot be encoded.
        """
        body = wire.encode(message)
        token = self.number()
        self.sent[token] = sent
        self.emit(Publish(token, topology.JOURNAL_EXCHANGE, topology.journal(message.campaign_id), body))

    def tell(self, about: wire.Message, payload: wire.Payload, sent: Sent | None = None) -> None:
        """Publishes what the relay itself has to say about the upgrade of the message ``about``, if the broker is there."""
        if not self.broker_up:
            return
        message = wire.Message(
            message_id=self.unique(),
            upgrade_id=about.upgrade_id,
            campaign_id=about.campaign_id,
            vm=about.vm,
            attempt=about.attempt,
            epoch=about.epoch,
            created_at=self.now,
            payload=payload,
        )
        if sent is not None or self.has_room():
            self.publish(message, sent or NoticeSent())

    def undeliverable(self, command: Command, reason: str, detail: str) -> None:
        """Answers a command that was not handed over, unless the broker has forgotten it."""
        if command.tag is None:
            return
        message = command.message
        payload = wire.Undeliverable(message.payload.TYPE, message.message_id, reason, detail[:300])
        self.tell(message, payload, AnswerSent(command.tag))

    def drop(self, tag: int, why: str) -> None:
        """Gives up a delivery that nobody can be told about."""
        self.emit(Log(Level.WARNING, f"a command was dropped: {why}"), AckDelivery(tag))

    def knock_soon(self, vm: Vm) -> None:
        """Asks the agent for a new session, but not too often: every knock costs a hello and a presence."""
        if vm.knock_due or vm.state not in (State.CONNECTED, State.KNOCKED, State.OPEN):
            return
        pause = vm.knocked_at + self.limits.knock_interval_s - self.elapsed
        if pause > 0:
            vm.knock_due = True
            self.emit(Wake(pause, KnockDue(vm.uuid)))
        else:
            self.knock(vm)

    def knock(self, vm: Vm) -> None:
        """Asks the agent for a new session. The empty line ends whatever an earlier session left half-sent."""
        vm.step(Kind.KNOCK)
        vm.knocked_at = self.elapsed
        self.emit(Write(vm.uuid, b"\n" + wire.encode_frame(wire.Knock())))

    def log(self, vm: Vm, text: str) -> None:
        """Logs what a guest caused, which must not be able to fill the log."""
        if vm.logs.take(1, self.elapsed):
            self.emit(Log(Level.WARNING, f"{vm.name} ({vm.uuid}): {text}"))
