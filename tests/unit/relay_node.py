# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node for stories about the relay core: what happens on it is said in words, and the time is set by the story."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from isolift_relay import ids, wire
from isolift_relay.core import Relay
from isolift_relay.events import (
    BrokerUp,
    ChannelUp,
    Delivery,
    DomainUp,
    Effect,
    EjectMedium,
    Event,
    InsertMedium,
    Line,
    MediumDone,
    Outcome,
    Publish,
    Published,
    Write,
)
from isolift_relay.media import Reason
from isolift_relay.rates import Limits

VM = "2a8f1b9e-6f0d-4d5c-8c8a-7a2f3f0e9a11"
OTHER_VM = "3b8f1b9e-6f0d-4d5c-8c8a-7a2f3f0e9a12"
CAMPAIGN = ids.campaign_id(1_790_000_000_000, b"0123456789")
UPGRADE = ids.upgrade_id(CAMPAIGN, VM, 1)
ISO = f"/var/lib/isolift/media/{CAMPAIGN}/{'a' * 64}.iso"
START = wire.Start(
    component="guest-tools",
    target_version="2.0.0",
    manifest_sha256="b" * 64,
    media_path=ISO,
    deadline=2000.0,
    consent="auto",
)
OTHER_CAMPAIGN = ids.campaign_id(1_790_000_000_001, b"9876543210")
OTHER_ISO = f"/var/lib/isolift/media/{OTHER_CAMPAIGN}/{'c' * 64}.iso"
OTHER_START = replace(START, media_path=OTHER_ISO)
PERMIT = wire.Notification(permit=1, expires_at=1600.0)
REQUEST = wire.Request(installed_version="1.0.0")
RESULT = wire.Result(outcome="succeeded")

E = TypeVar("E")


def message(
    payload: wire.Payload, message_id: str, *, campaign: str = CAMPAIGN, vm: str = VM, attempt: int = 1
) -> wire.Message:
    return wire.Message(
        message_id=message_id,
        upgrade_id=ids.upgrade_id(campaign, vm, attempt),
        campaign_id=campaign,
        vm=vm,
        attempt=attempt,
        epoch=7,
        created_at=0.0,
        payload=payload,
    )


class Node:
    """The relay of one node with one VM, at a time that the story sets."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.relay = Relay("node1", "run", limits or Limits())
        self.now = 1500.0
        self.stepped = 0.0  # seconds by which the host's clock was set forward
        self.tag = 0
        self.effects: list[Effect] = []

    @classmethod
    def connected(cls, limits: Limits | None = None) -> Node:
        """A VM runs, its channel is connected, the broker is up; the agent did not say anything yet."""
        node = cls(limits)
        return node.happens(BrokerUp(), DomainUp(VM, "desk", "/run/desk.sock"), ChannelUp(VM))

    def happens(self, *events: Event) -> Node:
        self.effects = []
        for event in events:
            self.effects += self.relay.handle(event, self.now + self.stepped, self.now)
        return self

    def of(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def the(self, kind: type[E]) -> E:
        found = self.of(kind)
        assert len(found) == 1, self.effects
        return found[0]

    def frames(self) -> list[wire.Payload]:
        """The frames that were written to the guest."""
        lines = b"".join(effect.data for effect in self.of(Write)).splitlines()
        return [wire.decode_frame(line, wire.registry(*wire.COMMANDS)) for line in lines if line]

    def journaled(self) -> list[wire.Message]:
        return [wire.decode(effect.body) for effect in self.of(Publish)]

    def says(self, *frames: wire.Payload) -> Node:
        """The agent sends frames."""
        return self.happens(*(Line(VM, wire.encode_frame(frame).rstrip(b"\n")) for frame in frames))

    def reports(self, payload: wire.Payload, message_id: str = "g.1", **names: str | int) -> Node:
        """The agent sends a message in its session; it does not know its VM's UUID for sure."""
        carried = replace(message(payload, message_id), vm="")
        carried = replace(carried, **names)  # type: ignore[arg-type]
        return self.says(wire.Carry(session=self.session, now=0.0, message=carried))

    def commands(self, payload: wire.Payload, message_id: str = "c.1", **names: str | int) -> Node:
        """The coordinator sends a command."""
        self.tag += 1
        body = wire.encode(message(payload, message_id, **names))  # type: ignore[arg-type]
        return self.happens(Delivery(self.tag, body))

    def opens(self) -> Node:
        """The agent says hello and is welcomed."""
        self.says(wire.Hello(nonce="n", agent_version="0.1.0", generation="g", counter=3))
        [welcome] = (frame for frame in self.frames() if isinstance(frame, wire.Welcome))
        self.session = welcome.session
        return self

    def medium_is_done(self, reason: Reason | None = None, detail: str = "") -> Node:
        """The operation that the last event began is over."""
        [number] = [
            effect.number for effect in self.effects if isinstance(effect, (InsertMedium, EjectMedium))
        ]
        return self.happens(MediumDone(VM, number, reason, detail))

    def broker_answers(self, outcome: Outcome = Outcome.CONFIRMED) -> Node:
        return self.happens(*(Published(effect.token, outcome) for effect in self.of(Publish)))

    def starts(self, message_id: str = "c.1") -> Node:
        """The start is handed over and acknowledged."""
        self.commands(START, message_id).medium_is_done()
        return self.says(wire.Ack(session=self.session, message_id=message_id)).broker_answers()
