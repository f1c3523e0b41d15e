# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever happens on a node, the relay core neither fails nor grows."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from unit.relay_node import (
    CAMPAIGN,
    OTHER_CAMPAIGN,
    OTHER_START,
    PERMIT,
    REQUEST,
    RESULT,
    START,
    VM,
    Node,
    message,
)

from isolift_relay import wire
from isolift_relay.core import Relay
from isolift_relay.events import (
    AckDelivery,
    BrokerDown,
    BrokerUp,
    ChannelDown,
    ChannelUp,
    CloseChannel,
    Delivery,
    DomainDown,
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
    Wake,
    Write,
)
from isolift_relay.media import Reason
from isolift_relay.rates import Limits

lines = st.one_of(
    st.binary(max_size=200),
    st.builds(
        wire.encode_frame,
        st.one_of(
            st.builds(wire.Hello, nonce=st.text(st.characters(codec="ascii"), max_size=8)),
            st.builds(
                wire.Ack,
                session=st.sampled_from(["", "run.1", "run.2"]),
                message_id=st.sampled_from(["c.0", "c.1", "c.2"]),
                refused=st.sampled_from(["", "no"]),
            ),
            st.just(wire.Knock()),
        ),
    ),
)
HELLO = wire.encode_frame(wire.Hello(nonce="n", generation="g"))
OFTEN = ["start", "other", "permit", "report", "report", "answer", "answer", "answer"]
SELDOM = ["domain", "no domain", "channel", "broker"]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("line"), lines),
        st.tuples(st.sampled_from(3 * OFTEN + SELDOM), st.integers(0, 3)),
    ),
    max_size=60,
)


class World:
    """Shell and outside of a relay, as random as hypothesis wants but never impossible."""

    def __init__(self) -> None:
        self.limits = Limits(unconfirmed=5, unconfirmed_per_vm=3, handed_per_vm=4)
        self.relay = Relay("node1", "run", self.limits)
        self.now = 1500.0
        self.broker_up = self.domain_up = self.channel_up = False
        self.unanswered: list[Event] = []
        self.unacked: set[int] = set()
        self.refusals = self.reported = self.tag = 0
        self.session = ""

    def happens(self, event: Event) -> None:
        self.now += 0.3
        for effect in self.relay.handle(event, self.now, self.now):
            self.perform(effect)
        assert len(self.relay._desk.sent) <= self.limits.unconfirmed + len(self.unacked)
        for vm in self.relay._desk.vms.values():
            assert len(vm.handed) <= self.limits.handed_per_vm
            assert len(vm.unconfirmed) <= self.limits.unconfirmed_per_vm
            assert len(vm.waiting) <= len(self.unacked)

    def perform(self, effect: Effect) -> None:
        if isinstance(effect, Publish):
            assert self.broker_up
            self.refusals += isinstance(wire.decode(effect.body).payload, wire.Refused)
            assert self.refusals <= self.limits.refusals * self.tag
            self.unanswered.append(Published(effect.token, random.Random(effect.token).choice(list(Outcome))))
        elif isinstance(effect, (InsertMedium, EjectMedium)):
            reason = random.Random(effect.number).choice([None, Reason.TRAY_LOCKED, Reason.NO_DRIVE])
            self.unanswered.append(MediumDone(VM, effect.number, reason))
        elif isinstance(effect, Wake):
            self.unanswered.append(effect.event)
        elif isinstance(effect, AckDelivery):
            assert self.broker_up
            self.unacked.remove(effect.tag)
        elif isinstance(effect, Write):
            assert self.channel_up
            for line in filter(None, effect.data.splitlines()):
                frame = wire.decode_frame(line, wire.registry(*wire.COMMANDS))
                self.session = frame.session if isinstance(frame, wire.Welcome) else self.session
        elif isinstance(effect, CloseChannel):
            self.channel_up = False

    def step(self, what: str, argument: int | bytes) -> None:
        if isinstance(argument, bytes):
            if self.channel_up:
                self.happens(Line(VM, argument))
        elif what == "domain":
            self.domain_up = True
            self.happens(DomainUp(VM, "desk", f"/run/{argument // 3}"))
        elif what == "no domain":
            self.domain_up = False
            self.happens(DomainDown(VM))
        elif what == "channel" and self.domain_up:
            self.channel_up = not self.channel_up
            self.happens(ChannelUp(VM) if self.channel_up else ChannelDown(VM))
        elif what == "broker":
            self.toggle_broker()
        elif what in ("start", "other", "permit") and self.broker_up and len(self.unacked) < 4:
            self.tag += 1
            self.unacked.add(self.tag)
            payload = {"start": START, "other": OTHER_START, "permit": PERMIT}[what]
            campaign = OTHER_CAMPAIGN if what == "other" else CAMPAIGN
            self.happens(
                Delivery(
                    self.tag,
                    wire.encode(
                        message(payload, f"c.{argument}", campaign=campaign, attempt=argument // 3 + 1)
                    ),
                )
            )
        elif what == "report" and self.channel_up:
            campaign = (CAMPAIGN, OTHER_CAMPAIGN)[argument % 2]
            self.reported += 1
            payload = (REQUEST, RESULT)[argument // 2]
            body = message(payload, f"g.{self.reported}", campaign=campaign)
            frame = wire.Carry(session=self.session, now=0.0, message=body)
            self.happens(Line(VM, wire.encode_frame(frame).strip()))
        elif what == "answer" and self.unanswered:
            self.happens(self.unanswered.pop(argument % len(self.unanswered)))

    def toggle_broker(self) -> None:
        self.broker_up = not self.broker_up
        if not self.broker_up:
            self.unacked.clear()
            self.unanswered = [event for event in self.unanswered if not isinstance(event, Published)]
        self.happens(BrokerUp() if self.broker_up else BrokerDown())


@given(steps)
@settings(max_examples=500)
def test_whatever_happens_the_relay_neither_fails_nor_grows(story: list[tuple[str, int | bytes]]) -> None:
    world = World()
    opening: list[tuple[str, int | bytes]] = [("broker", 0), ("domain", 0), ("channel", 0), ("line", HELLO)]
    for what, argument in opening + story:
        world.step(what, argument)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_no_bytes_of_a_guest_harm_the_relay(data: list[bytes]) -> None:
    node = Node()
    node.happens(BrokerUp(), DomainUp(VM, "desk", "/run/desk.sock"), ChannelUp(VM)).opens().starts()
    node.happens(*(Line(VM, line) for line in data))
    assert len(node.of(Publish)) <= 5
