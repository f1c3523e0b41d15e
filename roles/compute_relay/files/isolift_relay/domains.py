# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt: which domains run here, and the discs in their drives.

libvirt's own event loop runs in a thread of its own, and its blocking calls in a pool of threads. (The binding's asyncio
loop, libvirtaio, may only be used by calls on the event loop itself, which would stop the relay for as long as they take.)
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, NamedTuple, TypeVar

import libvirt

from .events import DomainDown, DomainUp, MediumDone
from .hypervisor import ConnectionLost, Hypervisor, HypervisorError, MediaError
from .media import Reason

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
KEEPALIVE_S, KEEPALIVE_COUNT = 5, 5
"""Seconds between the questions whether libvirt is still there, and how many may stay unanswered. What libvirtd
itself uses towards its clients. One that hangs would hold every thread."""

THREADS = 8
"""Blocking calls at once: a locked tray holds one of them for 5 seconds."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Listener(NamedTuple):
    """Whom the domains tell what happens."""

    up: Callable[[DomainUp], None]
    down: Callable[[DomainDown], None]


def start_libvirt_events() -> None:
    """Starts libvirt's event loop. To be called once, before any connection is opened."""
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_libvirt_events, name="libvirt-events", daemon=True).start()


def _run_libvirt_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


class Domains:
    """Follows the running domains that have the agent's port. To be used on the event loop."""

    def __init__(self, uri: str, media_dir: str, listener: Listener) -> None:
        self._uri = uri
        self._media_dir = media_dir
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="libvirt")
        self._hypervisor: Hypervisor | None = None
        self._up: set[str] = set()
        self._stale: set[str] = set()  # UUIDs of domains about which libvirt said something
        self._wake = asyncio.Event()
        self._lost = False

    async def run(self) -> None:
        """Connects, and again after every loss, until it is cancelled. The domains run on meanwhile, and so do their VMs."""
        pause = FIRST_PAUSE_S
        while True:
            began = self._loop.time()
            try:
                await self._follow()
            except HypervisorError as error:
                _log.warning("libvirt: %s", error)
            if self._loop.time() - began > LONGEST_PAUSE_S:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def insert(self, vm: str, number: int, path: str) -> MediumDone:
        """Makes sure that the ISO ``path`` is in the VM's drive."""
        return await self._change(vm, number, lambda hypervisor, domain: hypervisor.insert(domain, path))

    async def eject(self, vm: str, number: int, campaign_id: str) -> MediumDone:
        """Takes the campaign's ISO out of the VM's drive, if it is in it."""
        return await self._change(
            vm, number, lambda hypervisor, domain: hypervisor.eject(domain, campaign_id)
        )

    def close(self) -> None:
        """Takes no more calls. Those under way end by themselves."""
        self._pool.shutdown(wait=False)

    async def _change(self, vm: str, number: int, change: Callable[[Hypervisor, Any], Any]) -> MediumDone:
        hypervisor = self._hypervisor
        if hypervisor is None:
            return MediumDone(vm, number, Reason.MEDIA_ERROR, "libvirt cannot be reached at the moment")
        try:
            await self._call(lambda: change(hypervisor, hypervisor.find_uuid(vm)))
        except MediaError as error:
            return MediumDone(vm, number, error.reason, error.detail)
        except (HypervisorError, ValueError) as error:  # ValueError: its XML cannot be read
            return MediumDone(vm, number, Reason.MEDIA_ERROR, str(error))
        return MediumDone(vm, number)

    async def _follow(self) -> None:
        hypervisor = await self._call(lambda: Hypervisor.open(self._uri, self._media_dir))
        self._lost = False
        try:
            await self._call(lambda: self._subscribe(hypervisor.connection))
            found = await self._call(hypervisor.connection.listAllDomains)
            self._hypervisor = hypervisor
            _log.info("connected to libvirt at %s, %d domains", self._uri, len(found))
            self._stale |= {domain.UUIDString() for domain in found} | self._up
            self._wake.set()
            await self._watch(hypervisor)
        except libvirt.libvirtError as error:
            raise ConnectionLost(str(error)) from error
        finally:
            self._hypervisor = None
            await self._call(hypervisor.close)

    async def _watch(self, hypervisor: Hypervisor) -> None:
        while not self._lost:
            await self._wake.wait()
            self._wake.clear()
            stale, self._stale = self._stale, set()
            for vm in stale:
                try:
                    found = await self._call(lambda vm=vm: _look(hypervisor, vm))  # type: ignore[misc]
                except (MediaError, ValueError) as error:
                    _log.error("domain %s cannot be read and is left as it was: %s", vm, error)
                else:
                    self._tell(vm, found)
        raise ConnectionLost("the connection was closed")

    def _tell(self, vm: str, found: DomainUp | None) -> None:
        if found is not None:
            self._up.add(vm)
            self._listener.up(found)
        elif vm in self._up:
            self._up.remove(vm)
            self._listener.down(DomainDown(vm))

    def _subscribe(self, connection: Any) -> None:
        connection.registerCloseCallback(self._closed, None)
        connection.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT)
        for event in (
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
            libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
            libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
        ):
            connection.domainEventRegisterAny(None, event, self._changed, None)

    # These two are called by libvirt's thread.

    def _changed(self, _connection: object, domain: Any, *_details: object) -> None:
        self._loop.call_soon_threadsafe(self._touch, domain.UUIDString())

    def _closed(self, _connection: object, _reason: int, _opaque: object) -> None:
        self._loop.call_soon_threadsafe(self._lose)

    def _touch(self, vm: str) -> None:
        self._stale.add(vm)
        self._wake.set()

    def _lose(self) -> None:
        self._lost = True
        self._wake.set()

    async def _call(self, function: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._pool, function)


def _look(hypervisor: Hypervisor, vm: str) -> DomainUp | None:
    """The domain as it is now, if it runs here and has the agent's port."""
    try:
        info = hypervisor.describe(hypervisor.find_uuid(vm))
    except MediaError as error:
        if error.reason is Reason.NO_DOMAIN:
            return None
        raise
    if info.is_elsewhere or not info.channel_path:
        return None
    return DomainUp(vm, info.name, info.channel_path)
