# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay's shell: brings events to the core and carries out its effects. It decides nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from functools import partial
from typing import Any, Awaitable, Callable

from . import broker, channel, domains
from .config import Config
from .core import Relay
from .events import (
    AckDelivery,
    Announce,
    Bind,
    BrokerDown,
    BrokerUp,
    ChannelDown,
    ChannelUp,
    CloseChannel,
    Delivery,
    Effect,
    EjectMedium,
    Event,
    InsertMedium,
    Line,
    LineTooLong,
    Log,
    MediumDone,
    OpenChannel,
    Publish,
    Published,
    Unbind,
    Wake,
    Write,
)

_log = logging.getLogger(__name__)


class Shell:
    """One relay. To be made and run on the event loop."""

    def __init__(self, config: Config, run: str) -> None:
        self._relay = Relay(config.node, run, config.limits)
        self._events: deque[Event] = deque()
        self._busy = False
        self._channels: dict[str, channel.Channel] = {}
        self._operations: dict[str, asyncio.Task[None]] = {}  # the last one on each VM's drive
        self._loop = asyncio.get_running_loop()
        self._failure: asyncio.Future[None] = self._loop.create_future()
        self._domains = domains.Domains(
            config.libvirt_uri, config.media_dir, domains.Listener(self.handle, self.handle)
        )
        self._broker = broker.Broker(
            config.broker,
            config.node,
            run,
            config.limits.prefetch,
            broker.Listener(
                up=lambda: self.handle(BrokerUp()),
                down=lambda: self.handle(BrokerDown()),
                delivery=lambda tag, body: self.handle(Delivery(tag, body)),
                published=lambda token, outcome: self.handle(Published(token, outcome)),
            ),
        )
        self._perform: dict[type[Any], Callable[[Any], None]] = {
            OpenChannel: self._open_channel,
            CloseChannel: lambda effect: self._channels.pop(effect.vm).close(),
            Write: lambda effect: self._channels[effect.vm].write(effect.data),
            Bind: lambda effect: self._broker.bind(effect.vm),
            Unbind: lambda effect: self._broker.unbind(effect.vm),
            Publish: lambda effect: self._broker.publish(
                effect.token, effect.exchange, effect.key, effect.body
            ),
            Announce: lambda effect: self._broker.announce(effect.exchange, effect.body),
            AckDelivery: lambda effect: self._broker.ack(effect.tag),
            InsertMedium: lambda effect: self._operate(
                effect.vm, partial(self._domains.insert, effect.vm, effect.number, effect.path)
            ),
            EjectMedium: lambda effect: self._operate(
                effect.vm, partial(self._domains.eject, effect.vm, effect.number, effect.campaign_id)
            ),
            Wake: self._wake_later,
            Log: lambda effect: _log.log(effect.level.value, "%s", effect.text),
        }

    async def run(self) -> None:
        """Relays until it is cancelled, and then leaves the broker and the channels in order.

        An operation that failed in a way that nobody foresaw ends it with that error: its VM would wait for ever, and the next run begins
        with what the broker and the agents say.
        """
        tasks = [self._loop.create_task(self._broker.run()), self._loop.create_task(self._domains.run())]
        try:
            await asyncio.gather(self._failure, *tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for link in self._channels.values():
                link.close()
            self._domains.close()

    def handle(self, event: Event) -> None:
        """Brings one event to the core. Events that an effect causes come after it."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                for effect in self._relay.handle(self._events.popleft(), time.time(), time.monotonic()):
                    self._carry_out(effect)
        finally:
            self._busy = False

    def _carry_out(self, effect: Effect) -> None:
        self._perform[type(effect)](effect)

    def _wake_later(self, effect: Wake) -> None:
        self._loop.call_later(effect.after_s, self.handle, effect.event)

    def _open_channel(self, effect: OpenChannel) -> None:
        vm = effect.vm
        self._channels[vm] = channel.Channel(
            effect.path,
            channel.Listener(
                up=lambda: self.handle(ChannelUp(vm)),
                down=lambda: self.handle(ChannelDown(vm)),
                line=lambda data: self.handle(Line(vm, data)),
                overlong=lambda: self.handle(LineTooLong(vm)),
            ),
        )

    def _operate(self, vm: str, operation: Callable[[], Awaitable[MediumDone]]) -> None:
        """Starts an operation on the VM's drive, after the one before."""
        before = self._operations.get(vm)
        task = self._loop.create_task(self._operate_after(before, operation))
        self._operations[vm] = task
        task.add_done_callback(partial(self._operated, vm))

    async def _operate_after(
        self, before: asyncio.Task[None] | None, operation: Callable[[], Awaitable[MediumDone]]
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        self.handle(await operation())

    def _operated(self, vm: str, task: asyncio.Task[None]) -> None:
        if self._operations.get(vm) is task:
            del self._operations[vm]
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failure.done():
            self._failure.set_exception(error)
