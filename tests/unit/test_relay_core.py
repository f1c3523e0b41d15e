# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay core, told as stories: what happens on a node, and what the relay does about it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isolift_relay import ids, topology, wire
from isolift_relay.core import Relay
from isolift_relay.events import (
    AckDelivery,
    Announce,
    Bind,
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
    LineTooLong,
    Log,
    MediumDone,
    OpenChannel,
    Outcome,
    Publish,
    Published,
    Unbind,
    Wake,
    Write,
)
from isolift_relay.media import Reason
from isolift_relay.rates import Bucket, Limits
from isolift_relay.sessions import TRANSITIONS, IllegalTransition, Kind, State, Vm

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
        self.tag = 0
        self.effects: list[Effect] = []

    def happens(self, *events: Event) -> Node:
        self.effects = []
        for event in events:
            self.effects += self.relay.handle(event, self.now)
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
        return self.happens(Delivery(self.tag, VM, body))

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


@pytest.fixture
def node() -> Node:
    """A VM runs, its channel is connected, the broker is up; the agent did not say anything yet."""
    fresh = Node()
    fresh.happens(BrokerUp(), DomainUp(VM, "desk", "/run/desk.sock"), ChannelUp(VM))
    return fresh


@pytest.fixture
def session(node: Node) -> Node:
    """An agent in session."""
    return node.opens()


# Domains, channels, sessions


def test_a_domain_that_starts_is_bound_and_its_channel_opened_and_knocked_at() -> None:
    node = Node().happens(BrokerUp(), DomainUp(VM, "desk", "/run/desk.sock"))
    assert node.effects == [Bind(VM), OpenChannel(VM, "/run/desk.sock")]
    node.happens(ChannelUp(VM))
    assert node.effects == [Write(VM, b"\n" + wire.encode_frame(wire.Knock()))]


def test_a_domain_that_stops_is_unbound_and_forgotten(session: Node) -> None:
    session.happens(DomainDown(VM))
    assert session.effects == [CloseChannel(VM), Unbind(VM)]
    assert session.relay.states == {}
    assert session.happens(DomainDown(VM), Line(VM, b"{}"), ChannelDown(VM)).effects == []


def test_a_channel_with_another_path_is_another_channel(session: Node) -> None:
    assert session.happens(DomainUp(VM, "desk", "/run/desk.sock")).effects == []
    session.happens(DomainUp(VM, "desk", "/run/domain-9.sock"))
    assert session.effects == [CloseChannel(VM), Unbind(VM), Bind(VM), OpenChannel(VM, "/run/domain-9.sock")]


def test_a_hello_is_welcomed_and_announced(node: Node) -> None:
    node.says(wire.Hello(nonce="n7", agent_version="0.1.0", generation="g", counter=3))
    [welcome] = node.frames()
    assert isinstance(welcome, wire.Welcome)
    assert (welcome.nonce, welcome.vm, welcome.now) == ("n7", VM, 1500.0)
    announced = node.the(Announce)
    presence = wire.decode(announced.body)
    assert announced.exchange == topology.PRESENCE_EXCHANGE
    assert (presence.vm, presence.upgrade_id, presence.campaign_id, presence.attempt) == (VM, "", "", 1)
    assert presence.payload == wire.Presence("node1", "0.1.0", "g", 3)


def test_every_hello_opens_a_session_of_its_own(session: Node) -> None:
    first = session.session
    assert session.opens().session != first


def test_what_an_earlier_session_left_behind_is_thrown_away_in_silence(node: Node) -> None:
    node.session = "old"
    node.happens(Line(VM, b'{"half a li'), LineTooLong(VM), Line(VM, b""))
    assert node.effects == []
    assert node.reports(REQUEST).effects == []


def test_a_frame_of_an_unknown_session_is_dropped_and_knocked_at(session: Node) -> None:
    session.now += 10
    session.session = "unknown"
    assert session.reports(REQUEST).frames() == [wire.Knock()]
    assert session.says(wire.Ack(session="unknown", message_id="c.1")).of(Publish) == []


def test_a_hello_that_drowned_in_an_old_sessions_lines_is_asked_for_again(node: Node) -> None:
    node.happens(*(Line(VM, b"left over") for _time in range(200)))
    wake = node.the(Wake)
    assert node.says(wire.Hello(nonce="n")).effects == []
    node.now += wake.after_s
    assert node.happens(wake.event).frames() == [wire.Knock()]
    node.opens()


def test_knocks_keep_their_distance(session: Node) -> None:
    session.now += 10
    session.session = "unknown"
    session.reports(REQUEST)
    session.now += 0.5
    wake = session.reports(REQUEST).the(Wake)
    assert wake.after_s == pytest.approx(1.5)
    assert session.reports(REQUEST).effects == []
    session.now += wake.after_s
    assert session.happens(wake.event).frames() == [wire.Knock()]


# Commands


def test_a_start_is_handed_over_once_the_disc_is_in_the_drive(session: Node) -> None:
    insert = session.commands(START).the(InsertMedium)
    assert (insert.vm, insert.path) == (VM, ISO)
    assert session.of(AckDelivery) == []
    session.medium_is_done()
    assert session.frames() == [
        wire.Carry(session=session.session, now=1500.0, message=message(START, "c.1"))
    ]
    assert session.the(AckDelivery).tag == 1


def test_a_command_counts_as_delivered_when_the_agent_acknowledges_it(session: Node) -> None:
    session.commands(PERMIT)
    [delivered] = session.says(wire.Ack(session=session.session, message_id="c.1")).journaled()
    assert delivered.payload == wire.Delivered("notification", "c.1")
    assert (delivered.upgrade_id, delivered.vm, delivered.epoch) == (UPGRADE, VM, 7)
    assert session.the(Publish).key == topology.journal(CAMPAIGN)
    assert session.says(wire.Ack(session=session.session, message_id="c.1")).effects == []


def test_a_command_that_the_agent_refuses_is_undeliverable(session: Node) -> None:
    session.commands(PERMIT)
    ack = wire.Ack(session=session.session, message_id="c.1", refused="old epoch")
    [answer] = session.says(ack).journaled()
    assert answer.payload == wire.Undeliverable("notification", "c.1", "refused", "old epoch")


@pytest.mark.parametrize(
    "reason", [Reason.NO_DRIVE, Reason.DRIVE_IN_USE, Reason.NO_MEDIA, Reason.TRAY_LOCKED, Reason.MEDIA_ERROR]
)
def test_a_start_whose_disc_does_not_get_in_is_undeliverable(session: Node, reason: Reason) -> None:
    [answer] = session.commands(START).medium_is_done(reason, "because").journaled()
    assert answer.payload == wire.Undeliverable("start", "c.1", reason.value, "because")
    assert session.of(AckDelivery) == []
    assert session.broker_answers().effects == [AckDelivery(1)]


def test_without_a_session_a_command_is_undeliverable(node: Node) -> None:
    [answer] = node.commands(START).journaled()
    assert isinstance(answer.payload, wire.Undeliverable) and answer.payload.reason == "no_agent"
    assert node.of(InsertMedium) == []
    assert node.broker_answers(Outcome.UNROUTABLE).effects == [AckDelivery(1)]


def test_a_command_for_a_vm_that_is_not_here_is_undeliverable() -> None:
    [answer] = Node().happens(BrokerUp()).commands(PERMIT).journaled()
    assert isinstance(answer.payload, wire.Undeliverable) and answer.payload.reason == "no_agent"


def test_a_permit_that_ran_out_by_the_hosts_clock_is_not_handed_over(session: Node) -> None:
    session.now = PERMIT.expires_at
    [answer] = session.commands(PERMIT).journaled()
    assert isinstance(answer.payload, wire.Undeliverable) and answer.payload.reason == "expired"
    assert session.of(Write) == []


def test_commands_of_a_vm_stay_in_order_behind_the_disc(session: Node) -> None:
    insert = session.commands(START).the(InsertMedium)
    assert session.commands(PERMIT, "c.2").effects == []
    assert session.commands(wire.Cancel(), "c.3").effects == []
    session.now = PERMIT.expires_at
    session.happens(MediumDone(VM, insert.number))
    carried = [frame.message.message_id for frame in session.frames() if isinstance(frame, wire.Carry)]
    assert carried == ["c.1", "c.3"]
    [expired] = session.journaled()
    assert isinstance(expired.payload, wire.Undeliverable) and expired.payload.command_id == "c.2"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        wire.encode(message(REQUEST, "g.1")),
        wire.encode(message(START, "c.1", vm=OTHER_VM)),
        wire.encode(replace(message(START, "c.1"), upgrade_id=ids.upgrade_id(CAMPAIGN, OTHER_VM, 1))),
        wire.encode(replace(message(START, "c.1"), campaign_id="none")),
    ],
)
def test_a_command_that_makes_no_sense_is_logged_and_gone(session: Node, body: bytes) -> None:
    session.happens(Delivery(9, VM, body))
    assert session.the(AckDelivery).tag == 9
    assert "dropped" in session.the(Log).text
    assert len(session.effects) == 2


def test_a_domain_that_moves_away_takes_no_command_with_it(session: Node) -> None:
    session.commands(START)
    session.commands(PERMIT, "c.2")
    answers = session.happens(DomainDown(VM)).journaled()
    assert [
        answer.payload.command_id for answer in answers if isinstance(answer.payload, wire.Undeliverable)
    ] == [
        "c.1",
        "c.2",
    ]
    assert session.broker_answers().effects == [AckDelivery(1), AckDelivery(2)]


# Reports


def test_a_report_is_stamped_published_and_acknowledged_after_the_confirm(session: Node) -> None:
    session.reports(REQUEST)
    [stamped] = session.journaled()
    assert stamped == replace(message(REQUEST, "g.1"), vm=VM, created_at=1500.0)
    published = session.the(Publish)
    assert (published.exchange, published.key) == (topology.JOURNAL_EXCHANGE, topology.journal(CAMPAIGN))
    assert session.of(Write) == []
    session.broker_answers()
    assert session.frames() == [wire.Ack(session=session.session, message_id="g.1")]


def test_a_report_of_a_campaign_that_the_broker_does_not_know_is_refused(session: Node) -> None:
    session.reports(RESULT).broker_answers(Outcome.UNROUTABLE)
    assert session.frames() == [
        wire.Ack(session=session.session, message_id="g.1", refused="unknown_campaign")
    ]
    assert session.the(EjectMedium).campaign_id == CAMPAIGN  # the disc is of no use any more


def test_a_report_that_the_broker_refused_is_asked_for_again(session: Node) -> None:
    session.now += 10
    session.reports(REQUEST).broker_answers(Outcome.REFUSED)
    assert session.frames() == [wire.Knock()]


def test_a_report_that_is_sent_again_before_its_confirm_is_published_once(session: Node) -> None:
    session.reports(REQUEST)
    assert session.reports(REQUEST).effects == []


def test_a_confirm_after_a_new_hello_is_acknowledged_in_the_new_session(session: Node) -> None:
    published = session.reports(REQUEST).the(Publish)
    session.opens()
    session.happens(Published(published.token, Outcome.CONFIRMED))
    assert session.frames() == [wire.Ack(session=session.session, message_id="g.1")]


@pytest.mark.parametrize(
    "names",
    [
        {"upgrade_id": ids.upgrade_id(CAMPAIGN, OTHER_VM, 1)},
        {"upgrade_id": ids.upgrade_id(CAMPAIGN, VM, 2)},
        {"attempt": 2},
        {"campaign_id": ids.campaign_id(5, b"0123456789")},
        {"campaign_id": UPGRADE, "upgrade_id": ids.upgrade_id(UPGRADE, VM, 1)},
        {"campaign_id": CAMPAIGN.upper()},
        {"campaign_id": "", "upgrade_id": ""},
    ],
)
def test_no_vm_can_write_into_another_upgrade(session: Node, names: dict[str, str | int]) -> None:
    session.starts()
    [refused] = session.reports(RESULT, "g.9", **names).journaled()
    assert isinstance(refused.payload, wire.Refused) and refused.payload.reason == "wrong_upgrade"
    assert (refused.upgrade_id, refused.vm) == (UPGRADE, VM)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "not_json"),
        (b"[]", "not_json"),
        (b'{"type":"dance"}', "unknown_type"),
        (wire.encode_frame(wire.Knock()).strip(), "unknown_type"),
        (b'{"type":"hello"}', "bad_field"),
        (b'{"type":"ack","session":"' + b"x" * 70_000 + b'"}', "too_long"),
    ],
)
def test_what_is_not_understood_is_reported_to_the_upgrade_that_was_started(
    session: Node, line: bytes, reason: str
) -> None:
    session.starts()
    [refused] = session.happens(Line(VM, line)).journaled()
    assert isinstance(refused.payload, wire.Refused) and refused.payload.reason == reason
    assert refused.upgrade_id == UPGRADE


def test_a_command_from_a_guest_is_no_report(session: Node) -> None:
    session.starts()
    [refused] = session.reports(PERMIT).journaled()
    assert isinstance(refused.payload, wire.Refused) and refused.payload.reason == "unknown_type"


def test_a_line_without_end_is_reported(session: Node) -> None:
    [refused] = session.starts().happens(LineTooLong(VM)).journaled()
    assert isinstance(refused.payload, wire.Refused) and refused.payload.reason == "too_long"


def test_a_report_that_its_stamp_makes_too_long_is_refused(session: Node) -> None:
    session.starts()
    facts = {f"k{number}": "\U0001f4bf" * 256 for number in range(63)}
    spare = wire.MESSAGE_LIMIT - len(
        wire.encode(replace(message(wire.Request("1.0.0", False, facts), "g.1"), vm=""))
    )
    facts["rest"] = "x" * (spare - len(',"rest":""') - 4)
    [refused] = session.reports(wire.Request("1.0.0", False, facts)).journaled()
    assert isinstance(refused.payload, wire.Refused) and refused.payload.reason == "too_long"


def test_bad_input_is_reported_at_most_five_times_for_one_upgrade(session: Node) -> None:
    session.starts()
    session.happens(*(Line(VM, b"rubbish") for _time in range(30)))
    assert len(session.journaled()) == 5
    session.now += 100
    session.opens()
    session.starts("c.2")
    assert session.happens(Line(VM, b"rubbish")).effects == []
    session.commands(START, "c.3", attempt=2).medium_is_done()
    assert len(session.happens(Line(VM, b"rubbish")).journaled()) == 1


def test_bad_input_of_a_vm_that_was_never_started_is_logged_a_few_times(session: Node) -> None:
    session.happens(*(Line(VM, b"rub\x1b[2Jbish") for _time in range(60)))
    assert session.of(Publish) == []
    assert len(session.of(Log)) == 5
    assert all("\x1b" not in log.text for log in session.of(Log))


# Bounds


def test_a_vm_that_sends_too_much_is_refused_and_recovers(session: Node) -> None:
    session.starts()
    session.happens(*(Line(VM, b'{"type":"ack","session":"x","message_id":"y"}') for _time in range(200)))
    reasons = {
        entry.payload.reason for entry in session.journaled() if isinstance(entry.payload, wire.Refused)
    }
    assert reasons == {"too_fast"}
    session.now += 60
    assert len(session.reports(REQUEST).journaled()) == 1


def test_a_vm_has_a_daily_share() -> None:
    node = Node(Limits(bytes_per_day=4000.0))
    node.happens(BrokerUp(), DomainUp(VM, "desk", "/run/desk.sock"), ChannelUp(VM)).opens().starts()
    taken = 0
    for number in range(60):
        node.now += 10
        published = node.reports(REQUEST, f"g.{number}").journaled()
        taken += sum(isinstance(entry.payload, wire.Request) for entry in published)
    assert 0 < taken < 15
    node.now += 86_400
    assert len(node.reports(REQUEST, "g.late").journaled()) == 1


def test_hellos_keep_their_distance(node: Node) -> None:
    hello = wire.Hello(nonce="n")
    node.says(*(hello for _time in range(50)))
    assert len(node.of(Announce)) == 5
    wake = node.the(Wake)
    node.now += 10
    assert node.happens(wake.event).frames() == [wire.Knock()]
    assert len(node.says(hello).of(Announce)) == 1


def test_reports_beyond_what_the_broker_may_owe_are_asked_for_later() -> None:
    node = Node(Limits(unconfirmed_per_vm=3))
    node.happens(BrokerUp(), DomainUp(VM, "desk", "/run/desk.sock"), ChannelUp(VM)).opens()
    for number in range(3):
        node.reports(REQUEST, f"g.{number}")
    node.now += 10
    assert node.reports(REQUEST, "g.3").frames() == [wire.Knock()]
    assert node.of(Publish) == []


def test_commands_that_no_agent_acknowledges_are_forgotten_in_the_end(session: Node) -> None:
    for number in range(200):
        session.commands(PERMIT, f"c.{number}")
    handed = session.relay._desk.vms[VM].handed
    assert list(handed) == [f"c.{number}" for number in range(136, 200)]


def test_a_bucket_gains_nothing_from_a_clock_that_is_set_back() -> None:
    bucket = Bucket(rate=1.0, burst=2.0)
    assert [bucket.take(1, 100.0) for _time in range(3)] == [True, True, False]
    assert not bucket.take(1, 50.0)
    assert bucket.take(1, 51.0)
    assert not bucket.take(3, 9999.0)


# The broker goes and comes


def test_while_the_broker_is_away_sockets_are_drained_and_nothing_is_acknowledged(session: Node) -> None:
    published = session.reports(REQUEST).the(Publish)
    session.happens(BrokerDown())
    assert session.relay.states == {VM: State.CONNECTED}
    assert session.reports(REQUEST, "g.2").effects == []
    assert session.happens(Published(published.token, Outcome.CONFIRMED)).effects == []
    assert session.happens(LineTooLong(VM), Line(VM, b"rubbish")).effects == []


def test_when_the_broker_is_back_everything_is_bound_and_every_agent_asked_again(session: Node) -> None:
    session.reports(REQUEST)
    session.happens(BrokerDown())
    session.now += 30
    session.happens(BrokerUp())
    assert session.of(Bind) == [Bind(VM)]
    assert session.frames() == [wire.Knock()]
    session.opens()
    assert len(session.reports(REQUEST).journaled()) == 1


def test_a_disc_that_got_in_while_the_broker_went_away_hands_nothing_over(session: Node) -> None:
    insert = session.commands(START).the(InsertMedium)
    session.happens(BrokerDown(), BrokerUp()).opens()
    assert session.happens(MediumDone(VM, insert.number)).effects == []
    assert session.commands(START, "c.2").of(InsertMedium) != []


def test_a_domain_that_starts_without_a_broker_is_bound_later() -> None:
    node = Node().happens(DomainUp(VM, "desk", "/run/desk.sock"), ChannelUp(VM))
    assert node.effects == [OpenChannel(VM, "/run/desk.sock")]
    assert node.happens(BrokerUp()).effects[0] == Bind(VM)
    assert node.frames() == [wire.Knock()]


def test_a_channel_that_breaks_needs_a_new_hello(session: Node) -> None:
    session.happens(ChannelDown(VM))
    assert session.relay.states == {VM: State.CONNECTING}
    assert session.happens(ChannelUp(VM)).frames() == [wire.Knock()]
    assert session.reports(REQUEST).effects == []


# After the result


def test_after_a_confirmed_result_the_disc_is_ejected(session: Node) -> None:
    session.starts()
    eject = session.reports(RESULT).broker_answers().the(EjectMedium)
    assert (eject.vm, eject.campaign_id) == (VM, CAMPAIGN)
    assert session.frames() == [wire.Ack(session=session.session, message_id="g.1")]
    assert session.medium_is_done().effects == []


def test_a_disc_that_does_not_come_out_is_tried_again_a_few_times(session: Node) -> None:
    session.starts().reports(RESULT).broker_answers()
    pauses = []
    while session.of(EjectMedium):
        session.medium_is_done(Reason.TRAY_LOCKED, "mounted")
        assert "tray_locked" in session.the(Log).text
        for wake in session.of(Wake):
            pauses.append(wake.after_s)
            session.now += wake.after_s
            session.happens(wake.event)
    assert pauses == [5.0, 10.0, 20.0, 40.0, 80.0]


def test_what_will_not_pass_by_itself_is_not_tried_again(session: Node) -> None:
    session.starts().reports(RESULT).broker_answers().medium_is_done(Reason.DRIVE_AMBIGUOUS, "two")
    assert session.of(Wake) == [] and "by hand" in session.the(Log).text


def test_a_start_that_comes_late_does_not_bring_the_disc_back(session: Node) -> None:
    session.starts().reports(RESULT).broker_answers().medium_is_done()
    session.commands(START, "c.2")
    assert session.of(InsertMedium) == []
    assert len(session.frames()) == 1


def test_a_new_attempt_gets_its_disc_although_the_old_one_still_waits_to_be_ejected(session: Node) -> None:
    session.starts().reports(RESULT).broker_answers().medium_is_done(Reason.TRAY_LOCKED, "mounted")
    wake = session.the(Wake)
    session.commands(START, "c.2", attempt=2)
    assert session.the(InsertMedium).path == ISO
    session.medium_is_done()
    assert session.happens(wake.event).effects == []


def test_a_start_waits_for_the_ejection_before_it(session: Node) -> None:
    session.starts().reports(RESULT).broker_answers()
    eject = session.the(EjectMedium)
    assert session.commands(START, "c.2", attempt=2).effects == []
    assert session.happens(MediumDone(VM, eject.number)).the(InsertMedium).path == ISO


def test_a_domain_that_stops_before_its_disc_came_out_is_tried_once_more(session: Node) -> None:
    session.starts().reports(RESULT).broker_answers().medium_is_done(Reason.TRAY_LOCKED, "mounted")
    eject = session.happens(DomainDown(VM)).the(EjectMedium)
    assert session.happens(MediumDone(VM, eject.number, Reason.NO_DOMAIN)).effects == []


def test_an_operation_of_an_earlier_life_does_not_end_one_of_this(session: Node) -> None:
    old = session.commands(START).the(InsertMedium)
    session.happens(DomainDown(VM), DomainUp(VM, "desk", "/run/new.sock"), ChannelUp(VM)).opens()
    new = session.commands(START, "c.2").the(InsertMedium)
    assert session.happens(MediumDone(VM, old.number)).effects == []
    assert len(session.happens(MediumDone(VM, new.number)).frames()) == 1


# Two campaigns and one drive


def starts_two(node: Node) -> None:
    """An upgrade goes on, and the start of another campaign comes."""
    node.starts()
    node.commands(OTHER_START, "d.1", campaign=OTHER_CAMPAIGN)


def test_another_campaigns_start_waits_for_the_drive_in_the_agent(session: Node) -> None:
    starts_two(session)
    assert session.of(InsertMedium) == []
    session.says(wire.Ack(session=session.session, message_id="d.1")).broker_answers()
    insert = session.reports(RESULT).broker_answers().the(InsertMedium)
    assert insert.path == OTHER_ISO
    assert session.of(EjectMedium) == []
    session.medium_is_done()
    session.reports(RESULT, "g.2", **of_other_campaign())
    assert session.broker_answers().the(EjectMedium).campaign_id == OTHER_CAMPAIGN


def of_other_campaign() -> dict[str, str]:
    return {"campaign_id": OTHER_CAMPAIGN, "upgrade_id": ids.upgrade_id(OTHER_CAMPAIGN, VM, 1)}


def test_a_successor_whose_disc_does_not_get_in_is_told_and_the_old_disc_ejected(session: Node) -> None:
    starts_two(session)
    session.reports(RESULT).broker_answers().medium_is_done(Reason.NO_MEDIA, "gone")
    [answer] = session.journaled()
    assert answer.payload == wire.Undeliverable("start", "d.1", "no_media", "gone")
    assert session.the(EjectMedium).campaign_id == CAMPAIGN


def test_a_successor_that_the_agent_refused_gets_no_disc(session: Node) -> None:
    starts_two(session)
    session.says(wire.Ack(session=session.session, message_id="d.1", refused="busy"))
    assert session.reports(RESULT).broker_answers().the(EjectMedium).campaign_id == CAMPAIGN


def test_a_successor_that_ended_first_gets_no_disc(session: Node) -> None:
    starts_two(session)
    session.reports(RESULT, "g.2", **of_other_campaign())
    assert session.broker_answers().of(EjectMedium) == []
    assert session.reports(RESULT).broker_answers().the(EjectMedium).campaign_id == CAMPAIGN


def test_an_upgrade_past_its_deadline_keeps_the_drive_from_nobody(session: Node) -> None:
    session.starts()
    session.now = START.deadline
    later = replace(OTHER_START, deadline=session.now + 60)
    assert session.commands(later, "d.1", campaign=OTHER_CAMPAIGN).the(InsertMedium).path == OTHER_ISO


@pytest.mark.parametrize(("generation", "counter"), [("new", 9), ("g", 2)])
def test_an_agent_that_lost_its_journal_keeps_the_drive_from_nobody(
    session: Node, generation: str, counter: int
) -> None:
    session.starts().says(wire.Hello(nonce="n", generation=generation, counter=counter))
    [welcome] = (frame for frame in session.frames() if isinstance(frame, wire.Welcome))
    session.session = welcome.session
    assert session.commands(OTHER_START, "d.1", campaign=OTHER_CAMPAIGN).the(InsertMedium).path == OTHER_ISO


def test_a_start_that_the_agent_refused_keeps_the_drive_from_nobody(session: Node) -> None:
    session.commands(START).medium_is_done()
    session.says(wire.Ack(session=session.session, message_id="c.1", refused="forgotten"))
    assert session.commands(OTHER_START, "d.1", campaign=OTHER_CAMPAIGN).the(InsertMedium).path == OTHER_ISO


def test_an_old_coordinators_start_does_not_cost_the_upgrade_its_disc(session: Node) -> None:
    session.starts().commands(START, "c.2").medium_is_done()
    session.says(wire.Ack(session=session.session, message_id="c.2", refused="stale_claim"))
    assert session.commands(OTHER_START, "d.1", campaign=OTHER_CAMPAIGN).of(InsertMedium) == []


def test_a_late_result_of_an_earlier_attempt_leaves_the_disc_of_this_one(session: Node) -> None:
    session.starts()
    session.commands(START, "c.2", attempt=2).medium_is_done()
    assert session.reports(RESULT).broker_answers().of(EjectMedium) == []


def test_a_result_of_an_upgrade_that_began_before_the_relay_frees_the_drive(session: Node) -> None:
    assert session.reports(RESULT).broker_answers().the(EjectMedium).campaign_id == CAMPAIGN


# The table


def test_the_table_is_what_moves_a_channel_and_nothing_else_does() -> None:
    for state in State:
        for kind in Kind:
            vm = Vm(VM, "desk", "/run/desk.sock", Limits())
            vm.state = state
            if (state, kind) in TRANSITIONS:
                vm.step(kind)
                assert vm.state is TRANSITIONS[state, kind]
            else:
                with pytest.raises(IllegalTransition, match=kind.value):
                    vm.step(kind)
                assert vm.state is state


def test_every_state_can_be_reached_and_left() -> None:
    reached = {State.ABSENT}
    for _time in State:
        reached |= {target for (state, _kind), target in TRANSITIONS.items() if state in reached}
    assert reached == set(State)
    for state in set(State) - {State.ABSENT}:
        assert TRANSITIONS[state, Kind.DOMAIN_DOWN] is State.ABSENT


# Whatever happens


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
        for effect in self.relay.handle(event, self.now):
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
                    VM,
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
