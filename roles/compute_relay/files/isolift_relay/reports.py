# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way up: what guests send is checked, stamped and published, and acknowledged once the broker has it."""

from __future__ import annotations

from . import topology, wire
from .desk import Desk, ReportSent, upgrade_id
from .drives import Drives
from .events import Announce, Outcome
from .sessions import Kind, State, Vm

REPORTS = wire.registry(*wire.REPORTS)


class Reports:
    """Everything that a guest's lines cause."""

    def __init__(self, desk: Desk, drives: Drives) -> None:
        self._desk = desk
        self._drives = drives

    def line(self, vm: Vm, data: bytes) -> None:
        """One line of the guest. Whatever it holds, it can only cost this VM its own refusals."""
        if not data.strip():
            return
        if vm.state is State.CONNECTED:
            return  # the broker is away: the agent sends it again after the next hello
        if not vm.admits(len(data), self._desk.elapsed):
            self.refuse(vm, "too_fast", "the guest sends more than its share; what is above it was dropped")
            self._desk.knock_soon(vm)  # the dropped line may have been a hello
            return
        try:
            frame = wire.decode_frame(data, REPORTS)
        except wire.WireError as error:
            self.refuse(vm, error.code, error.detail)
            return
        self._frame(vm, frame)

    def overlong(self, vm: Vm) -> None:
        """The guest sent a line longer than any frame."""
        self.refuse(vm, "too_long", f"a line of more than {wire.FRAME_LIMIT} bytes")

    def refuse(self, vm: Vm, reason: str, detail: str) -> None:
        """Reports bad input to the upgrade that this VM was started for, a few times."""
        if vm.state is not State.OPEN:
            vm.garbage += 1  # what an earlier session left in the buffers is nobody's fault
            return
        if vm.started is None:
            self._desk.log(vm, f"refused, {reason}: {detail!a}")
        elif vm.may_report_refusal(vm.started.upgrade_id):
            self._desk.tell(vm.started, wire.Refused(reason, detail[:300]))

    def settled(self, sent: ReportSent, outcome: Outcome) -> None:
        """The broker answered for a report."""
        vm = self._desk.vms.get(sent.vm)
        is_over = isinstance(sent.message.payload, wire.Result) and outcome is not Outcome.REFUSED
        if vm is None:
            if is_over:
                self._drives.over_elsewhere(sent.message)
            return
        vm.unconfirmed.discard(sent.message.message_id)
        if outcome is Outcome.REFUSED:
            self._desk.knock_soon(vm)  # after the hello the agent sends it again
            return
        if vm.state is State.OPEN:
            refused = "" if outcome is Outcome.CONFIRMED else "unknown_campaign"
            self._desk.write(vm, wire.Ack(vm.session, sent.message.message_id, refused))
        if is_over:
            self._drives.over(vm, sent.message)

    def _frame(self, vm: Vm, frame: wire.Payload) -> None:
        if isinstance(frame, wire.Hello):
            self._hello(vm, frame)
        elif vm.state is not State.OPEN:
            vm.garbage += 1
        elif isinstance(frame, (wire.Carry, wire.Ack)):
            if frame.session != vm.session:
                self._desk.knock_soon(vm)
            elif isinstance(frame, wire.Carry):
                self._carry(vm, frame.message)
            else:
                self._acknowledged(vm, frame)
        else:
            self.refuse(vm, "unknown_type", f"an agent does not send {frame.TYPE}")

    def _hello(self, vm: Vm, hello: wire.Hello) -> None:
        desk = self._desk
        if not vm.hellos.take(1, desk.elapsed):
            desk.knock_soon(vm)
            return
        vm.step(Kind.HELLO)
        vm.session = desk.unique()
        generation, counter = vm.journal
        if generation and (hello.generation != generation or hello.counter < counter):
            self._drives.lost(vm)
        vm.journal = (hello.generation, hello.counter)
        if vm.garbage:
            desk.log(vm, f"{vm.garbage} lines before the hello were thrown away")
        vm.garbage = 0
        desk.write(vm, wire.Welcome(hello.nonce, vm.session, vm.uuid, desk.now))
        presence = wire.Presence(desk.node, hello.agent_version, hello.generation, hello.counter)
        message = wire.Message(
            message_id=desk.unique(),
            upgrade_id="",
            campaign_id="",
            vm=vm.uuid,
            attempt=1,
            epoch=0,
            created_at=desk.now,
            payload=presence,
        )
        desk.emit(Announce(topology.PRESENCE_EXCHANGE, wire.encode(message)))

    def _acknowledged(self, vm: Vm, ack: wire.Ack) -> None:
        command = vm.handed.pop(ack.message_id, None)
        if command is None:
            return
        self._drives.acknowledged(vm, command, refused=bool(ack.refused))
        name, message_id = command.payload.TYPE, command.message_id
        if ack.refused:
            self._desk.tell(command, wire.Undeliverable(name, message_id, "refused", ack.refused))
        else:
            self._desk.tell(command, wire.Delivered(name, message_id))

    def _carry(self, vm: Vm, message: wire.Message) -> None:
        desk = self._desk
        if not _is_upgrade_of(vm, message):
            self.refuse(vm, "wrong_upgrade", f"{message.payload.TYPE} for {message.upgrade_id!a}")
            return
        if message.message_id in vm.unconfirmed:
            return
        if not desk.has_room() or len(vm.unconfirmed) >= desk.limits.unconfirmed_per_vm:
            desk.knock_soon(vm)  # not acknowledged: the agent sends it again after the hello
            return
        stamped = wire.altered(message, vm=vm.uuid, created_at=desk.now)
        try:
            desk.publish(stamped, ReportSent(vm.uuid, stamped))
        except wire.WireError as error:
            self.refuse(vm, error.code, error.detail)
            return
        vm.unconfirmed.add(message.message_id)
        if isinstance(message.payload, wire.Progress) and message.payload.stage == "busy":
            self._drives.busy(vm, message, message.payload.detail)


def _is_upgrade_of(vm: Vm, message: wire.Message) -> bool:
    """Whether the upgrade ID is the one that this VM has in this campaign; else it could write into another's history."""
    return bool(message.upgrade_id) and message.upgrade_id == upgrade_id(
        message.campaign_id, vm.uuid, message.attempt
    )
