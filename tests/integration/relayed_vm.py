# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs behind a real relay: a real domain, an agent that follows the test's script, and the controller's side of a campaign."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ansible_collections.isolift.vm.plugins.module_utils.broker import Broker, BrokerOptions, Publication
from isolift_relay import ids, topology, wire
from lab.waiting import wait_until

from .cheap_domain import CheapDomain
from .compute_host import ComputeHost
from .journals import connected
from .scripted_agent import ScriptedAgent

MEDIA = "/var/lib/isolift/media"
SOCKETS = "/run/isolift-tests"
REQUEST = wire.Request(installed_version="1.0.0", facts={"free_bytes": 1})
RESULT = wire.Result(outcome="succeeded", version_after="2.0.0")
PERMIT = wire.Notification(permit=1, expires_at=4e9)


class Control:
    """The controller's side of one campaign."""

    def __init__(self, options: BrokerOptions) -> None:
        self.options = options
        self.campaign = ids.campaign_id(time.time_ns() // 1_000_000, os.urandom(10))
        self.iso = f"{MEDIA}/{self.campaign}/{'a' * 64}.iso"
        self._count = 0

    def message(self, payload: wire.Payload, vm: str, message_id: str = "") -> wire.Message:
        """A message about the first attempt for ``vm``."""
        self._count += 1
        return wire.Message(
            payload=payload,
            message_id=message_id or f"test.{self._count}",
            upgrade_id=ids.upgrade_id(self.campaign, vm, 1),
            campaign_id=self.campaign,
            vm=vm,
            attempt=1,
            epoch=1,
            created_at=0.0,
        )

    def start(self) -> wire.Start:
        return wire.Start(
            component="guest-tools",
            target_version="2.0.0",
            manifest_sha256="b" * 64,
            media_path=self.iso,
            deadline=4e9,
            consent="auto",
        )

    def command(self, payload: wire.Payload, vm: str) -> bool:
        """Sends a command; false if no relay has the VM."""
        body = wire.encode(self.message(payload, vm))
        with Broker(self.options) as broker:
            return not broker.publish([Publication(topology.VM_EXCHANGE, vm, body)])

    def journal(self) -> list[wire.Message]:
        """What the relay reported."""
        with Broker(self.options) as broker:
            return [wire.decode(record) for record in broker.read_all(topology.journal(self.campaign))]

    @contextmanager
    def without_route(self) -> Iterator[None]:
        """The broker has the journal, but finds no way into it."""
        name = topology.journal(self.campaign)
        with connected(self.options) as connection:
            channel = connection.channel()
            channel.queue_unbind(name, topology.JOURNAL_EXCHANGE, name)
            yield
            channel.queue_bind(name, topology.JOURNAL_EXCHANGE, name)

    def payloads(self, count: int) -> list[wire.Payload]:
        """The first ``count`` reports, waited for."""
        wait_until(lambda: len(self.journal()) >= count, what=f"{count} records", timeout=20)
        return [record.payload for record in self.journal()]


@dataclass
class Machine:
    """A VM whose guest is a scripted agent."""

    domain: CheapDomain
    agent: ScriptedAgent
    control: Control

    @property
    def vm(self) -> str:
        return self.domain.uuid

    def begin(self) -> None:
        """The agent's first session."""
        self.agent.accept()
        self.agent.open()

    def command(self, payload: wire.Payload) -> None:
        """Sends a command that the relay's queue must take."""
        wait_until(lambda: self.control.command(payload, self.vm), what="the VM to be bound", timeout=20)

    def report(self, payload: wire.Payload, message_id: str = "") -> wire.Ack:
        message = self.control.message(payload, self.vm, message_id)
        return self.agent.report(replace(message, vm=""))

    def wait_for_disc(self, path: str) -> None:
        wait_until(lambda: self.domain.discs() == (path, path), what=f"disc {path!r}", timeout=20)


@contextmanager
def campaign_on(host: ComputeHost, options: BrokerOptions) -> Iterator[Control]:
    """A campaign with its journal, and its ISO on the host."""
    control = Control(options)
    with Broker(options) as broker:
        broker.declare_journal(topology.journal(control.campaign))
    host.run(f"mkdir -p {SOCKETS} $(dirname {control.iso}) && head -c 65536 /dev/urandom > {control.iso}")
    try:
        yield control
    finally:
        with Broker(options) as broker:
            broker.delete_journal(topology.journal(control.campaign))
        host.run(f"rm -r $(dirname {control.iso})")


@contextmanager
def machine_of(control: Control, host: ComputeHost, directory: Path, disc: str = "") -> Iterator[Machine]:
    """A running VM. The relay is held still until the agent has taken QEMU's place at the channel's socket."""
    path = f"{SOCKETS}/agent.sock"
    domain = CheapDomain(host, "relayed", channel_path=path, disc=disc)
    domain.remove()
    host.run("systemctl kill --kill-whom=main --signal=STOP isolift-relay.service")
    try:
        domain.define().start()
        host.run(f"rm {path}")
        with ScriptedAgent(directory / "agent.sock") as agent, host.forwarded(path, agent.path):
            host.run("systemctl kill --kill-whom=main --signal=CONT isolift-relay.service")
            yield Machine(domain, agent, control)
    finally:
        host.run("systemctl kill --kill-whom=main --signal=CONT isolift-relay.service")
        domain.remove()
