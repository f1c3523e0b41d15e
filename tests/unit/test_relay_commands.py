# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way down through the relay core, told as stories."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.relay_node import CAMPAIGN, ISO, OTHER_VM, PERMIT, REQUEST, START, UPGRADE, VM, Node, message

from isolift_relay import ids, topology, wire
from isolift_relay.events import (
    AckDelivery,
    Delivery,
    DomainDown,
    InsertMedium,
    Log,
    MediumDone,
    Outcome,
    Publish,
    Write,
)
from isolift_relay.media import Reason


@pytest.fixture
def node() -> Node:
    return Node.connected()


@pytest.fixture
def session() -> Node:
    return Node.connected().opens()


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
    assert node.broker_answers(Outcome.GONE).effects == [AckDelivery(1)]


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
        wire.encode(replace(message(START, "c.1"), upgrade_id=ids.upgrade_id(CAMPAIGN, OTHER_VM, 1))),
        wire.encode(replace(message(START, "c.1"), campaign_id="none")),
    ],
)
def test_a_command_that_makes_no_sense_is_logged_and_gone(session: Node, body: bytes) -> None:
    session.happens(Delivery(9, body))
    assert session.the(AckDelivery).tag == 9
    assert "dropped" in session.the(Log).text
    assert len(session.effects) == 2


def test_a_command_for_a_vm_that_is_not_here_is_answered_so_that_it_can_be_sent_to_where_it_is(
    session: Node,
) -> None:
    [answer] = session.happens(Delivery(9, wire.encode(message(START, "c.1", vm=OTHER_VM)))).journaled()
    assert answer.vm == OTHER_VM
    assert answer.payload == wire.Undeliverable("start", "c.1", "not_here", "no such VM runs on node1")
    assert session.broker_answers().effects == [AckDelivery(9)]


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
