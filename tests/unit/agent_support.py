# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the guest agent share: the core in a harness, and messages for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from isolift_agent import events
from isolift_agent.events import Effect, Event
from isolift_agent.lifecycle import handle
from isolift_agent.memory import Memory, Upgrade, changes, restore
from isolift_agent.states import State
from isolift_agent.wire import Cancel, Message, Notification, Payload, Start

VM = "6a7d0b52-5d5c-4f0e-9d0e-8f8d6f6a0001"
OTHER_VM = "6a7d0b52-5d5c-4f0e-9d0e-8f8d6f6a0002"
CAMPAIGN = "01900000-0000-7000-8000-000000000001"
UPGRADE = "01900000-0000-8000-8000-00000000000a"
OTHER_CAMPAIGN = "01900000-0001-7000-8000-000000000002"
OTHER_UPGRADE = "01900000-0001-8000-8000-00000000000b"
THIRD_UPGRADE = "01900000-0002-8000-8000-00000000000c"
NOW = 1_800_000_000.0
DEADLINE = NOW + 3600

START = Start(
    component="guest-tools",
    target_version="2.0.0",
    manifest_sha256="0" * 64,
    media_path="/media/x.iso",
    deadline=DEADLINE,
    consent="auto",
)
START_ASK = replace(START, consent="ask")

E = TypeVar("E", bound=Effect)
P = TypeVar("P", bound=Payload)


def command(payload: Payload, upgrade_id: str = UPGRADE, **changed: object) -> Message:
    """A command of the controller."""
    campaign = CAMPAIGN if upgrade_id == UPGRADE else OTHER_CAMPAIGN
    message = Message(
        message_id=f"coordinator.{type(payload).__name__}",
        upgrade_id=upgrade_id,
        campaign_id=campaign,
        vm=VM,
        attempt=1,
        epoch=1,
        created_at=NOW,
        payload=payload,
    )
    return replace(message, **changed)  # type: ignore[arg-type]


def permit(number: int = 1, expires_at: float = NOW + 600) -> Notification:
    """A permit."""
    return Notification(permit=number, expires_at=expires_at)


def inspected(version: str = "1.0.0", upgrade_id: str = UPGRADE) -> events.Inspected:
    """The disc is as it should be and this version is installed."""
    return events.Inspected(upgrade_id, True, None, "guest-tools", "2.0.0", version, {"os_id": "debian"})


class Core:
    """The pure core with its memory. Every step is checked to survive the journal."""

    def __init__(self, memory: Memory | None = None, now: float | None = NOW) -> None:
        self.memory = memory or Memory(generation="gen", vm=VM)
        self.now = now
        self.effects: list[Effect] = []

    def do(self, event: Event) -> list[Effect]:
        """Handle an event and what it repeats; the effects."""
        self.effects = []
        pending = [event]
        while pending:
            before = self.memory
            self.memory, effects = handle(before, pending.pop(0), self.now)
            record = changes(before, self.memory)
            again = restore([changes(None, before), record])
            assert replace(again, counter=self.memory.counter) == self.memory
            pending += [item.event for item in effects if isinstance(item, events.Repeat)]
            self.effects += [item for item in effects if not isinstance(item, events.Repeat)]
        return self.effects

    def command(self, payload: Payload, upgrade_id: str = UPGRADE, **changed: object) -> list[Effect]:
        """Receive a command."""
        return self.do(events.Commanded(command(payload, upgrade_id, **changed)))

    def restart(self) -> list[Effect]:
        """Begin anew from what the journal says; the host's time is not known then."""
        self.memory = restore([changes(None, self.memory)])
        self.now = None
        return self.do(events.Restarted())

    def welcome(self, now: float = NOW, vm: str = VM) -> list[Effect]:
        """Open a session."""
        self.now = now
        return self.do(events.Welcomed(vm, "fresh"))

    @property
    def state(self) -> State | None:
        """The state of the current upgrade."""
        return self.memory.current.state if self.memory.current else None

    def upgrade(self) -> Upgrade:
        """The current upgrade."""
        assert self.memory.current
        return self.memory.current

    def found(self, kind: type[E]) -> list[E]:
        """The effects of one kind in the last step."""
        return [item for item in self.effects if isinstance(item, kind)]

    def sent(self, kind: type[P]) -> list[P]:
        """The payloads of one kind that were sent in the last step."""
        return [
            item.message.payload
            for item in self.found(events.Transmit)
            if isinstance(item.message.payload, kind)
        ]

    def refusal(self) -> str:
        """Why the last command was refused; empty if it was taken."""
        (ack,) = self.found(events.Acknowledge)
        return ack.refused


def requested(start: Start = START) -> Core:
    """A core whose upgrade awaits a permit."""
    core = Core()
    core.command(start)
    core.do(inspected())
    return core


def asking() -> Core:
    """A core whose user is being asked."""
    core = requested(START_ASK)
    core.command(permit())
    return core


def verifying() -> Core:
    """A core that copies and checks the disc."""
    core = requested()
    core.command(permit())
    return core


def installing() -> Core:
    """A core whose installer runs."""
    core = verifying()
    core.do(events.Prepared(UPGRADE, True))
    return core


def cancelling() -> Core:
    """A core that gives an upgrade up while the disc is in use."""
    core = Core()
    core.command(START)
    core.command(Cancel())
    return core
