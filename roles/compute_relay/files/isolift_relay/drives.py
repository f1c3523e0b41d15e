# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way down, and the drives: a start is handed over once its disc is in the drive.

One operation at a time on a VM's drive; commands wait behind it. A disc stays until its upgrade is over: an agent takes one
upgrade after the other, so another campaign's start is handed over at once and its disc follows when the drive is free.
"""

from __future__ import annotations

from dataclasses import replace

from . import wire
from .desk import Desk
from .events import AckDelivery, DriveDue, EjectDue, EjectMedium, InsertMedium, Level, Log, MediumDone, Wake
from .media import Reason
from .sessions import Command, Ejection, Operation, State, Vm

RETRIED = (Reason.TRAY_LOCKED, Reason.MEDIA_ERROR)
"""What may pass by itself, such as a disc that is still mounted."""

_EXPLAINED = {
    "no_agent": "the agent has no session with the relay",
    "expired": "the permit ran out before it could be handed over",
}


class Drives:
    """Hands commands over, and the operations on the drives that go before or after."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def accept(self, vm: Vm, command: Command) -> None:
        """Takes a command for the VM; it goes to the agent after those before it. One that asks the same takes the place of an older one,
        so that a VM whose drive is slow keeps no more of the broker's deliveries than it has upgrades."""
        place = next((place for place, one in enumerate(vm.waiting) if _asks_the_same(one, command)), None)
        if place is None:
            vm.waiting.append(command)
        else:
            older, vm.waiting[place] = vm.waiting[place], command
            if older.tag is not None:
                self._desk.emit(AckDelivery(older.tag))
        self._advance(vm)

    def acknowledged(self, vm: Vm, command: wire.Message, refused: bool) -> None:
        """The agent took a command, or never will."""
        if not isinstance(command.payload, wire.Start):
            return
        if not refused:
            vm.taken[command.upgrade_id] = command
            while len(vm.taken) > self._desk.limits.taken_per_vm:
                del vm.taken[next(iter(vm.taken))]
            self._watch(vm)
        elif command.upgrade_id not in vm.taken:  # else it is an old coordinator's start that was refused
            self._disinherit(vm, command)
            self._unsettle(vm, command)

    def busy(self, vm: Vm, message: wire.Message, current: str) -> None:
        """The agent put an upgrade behind the one with the ID ``current``: the drive is that one's, as soon as its start is known.

        A relay that did not see both starts in their order, after a restart or a migration, learns it here.
        """
        waiting = vm.tenant
        if waiting is None or not _is(waiting, message) or not vm.looks.take(1, self._desk.elapsed):
            return
        starts = (vm.successor, *vm.taken.values(), *vm.handed.values())
        first = next((start for start in starts if start is not None and start.upgrade_id == current), None)
        vm.tenant, vm.successor = None, waiting
        if first is not None and isinstance(first.payload, wire.Start):
            self._wish(vm, Ejection(waiting.campaign_id, first))

    def over(self, vm: Vm, result: wire.Message) -> None:
        """The upgrade's result is safe: its disc leaves the drive as soon as nothing else is done to it."""
        vm.finished = result.upgrade_id
        vm.taken.pop(result.upgrade_id, None)
        self._disinherit(vm, result)
        if _is(vm.tenant, result):
            self._vacate(vm)
        elif _may_hold(vm, result.campaign_id) and vm.looks.take(1, self._desk.elapsed):
            # put there under an earlier run of the relay, or by the playbook while another campaign's upgrade had the drive
            self._wish(vm, Ejection(result.campaign_id))

    def over_elsewhere(self, result: wire.Message) -> None:
        """The same for a domain that stopped meanwhile: its definition may still hold the disc."""
        self._desk.emit(EjectMedium(result.vm, self._desk.number(), result.campaign_id))

    def lost(self, vm: Vm) -> None:
        """The agent lost its journal, or was set back: what it took before it may not know."""
        if vm.looks.take(1, self._desk.elapsed):
            vm.taken.clear()
            self._release(vm)

    def pass_on(self, vm: Vm) -> None:
        """The drive goes to the upgrade that waits for it at the deadline of the one that has it: at that its agent goes on, too, and says
        nothing."""
        vm.drive_due_at = float("inf")
        if vm.tenant is not None and self._heir(vm, vm.tenant) is not None and self._is_past(vm.tenant):
            self._vacate(vm)
        else:
            self._watch(vm)

    def due(self, vm: Vm, campaign_id: str, tries: int) -> None:
        """The pause before another try to eject is over."""
        ejection = vm.ejections.get(campaign_id)
        if ejection is not None and ejection.tries == tries:
            self._wish(vm, replace(ejection, due=True))

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
            self._unsettle(vm, operation.message)
            self._desk.undeliverable(operation, event.reason.value, event.detail)
        self._advance(vm)

    def forget(self, vm: Vm) -> None:
        """The domain is gone. Its commands are answered; an ejection that waits, or may have met a locked tray, is tried a last time,
        on its definition."""
        commands = list(vm.waiting)
        if isinstance(vm.operation, Command):
            commands.insert(0, vm.operation)
        for command in commands:
            self._desk.undeliverable(command, "no_agent", "the domain stopped or moved away")
        for ejection in (vm.operation, *vm.ejections.values()):
            if isinstance(ejection, Ejection):
                self._desk.emit(EjectMedium(vm.uuid, self._desk.number(), ejection.campaign_id))

    def broker_lost(self, vm: Vm) -> None:
        """The broker took its commands back."""
        vm.waiting.clear()
        if isinstance(vm.operation, Command):
            vm.operation = Command(None, vm.operation.message)

    # Commands

    def _advance(self, vm: Vm) -> None:
        while vm.operation is None:
            ejection = next((one for one in vm.ejections.values() if one.due), None)
            if ejection is not None:
                del vm.ejections[ejection.campaign_id]
                self._begin(vm, ejection)
            elif vm.waiting:
                self._next(vm, vm.waiting.popleft())
            else:
                return

    def _next(self, vm: Vm, command: Command) -> None:
        message = command.message
        is_new = isinstance(message.payload, wire.Start) and message.upgrade_id != vm.finished
        if is_new and not self._problem(vm, message):
            if not self._is_taken(vm, message):
                self._begin(vm, command)
                return
            if vm.successor is None or self._is_past(vm.successor):
                vm.successor = message
                self._watch(vm)
            elif _is(vm.successor, message):
                vm.successor = message
        self._hand_over(vm, command)

    def _problem(self, vm: Vm, message: wire.Message) -> str:
        if isinstance(message.payload, wire.Notification) and message.payload.expires_at <= self._desk.now:
            return "expired"
        return "" if vm.state is State.OPEN else "no_agent"

    def _hand_over(self, vm: Vm, command: Command) -> None:
        message = command.message
        problem = self._problem(vm, message)
        if command.tag is None or problem:
            if isinstance(message.payload, wire.Start):
                self._unsettle(vm, message)
            if problem:
                self._desk.undeliverable(command, problem, f"{vm.name}: {_EXPLAINED[problem]}")
            return  # the coordinator sends it again
        if isinstance(message.payload, wire.Start):
            vm.started = message
        vm.handed[message.message_id] = message
        while len(vm.handed) > self._desk.limits.handed_per_vm:
            vm.handed.popitem(last=False)
        self._desk.write(vm, wire.Carry(session=vm.session, now=self._desk.now, message=message))
        self._desk.emit(AckDelivery(command.tag))

    # The drive

    def _is_taken(self, vm: Vm, message: wire.Message) -> bool:
        """Whether the drive holds the disc of another campaign whose upgrade goes on."""
        if vm.tenant is None or vm.tenant.campaign_id == message.campaign_id:
            return False
        return not self._is_past(vm.tenant)

    def _heir(self, vm: Vm, tenant: wire.Message) -> wire.Message | None:
        """The start of the upgrade that gets the drive after the tenant's, if one waits for it."""
        starts = (vm.successor, *vm.taken.values())
        return next(
            (one for one in starts if one is not None and not _is(one, tenant) and not self._is_past(one)),
            None,
        )

    def _watch(self, vm: Vm) -> None:
        """Comes back at the tenant's deadline, if another upgrade waits for the drive."""
        if vm.tenant is None or self._heir(vm, vm.tenant) is None:
            return
        start = vm.tenant.payload
        if isinstance(start, wire.Start) and start.deadline < vm.drive_due_at:
            vm.drive_due_at = start.deadline
            self._desk.emit(Wake(max(0.0, start.deadline - self._desk.now), DriveDue(vm.uuid)))

    @staticmethod
    def _disinherit(vm: Vm, over: wire.Message) -> None:
        """The upgrade of the message ``over`` needs the drive no more, so it is nobody's successor."""
        if _is(vm.successor, over):
            vm.successor = None
        for campaign_id, ejection in vm.ejections.items():
            if _is(ejection.successor, over):
                vm.ejections[campaign_id] = replace(ejection, successor=None)

    def _is_past(self, start: wire.Message) -> bool:
        return isinstance(start.payload, wire.Start) and start.payload.deadline <= self._desk.now

    def _unsettle(self, vm: Vm, start: wire.Message) -> None:
        """The disc of ``start`` did not get in, or it did not come to its agent, or that refused it; one that it took before goes on."""
        if _is(vm.tenant, start) and start.upgrade_id not in vm.taken:
            self._release(vm)

    def _release(self, vm: Vm) -> None:
        """The agent does not know the upgrade whose disc is in the drive: the next one may take it."""
        if vm.tenant is not None and self._heir(vm, vm.tenant) is not None:
            self._vacate(vm)
        else:
            vm.tenant = None

    def _vacate(self, vm: Vm) -> None:
        """The tenant leaves; the drive goes to its heir or stays empty."""
        tenant, vm.tenant = vm.tenant, None
        if tenant is not None:
            heir, vm.successor = self._heir(vm, tenant), None
            self._disinherit(vm, tenant)
            self._wish(vm, Ejection(tenant.campaign_id, heir))

    def _wish(self, vm: Vm, ejection: Ejection) -> None:
        vm.ejections[ejection.campaign_id] = ejection
        self._advance(vm)

    def _begin(self, vm: Vm, operation: Operation) -> None:
        vm.operation = operation
        vm.operation_number = number = self._desk.number()
        start = operation.message if isinstance(operation, Command) else operation.successor
        if start is not None and isinstance(start.payload, wire.Start):
            if not _is(vm.tenant, start):
                vm.tenant = start
            if _is(vm.successor, start):
                vm.successor = None
            self._watch(vm)
            vm.ejections.pop(start.campaign_id, None)
            vm.given_up = "" if vm.given_up == start.campaign_id else vm.given_up
            self._desk.emit(InsertMedium(vm.uuid, number, start.payload.media_path))
        elif isinstance(operation, Ejection):
            self._desk.emit(EjectMedium(vm.uuid, number, operation.campaign_id))

    def _ejected(self, vm: Vm, ejection: Ejection, event: MediumDone) -> None:
        if event.reason is None:
            return
        start, again = ejection.successor, self._tries_again(ejection, event.reason)
        is_wanted = start is not None and _is(vm.tenant, start)
        if start is None or (again and is_wanted):
            self._retry(vm, ejection, again, f"{event.reason.value}: {event.detail}")
            return
        self._unsettle(vm, start)
        command = (start.payload.TYPE, start.message_id)
        self._desk.tell(start, wire.Undeliverable(*command, event.reason.value, event.detail[:300]))
        # The disc of before is still in the drive: it comes out before any other.
        vm.ejections = {ejection.campaign_id: Ejection(ejection.campaign_id), **vm.ejections}

    def _tries_again(self, ejection: Ejection, reason: Reason) -> bool:
        return reason in RETRIED and ejection.tries + 1 < self._desk.limits.eject_tries

    def _retry(self, vm: Vm, ejection: Ejection, again: bool, problem: str) -> None:
        campaign_id, tries = ejection.campaign_id, ejection.tries + 1
        text = f"could not eject the disc, {problem}"
        if again:
            self._desk.log(vm, f"{text}; will try again")
        else:
            left = "it stays in the drive until it is ejected by hand or by cleanup"
            self._desk.emit(Log(Level.WARNING, f"{vm.name} ({vm.uuid}): {text}; {left}"))
        if not again:
            vm.given_up = campaign_id
        elif campaign_id not in vm.ejections:
            vm.ejections[campaign_id] = replace(ejection, tries=tries, due=False)
            pause_s = self._desk.limits.eject_pause_s * 2 ** (tries - 1)
            self._desk.emit(Wake(pause_s, EjectDue(vm.uuid, campaign_id, tries)))


def _asks_the_same(one: Command, other: Command) -> bool:
    """Whether both are starts, or both cancels, of one upgrade by one coordinator."""
    kind = type(one.message.payload)
    if kind not in (wire.Start, wire.Cancel) or kind is not type(other.message.payload):
        return False
    return (one.message.upgrade_id, one.message.epoch) == (other.message.upgrade_id, other.message.epoch)


def _is(start: wire.Message | None, message: wire.Message) -> bool:
    """Whether both are about the same upgrade."""
    return start is not None and start.upgrade_id == message.upgrade_id


def _may_hold(vm: Vm, campaign_id: str) -> bool:
    """Whether the drive may hold a disc of that campaign which nobody sees to."""
    is_seen_to = campaign_id in vm.ejections or (
        isinstance(vm.operation, Ejection) and vm.operation.campaign_id == campaign_id
    )
    is_wanted = vm.tenant is not None and vm.tenant.campaign_id == campaign_id
    return not (is_seen_to or is_wanted or vm.given_up == campaign_id)
