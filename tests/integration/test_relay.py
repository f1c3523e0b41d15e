# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay as its role deploys it: real RabbitMQ, real libvirt and QEMU, and an agent that follows the test's script."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from integration.alarm import memory_alarm
from integration.cheap_domain import CheapDomain
from integration.compute_host import ComputeHost, own_host
from integration.deployment import deploy
from integration.relayed_vm import (
    PERMIT,
    REQUEST,
    RESULT,
    Control,
    Machine,
    campaign_on,
    machine_of,
)

from ansible_collections.isolift.vm.plugins.module_utils.broker import Broker, BrokerOptions
from isolift_relay import ids, topology, wire
from lab.waiting import wait_until

FOREIGN = "/srv/foreign.iso"


@pytest.fixture(scope="module")
def options(host: ComputeHost, own_broker: BrokerOptions) -> BrokerOptions:
    """Broker and relay on one host, and a disc that is not ours."""
    host.run(f"head -c 65536 /dev/urandom > {FOREIGN}")
    return own_broker


@pytest.fixture
def second_host(
    host: ComputeHost, options: BrokerOptions, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComputeHost]:
    """Another compute node with its relay, to which domains of the first can move."""
    with own_host("second") as second:
        for one, other in ((host, second), (second, host)):
            one.run(f"echo {other.address} {other.name} >> /etc/hosts")
        second.run("""
            echo 'auth_tcp = "none"' >> /etc/libvirt/libvirtd.conf
            systemctl stop libvirtd.service 'libvirtd*.socket'
            systemctl start libvirtd-tcp.socket libvirtd.service""")
        deploy(tmp_path_factory.mktemp("inventory"), host, second)
        yield second


@pytest.fixture
def control(host: ComputeHost, options: BrokerOptions) -> Iterator[Control]:
    """A campaign with its journal, and its ISO on the host."""
    with campaign_on(host, options) as control:
        yield control


@pytest.fixture
def machine(host: ComputeHost, control: Control, tmp_path: Path) -> Iterator[Machine]:
    """A running VM with an empty drive."""
    with machine_of(control, host, tmp_path) as machine:
        yield machine


# An upgrade


def test_an_upgrade_passes_through_the_relay_and_leaves_an_empty_drive(
    machine: Machine, options: BrokerOptions
) -> None:
    control, agent = machine.control, machine.agent
    with Broker(options) as ears:
        ears.hear_presence(topology.coordinator_queue(control.campaign))
        machine.begin()
        presence = [wire.decode(delivery.body) for delivery in ears.poll(20)]
    assert [(message.vm, message.payload) for message in presence] == [
        (machine.vm, wire.Presence(machine.domain.host.name, "0.1.0", "g", 1))
    ]

    machine.command(control.start())
    started = agent.take()
    assert machine.domain.discs() == (control.iso, control.iso)
    assert machine.domain.medium() == control.iso
    assert machine.report(REQUEST, "g.1").refused == ""
    machine.command(PERMIT)
    permit = agent.take()
    assert machine.report(RESULT, "g.2").refused == ""
    machine.wait_for_disc("")

    begun = time.time() - 120
    journal = control.journal()
    assert [record.payload for record in journal] == [
        wire.Delivered("start", started.message_id),
        REQUEST,
        wire.Delivered("notification", permit.message_id),
        RESULT,
    ]
    for record in journal:
        assert record.vm == machine.vm and record.upgrade_id == ids.upgrade_id(
            control.campaign, machine.vm, 1
        )
        assert begun < record.created_at < time.time() + 1


def test_what_a_guest_must_not_send_is_refused_in_its_own_upgrade(machine: Machine) -> None:
    machine.begin()
    machine.command(machine.control.start())
    machine.agent.take()
    other = machine.control.message(RESULT, "2a8f1b9e-6f0d-4d5c-8c8a-7a2f3f0e9a11")
    machine.agent.send(b"rubbish\n" + b"x" * 200_000 + b"\n" + b'{"type":"dance"}\n')
    machine.agent.say(wire.Carry(session=machine.agent.session, now=0.0, message=other))
    reasons = [payload.reason for payload in machine.control.payloads(5) if isinstance(payload, wire.Refused)]
    assert reasons == ["not_json", "too_long", "unknown_type", "wrong_upgrade"]
    assert machine.report(REQUEST).refused == ""


def test_a_report_for_a_campaign_that_is_gone_is_refused_for_good(
    machine: Machine, options: BrokerOptions
) -> None:
    machine.begin()
    gone = Control(options)
    message = replace(gone.message(RESULT, machine.vm, "g.1"), vm="")
    assert machine.agent.report(message).refused == "unknown_campaign"


def test_a_report_that_the_broker_finds_no_route_for_is_asked_for_again(machine: Machine) -> None:
    machine.begin()
    report = replace(machine.control.message(RESULT, machine.vm, "g.1"), vm="")
    with machine.control.without_route():
        machine.agent.say(wire.Carry(session=machine.agent.session, now=0.0, message=report))
        assert machine.agent.hear() == wire.Knock()
    assert machine.agent.report(report).refused == ""
    assert [record.message_id for record in machine.control.journal()] == ["g.1"]


# Discs


def test_a_foreign_disc_is_left_alone(host: ComputeHost, control: Control, tmp_path: Path) -> None:
    with machine_of(control, host, tmp_path, disc=FOREIGN) as machine:
        machine.begin()
        machine.command(control.start())
        [answer] = control.payloads(1)
        assert (
            isinstance(answer, wire.Undeliverable)
            and answer.reason == "drive_in_use"
            and FOREIGN in answer.detail
        )
        assert machine.domain.discs() == (FOREIGN, FOREIGN)


def test_an_iso_that_is_not_on_the_node_is_said(host: ComputeHost, machine: Machine) -> None:
    machine.begin()
    host.run(f"mv {machine.control.iso} {machine.control.iso}.away")
    machine.command(machine.control.start())
    [answer] = machine.control.payloads(1)
    assert isinstance(answer, wire.Undeliverable) and answer.reason == "no_media"
    assert machine.domain.discs() == ("", "")


def test_without_an_agent_a_command_is_undeliverable_and_the_drive_untouched(machine: Machine) -> None:
    machine.agent.accept()
    machine.command(machine.control.start())
    [answer] = machine.control.payloads(1)
    assert isinstance(answer, wire.Undeliverable) and answer.reason == "no_agent"
    assert machine.domain.discs() == ("", "")


# What comes and goes


def test_a_domain_that_stops_is_no_longer_routed_to(machine: Machine) -> None:
    machine.begin()
    machine.command(PERMIT)
    machine.domain.host.run(f"virsh destroy {machine.domain.name}")
    wait_until(
        lambda: not machine.control.command(PERMIT, machine.vm), what="the VM to be unbound", timeout=20
    )


def test_a_channel_that_breaks_is_connected_again(machine: Machine) -> None:
    machine.begin()
    first = machine.agent.session
    machine.begin()
    assert machine.agent.session != first
    assert machine.report(REQUEST).refused == ""


def test_libvirtd_may_restart_without_a_session_ending(host: ComputeHost, machine: Machine) -> None:
    machine.begin()
    host.run("systemctl restart libvirtd.service")
    machine.command(PERMIT)
    machine.agent.take()
    late = CheapDomain(host, "late", uuid="3c8f1b9e-6f0d-4d5c-8c8a-7a2f3f0e9a13")
    try:
        late.create()
        wait_until(lambda: machine.control.command(PERMIT, late.uuid), what="the new domain", timeout=30)
    finally:
        late.remove()


def test_a_domain_that_moves_is_found_on_its_new_host_and_our_disc_does_not_hold_it(
    host: ComputeHost, second_host: ComputeHost, control: Control
) -> None:
    def relays() -> list[str]:
        bindings = host.run("rabbitmqctl --quiet list_bindings --vhost isolift destination_name routing_key")
        return [line.split(".")[2] for line in bindings.splitlines() if line.endswith(domain.uuid)]

    domain = CheapDomain(host, "moving").define().start("")
    moved = replace(domain, host=second_host)
    try:
        wait_until(lambda: relays() == [host.name], what="the first relay", timeout=20)
        assert host.module("cdrom_media", vms=["moving"], path=control.iso)["changed"]
        move = f"virsh migrate --live --persistent --undefinesource moving qemu+tcp://{second_host.address}/system"
        host.run(move)
        wait_until(lambda: relays() == [second_host.name], what="the second relay alone", timeout=20)
        assert moved.medium() == ""  # the second host has no such ISO
    finally:
        domain.remove()
        moved.remove()


def test_no_report_is_lost_or_acknowledged_too_early_when_the_broker_goes_away(
    host: ComputeHost, machine: Machine
) -> None:
    machine.begin()
    assert machine.report(REQUEST, "g.1").refused == ""
    host.run("rabbitmqctl stop_app")
    lost = replace(machine.control.message(RESULT, machine.vm, "g.2"), vm="")
    machine.agent.say(wire.Carry(session=machine.agent.session, now=0.0, message=lost))
    host.run("rabbitmqctl start_app")
    machine.agent.open("again")
    assert machine.report(RESULT, "g.2").refused == ""
    assert [record.message_id for record in machine.control.journal()] == ["g.1", "g.2"]
    machine.command(PERMIT)
    machine.agent.take()


def test_the_relay_finds_a_broker_again_that_was_killed(host: ComputeHost, machine: Machine) -> None:
    machine.begin()
    host.run("systemctl kill --signal=KILL rabbitmq-server.service")
    host.wait_for("rabbitmqctl await_startup", what="systemd to start it again", timeout=180)
    machine.agent.open("again")
    assert machine.report(RESULT, "g.1").refused == ""
    machine.command(PERMIT)
    machine.agent.take()


def test_no_report_is_lost_or_acknowledged_too_early_while_the_broker_is_short_of_memory(
    host: ComputeHost, machine: Machine
) -> None:
    machine.begin()
    assert machine.report(REQUEST, "g.1").refused == ""
    report = replace(machine.control.message(RESULT, machine.vm, "g.2"), vm="")
    with memory_alarm(host):
        machine.agent.say(wire.Carry(session=machine.agent.session, now=0.0, message=report))
        logged = "journalctl --unit isolift-relay.service --output cat --lines 20 | grep 'takes nothing at present'"
        host.wait_for(logged, what="the relay to be told")
        assert [record.message_id for record in machine.control.journal()] == ["g.1"]
    acknowledged = machine.agent.hear_until(lambda frame: isinstance(frame, wire.Ack))
    assert isinstance(acknowledged, wire.Ack)
    assert (acknowledged.message_id, acknowledged.refused) == ("g.2", "")
    assert [record.message_id for record in machine.control.journal()] == ["g.1", "g.2"]
    machine.command(PERMIT)
    machine.agent.take()


def test_the_relay_stops_on_request_and_begins_anew(host: ComputeHost, machine: Machine) -> None:
    machine.begin()
    host.run("systemctl restart isolift-relay.service", timeout=15)
    log = host.run("journalctl --unit isolift-relay.service --lines 20 --output cat")
    assert "stopped by a signal" in log and "Traceback" not in log
    machine.begin()
    assert machine.report(REQUEST).refused == ""
    assert host.run("systemctl is-active isolift-relay.service").strip() == "active"


def test_a_guest_that_floods_is_heard_no_more_than_it_should_be(host: ComputeHost, machine: Machine) -> None:
    machine.begin()
    machine.command(machine.control.start())
    machine.agent.take()
    flood = machine.control.message(REQUEST, machine.vm, "g.1")
    line = wire.encode_frame(wire.Carry(session="stale", now=0.0, message=flood))
    machine.agent.send((line + b"rubbish\n") * 5_000)
    refused = [payload for payload in machine.control.payloads(6) if isinstance(payload, wire.Refused)]
    assert len(refused) == 5
    process = host.run("systemctl show --property MainPID --value isolift-relay.service").strip()
    peak = host.run(f"awk '/^VmHWM/ {{ print $2 }}' /proc/{process}/status")
    assert int(peak) < 100 * 1024, f"{peak} KiB"
    assert len(machine.control.journal()) == 6
