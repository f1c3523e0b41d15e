# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay core: takes an event and the times, and returns what is to be done. It does no I/O and reads no clock.

Commands come from the broker and go to the agents (drives.py), reports come from the agents and go to the broker
(reports.py); this file follows domains, channels and the broker.
"""

from __future__ import annotations

from typing import Any, Callable

from . import wire
from .desk import AnswerSent, Desk, ReportSent, upgrade_id
from .drives import Drives
from .events import (
    AckDelivery,
    Bind,
    BrokerDown,
    BrokerUp,
    ChannelDown,
    ChannelUp,
    CloseChannel,
    Delivery,
    DomainDown,
    DomainUp,
    DriveDue,
    Effect,
    EjectDue,
    Event,
    KnockDue,
    Line,
    LineTooLong,
    MediumDone,
    OpenChannel,
    Published,
    Unbind,
)
from .rates import Limits
from .reports import Reports
from .sessions import Command, Kind, State, Vm

COMMANDS = wire.registry(*wire.COMMANDS)


class Relay:
    """One node's relay. ``run`` is a word that no other run of it used."""

    def __init__(self, node: str, run: str, limits: Limits) -> None:
        self._desk = Desk(node, run, limits)
        self._drives = Drives(self._desk)
        self._reports = Reports(self._desk, self._drives)
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            DomainUp: self._domain_up,
            DomainDown: self._domain_down,
            ChannelUp: self._channel_up,
            ChannelDown: self._channel_down,
            Line: self._line,
            LineTooLong: self._line_too_long,
            BrokerUp: self._on_broker_up,
            BrokerDown: self._on_broker_down,
            Delivery: self._delivery,
            Published: self._published,
            MediumDone: self._medium_done,
            EjectDue: self._eject_due,
            DriveDue: self._drive_due,
            KnockDue: self._knock_due,
        }

    def handle(self, event: Event, now: float, elapsed: float) -> list[Effect]:
        """What is to be done about ``event``, in order. Anything that a guest can cause is an event like any other.

        :param now: Unix seconds of the host's clock.
        :param elapsed: seconds of a clock that nobody sets, from any moment on.
        """
        self._desk.now, self._desk.elapsed = now, elapsed
        self._handlers[type(event)](event)
        return self._desk.take()

    @property
    def states(self) -> dict[str, State]:
        """The state of every VM that is followed, by UUID."""
        return {uuid: vm.state for uuid, vm in self._desk.vms.items()}

    def _domain_up(self, event: DomainUp) -> None:
        known = self._desk.vms.get(event.vm)
        if known is not None:
            if known.path == event.path:
                if self._desk.broker_up:  # it may have been paused, and its agent's clock with it
                    self._desk.knock_soon(known)
                return
            self._domain_down(DomainDown(event.vm))
        vm = Vm(event.vm, event.name, event.path, self._desk.limits)
        vm.step(Kind.DOMAIN_UP)
        self._desk.vms[vm.uuid] = vm
        if self._desk.broker_up:
            self._desk.emit(Bind(vm.uuid))
        self._desk.emit(OpenChannel(vm.uuid, vm.path))

    def _domain_down(self, event: DomainDown) -> None:
        vm = self._desk.vms.pop(event.vm, None)
        if vm is None:
            return
        vm.step(Kind.DOMAIN_DOWN)
        self._desk.emit(CloseChannel(vm.uuid))
        if self._desk.broker_up:
            self._desk.emit(Unbind(vm.uuid))
        self._drives.forget(vm)

    def _channel_up(self, event: ChannelUp) -> None:
        vm = self._desk.vms.get(event.vm)
        if vm is None:
            return
        vm.step(Kind.CHANNEL_UP)
        if self._desk.broker_up:
            self._desk.knock(vm)

    def _channel_down(self, event: ChannelDown) -> None:
        vm = self._desk.vms.get(event.vm)
        if vm is not None:
            vm.step(Kind.CHANNEL_DOWN)

    def _on_broker_up(self, _event: BrokerUp) -> None:
        self._desk.broker_up = True
        for vm in self._desk.vms.values():
            self._desk.emit(Bind(vm.uuid))
        for vm in self._desk.vms.values():
            if vm.state is State.CONNECTED:
                self._desk.knock(vm)

    def _on_broker_down(self, _event: BrokerDown) -> None:
        self._desk.broker_up = False
        self._desk.sent.clear()
        for vm in self._desk.vms.values():
            vm.step(Kind.BROKER_DOWN)
            vm.unconfirmed.clear()
            self._drives.broker_lost(vm)

    def _line(self, event: Line) -> None:
        vm = self._desk.vms.get(event.vm)
        if vm is not None:
            self._reports.line(vm, event.data)

    def _line_too_long(self, event: LineTooLong) -> None:
        vm = self._desk.vms.get(event.vm)
        if vm is not None:
            self._reports.overlong(vm)

    def _delivery(self, event: Delivery) -> None:
        try:
            message = wire.decode(event.body, COMMANDS)
        except wire.WireError as error:
            self._desk.drop(event.tag, str(error))
            return
        expected = upgrade_id(message.campaign_id, message.vm, message.attempt)
        if not expected or message.upgrade_id != expected:
            self._desk.drop(
                event.tag, f"{message.message_id} for {message.vm!a} names {message.upgrade_id!a}"
            )
            return
        command = Command(event.tag, message)
        vm = self._desk.vms.get(message.vm)
        if vm is not None:
            self._drives.accept(vm, command)
        else:
            self._desk.undeliverable(command, wire.NOT_HERE, f"no such VM runs on {self._desk.node}")

    def _published(self, event: Published) -> None:
        sent = self._desk.sent.pop(event.token, None)
        if isinstance(sent, AnswerSent):
            # If it was refused, or the campaign is gone, the coordinator will send the command again, or nobody.
            self._desk.emit(AckDelivery(sent.tag))
        elif isinstance(sent, ReportSent):
            self._reports.settled(sent, event.outcome)

    def _medium_done(self, event: MediumDone) -> None:
        vm = self._desk.vms.get(event.vm)
        if vm is not None:
            self._drives.done(vm, event)

    def _eject_due(self, event: EjectDue) -> None:
        vm = self._desk.vms.get(event.vm)
        if vm is not None:
            self._drives.due(vm, event.campaign_id, event.tries)

    def _drive_due(self, event: DriveDue) -> None:
        vm = self._desk.vms.get(event.vm)
        if vm is not None:
            self._drives.pass_on(vm)

    def _knock_due(self, event: KnockDue) -> None:
        vm = self._desk.vms.get(event.vm)
        if vm is not None and vm.knock_due:
            vm.knock_due = False
            if self._desk.broker_up and vm.state is not State.CONNECTING:
                self._desk.knock(vm)
