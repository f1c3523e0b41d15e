# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way up through the relay core, told as stories: reports, and what a guest must not do."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from unit.relay_node import (
    CAMPAIGN,
    OTHER_CAMPAIGN,
    OTHER_START,
    OTHER_VM,
    PERMIT,
    REQUEST,
    RESULT,
    START,
    UPGRADE,
    VM,
    Node,
    message,
)

from isolift_relay import ids, topology, wire
from isolift_relay.events import (
    Announce,
    EjectMedium,
    InsertMedium,
    Line,
    LineTooLong,
    Log,
    Outcome,
    Publish,
    Published,
    Wake,
    Write,
)
from isolift_relay.rates import Bucket, Limits
from isolift_relay.sessions import Vm


@pytest.fixture
def node() -> Node:
    return Node.connected()


@pytest.fixture
def session() -> Node:
    return Node.connected().opens()


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


def test_a_report_of_a_campaign_that_is_gone_is_refused(session: Node) -> None:
    session.reports(RESULT).broker_answers(Outcome.GONE)
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


def test_starts_of_two_campaigns_in_turn_bring_no_more_refusals(session: Node) -> None:
    session.starts()
    refusals: Counter[str] = Counter()
    for number in range(20):
        session.now += 10
        session.commands(OTHER_START, f"o.{number}", campaign=OTHER_CAMPAIGN)
        refusals.update(entry.upgrade_id for entry in rubbish(session))
        session.commands(START, f"c.{number}")
        if session.of(InsertMedium):
            session.medium_is_done()
        refusals.update(entry.upgrade_id for entry in rubbish(session))
    assert list(refusals.values()) == [5, 5]


def rubbish(session: Node) -> list[wire.Message]:
    """What a guest that sends rubbish brings about."""
    return session.happens(*(Line(VM, b"rubbish") for _time in range(10))).journaled()


def test_refusals_are_counted_for_some_upgrades_only() -> None:
    vm = Vm(VM, "desk", "/run/desk.sock", Limits(refusals=1, refused_upgrades=3))
    assert [vm.may_report_refusal(upgrade) for upgrade in "abcabcd"] == [True] * 3 + [False] * 3 + [True]
    assert len(vm.refusals) == 3


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
    node = Node.connected(Limits(bytes_per_day=4000.0)).opens().starts()
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
    node = Node.connected(Limits(unconfirmed_per_vm=3)).opens()
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


def test_a_bucket_that_owes_says_how_long() -> None:
    bucket = Bucket(rate=2.0, burst=10.0)
    assert [bucket.charge(amount, 100.0) for amount in (10, 6, 4)] == [0.0, 3.0, 5.0]
    assert bucket.charge(0, 102.0) == 3.0
    assert not bucket.take(1, 105.0) and bucket.take(1, 105.5)


def test_a_bucket_gains_nothing_from_a_clock_that_is_set_back() -> None:
    bucket = Bucket(rate=1.0, burst=2.0)
    assert [bucket.take(1, 100.0) for _time in range(3)] == [True, True, False]
    assert not bucket.take(1, 50.0)
    assert bucket.take(1, 51.0)
    assert not bucket.take(3, 9999.0)
