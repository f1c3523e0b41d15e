# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the relay's module of the same name: libvirt's list of domains, and the operations on their drives.

The list is a file, named by the URI ``file:PATH``; no domain ever stops. The disc is always there at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from isolift_relay.events import DomainDown, DomainUp, MediumDone
from scale import fleet


class Listener(NamedTuple):
    """Whom the domains tell what happens."""

    up: Callable[[DomainUp], None]
    down: Callable[[DomainDown], None]


class Domains:
    """The running domains of one node."""

    def __init__(self, uri: str, _media_dir: str, listener: Listener) -> None:
        self._file = Path(uri.removeprefix("file:"))
        self._listener = listener

    async def run(self) -> None:
        """Tells of every domain and waits until it is cancelled."""
        for node in fleet.load(self._file):
            for vm in node.vms:
                self._listener.up(DomainUp(vm.uuid, vm.name, vm.path))
        await asyncio.Event().wait()

    async def insert(self, vm: str, number: int, _path: str) -> MediumDone:
        """The ISO is in the VM's drive."""
        return MediumDone(vm, number)

    async def eject(self, vm: str, number: int, _campaign_id: str) -> MediumDone:
        """The ISO is not in the VM's drive."""
        return MediumDone(vm, number)

    def close(self) -> None:
        """Takes no more calls."""
