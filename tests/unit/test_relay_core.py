# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay core, told as stories: domains, channels, sessions, and the broker that comes and goes."""

from __future__ import annotations

import pytest
from unit.relay_node import REQUEST, START, VM, Node

from isolift_relay import topology, wire
from isolift_relay.events import (
    Announce,
    Bind,
    BrokerDown,
    BrokerUp,
    ChannelDown,
    ChannelUp,
    CloseChannel,
    DomainDown,
    DomainUp,
    InsertMedium,
    Line,
    LineTooLong,
    MediumDone,
    OpenChannel,
    Outcome,
    Publish,
    Published,
    Unbind,
    Wake,
    Write,
)
from isolift_relay.rates import Limits
from isolift_relay.sessions import TRANSITIONS, IllegalTransition, Kind, State, Vm


@pytest.fixture
def node() -> Node:
    return Node.connected()


@pytest.fixture
def session() -> Node:
    return Node.connected().opens()


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


def test_a_domain_that_was_paused_is_asked_for_a_new_session_with_the_hosts_time(session: Node) -> None:
    session.now += 3600
    session.happens(DomainUp(VM, "desk", "/run/desk.sock"))
    assert session.effects == [Write(VM, b"\n" + wire.encode_frame(wire.Knock()))]


def test_a_channel_with_another_path_is_another_channel(session: Node) -> None:
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


def test_knocks_keep_their_distance_whatever_the_hosts_clock_does(session: Node) -> None:
    session.now += 10
    session.session = "unknown"
    session.reports(REQUEST)
    session.stepped = -3600.0
    assert session.reports(REQUEST).the(Wake).after_s == pytest.approx(2.0)


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
