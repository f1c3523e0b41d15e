# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The drives: one operation on a VM's drive at a time, a disc before its start is handed over, ejection after a result."""

from __future__ import annotations

from . import wire
from .desk import Desk
from .events import AckDelivery, EjectDue, EjectMedium, InsertMedium, Level, Log, MediumDone, Wake
from .media import Reason
from .sessions import Command, Ejection, Operation, State, Vm

RETRIED = (Reason.TRAY_LOCKED, Reason.MEDIA_ERROR)
"""What may pass by itself, such as a disc that is still mounted."""


class Drives:
    """Hands commands over, and the operations on the drives that go before or after."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def accept(self, vm: Vm, command: Command) -> None:
        """Takes a command for the VM; it goes to the agent after those before it."""
        vm.waiting.append(command)
        self._advance(vm)

    def wish_ejection(self, vm: Vm, campaign_id: str) -> None:
        """The upgrade is over: the campaign's disc leaves the drive as soon as nothing else is done to it."""
        vm.ejection = Ejection(campaign_id)
        self._advance(vm)

    def due(self, vm: Vm, tries: int) -> None:
        """The pause before another try to eject is over."""
        if vm.ejection is not None and vm.ejection.tries == tries:
            vm.ejection = Ejection(vm.ejection.campaign_id, tries)
            self._advance(vm)

    def done(self, vm: Vm, event: MediumDone) -> None:
        """The operation is over."""
        if event.number != vm.operation_number:
            return  # begun before the domain was here last
        operation, vm.operation = vm.operation, None
        if isinstance(operation, Ejection):
            self._ejected(vm, operation, event)
        elif operation is not None and event.reason is None:
            self._hand_over(vm, operation)
        elif operation is not None and event.reason is not None:
            self._desk.undeliverable(operation, event.reason.value, event.detail)
        self._advance(vm)

    def forget(self, vm: Vm) -> None:
        """The domain is gone. Its commands are answered; an ejection that waits is tried a last time, on its definition."""
        commands = list(vm.waiting)
        if isinstance(vm.operation, Command):
            commands.insert(0, vm.operation)
        for command in commands:
            self._desk.undeliverable(command, "no_agent", "the domain stopped or moved away")
        if vm.ejection is not None:
            self._desk.emit(EjectMedium(vm.uuid, self._desk.number(), vm.ejection.campaign_id))

    def broker_lost(self, vm: Vm) -> None:
        """The broker took its commands back."""
        vm.waiting.clear()
        if isinstance(vm.operation, Command):
            vm.operation = Command(None, vm.operation.message)

    def _advance(self, vm: Vm) -> None:
        while vm.operation is None:
            if vm.ejection is not None and vm.ejection.due:
                ejection, vm.ejection = vm.ejection, None
                number = self._begin(vm, ejection)
                self._desk.emit(EjectMedium(vm.uuid, number, ejection.campaign_id))
            elif vm.waiting:
                self._next(vm, vm.waiting.popleft())
            else:
                return

    def _begin(self, vm: Vm, operation: Operation) -> int:
        vm.operation = operation
        vm.operation_number = self._desk.number()
        return vm.operation_number

    def _next(self, vm: Vm, command: Command) -> None:
        message = command.message
        problem = self._problem(vm, message)
        if problem:
            self._desk.undeliverable(command, problem, f"{vm.name}: {_EXPLAINED[problem]}")
        elif isinstance(message.payload, wire.Start) and message.upgrade_id != vm.finished:
            if vm.ejection is not None and vm.ejection.campaign_id == message.campaign_id:
                vm.ejection = None
            number = self._begin(vm, command)
            self._desk.emit(InsertMedium(vm.uuid, number, message.payload.media_path))
        else:
            self._hand_over(vm, command)

    def _problem(self, vm: Vm, message: wire.Message) -> str:
        if isinstance(message.payload, wire.Notification) and message.payload.expires_at <= self._desk.now:
            return "expired"
        return "" if vm.state is State.OPEN else "no_agent"

    def _hand_over(self, vm: Vm, command: Command) -> None:
        if command.tag is None:
            return  # the coordinator sends it again
        problem = self._problem(vm, command.message)
        if problem:
            self._desk.undeliverable(command, problem, f"{vm.name}: {_EXPLAINED[problem]}")
            return
        message = command.message
        if isinstance(message.payload, wire.Start):
            if vm.started is None or vm.started.upgrade_id != message.upgrade_id:
                vm.refusals = 0
            vm.started = message
        vm.handed[message.message_id] = message
        while len(vm.handed) > self._desk.limits.handed_per_vm:
            vm.handed.popitem(last=False)
        self._desk.write(vm, wire.Carry(session=vm.session, now=self._desk.now, message=message))
        self._desk.emit(AckDelivery(command.tag))

    def _ejected(self, vm: Vm, ejection: Ejection, event: MediumDone) -> None:
        if event.reason is None:
            return
        tries = ejection.tries + 1
        again = event.reason in RETRIED and tries < self._desk.limits.eject_tries and vm.ejection is None
        what = (
            "will try again"
            if again
            else "the disc stays in the drive until it is ejected by hand or by cleanup"
        )
        self._desk.emit(
            Log(
                Level.WARNING,
                f"{vm.name} ({vm.uuid}): could not eject, {event.reason.value}: {event.detail}; {what}",
            )
        )
        if again:
            vm.ejection = Ejection(ejection.campaign_id, tries, due=False)
            self._desk.emit(
                Wake(self._desk.limits.eject_pause_s * 2 ** (tries - 1), EjectDue(vm.uuid, tries))
            )


_EXPLAINED = {
    "no_agent": "the agent has no session with the relay",
    "expired": "the permit ran out before it could be handed over",
}
