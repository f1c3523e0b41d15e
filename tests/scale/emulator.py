# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The emulated VMs and their relays: started, brought up to the last session, and stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lab import paths, settings
from lab.waiting import wait_until
from scale import fleet, preflight
from scale.broker_host import PORT, RELAY, VHOST, BrokerHost

_SECONDS_BESIDES = 60.0
_SECONDS_PER_VM = 0.02
_STOP_S = 60.0
_PACKAGES = (
    "tests",
    "roles/compute_relay/files",
    "roles/guest_agent/files",
    ".cache/src",
)


def environment() -> dict[str, str]:
    """The environment of a Python process that imports the product from the checkout."""
    folders = [str(paths.REPOSITORY / package) for package in _PACKAGES]
    return {**os.environ, "PYTHONPATH": ":".join(folders)}


def spawn(module: str, *arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start a module of this package in a process of its own."""
    command = [sys.executable, "-m", f"scale.{module}", *map(str, arguments)]
    return subprocess.Popen(command, env=environment(), **options)


class Emulator:
    """``vms`` VMs and their relays, connected to a broker; to be used as a context manager.

    :param per_node: how many of them a node has.
    :param directories: by VM name, if their components are real (see targets.py).
    :ivar nodes: the nodes with their VMs.
    :ivar ramp_up_s: how long it took until every VM had a session and was bound.
    """

    def __init__(
        self, vms: int, per_node: int, broker: BrokerHost, directories: Mapping[str, Path] | None = None
    ) -> None:
        self._vms = vms
        self._per_node = per_node
        self._directories = directories
        self._broker = broker
        self._stack = ExitStack()
        self._guests: list[subprocess.Popen[bytes]] = []
        self._relays: list[subprocess.Popen[bytes]] = []
        self.nodes: list[fleet.Node] = []
        self.ramp_up_s = 0.0

    @property
    def guest_pids(self) -> list[int]:
        """The processes of the emulated VMs."""
        return [process.pid for process in self._guests]

    @property
    def relay_pids(self) -> list[int]:
        """The processes of the relays."""
        return [process.pid for process in self._relays]

    def __enter__(self) -> Emulator:
        preflight.check(self._vms)
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def deeds(self) -> dict[str, int]:
        """``sessions``: how many agents have one; the rest is what the guests did (see guest.py)."""
        sums: dict[str, int] = {}
        for process in self._guests:
            assert process.stdin and process.stdout
            process.stdin.write(b"\n")
            process.stdin.flush()
            for name, count in json.loads(process.stdout.readline()).items():
                sums[name] = sums.get(name, 0) + count
        return sums

    def _start(self, stack: ExitStack) -> None:
        # Short, because the path of a unix socket may have no more than 107 bytes.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isolift-scale-")))
        self.nodes = fleet.fleet(self._vms, directory / "vm", self._directories, self._per_node)
        shards = list(fleet.shards(self.nodes))
        for number, shard in enumerate(shards):
            file = directory / f"guests-{number}.json"
            fleet.save(shard, file)
            self._start_guests(stack, file)
        began = time.monotonic()
        limit = _SECONDS_BESIDES + self._vms * _SECONDS_PER_VM
        for shard in shards:
            self._start_relays(stack, [self._configure(node, directory) for node in shard])
        wait_until(self._is_connected, what=f"the sessions of {self._vms} agents", timeout=limit, every=0.5)
        self._broker.wait_for_routes(self._vms, limit)
        self.ramp_up_s = time.monotonic() - began
        for process in (*self._guests, *self._relays):
            process.send_signal(signal.SIGUSR1)

    def _start_guests(self, stack: ExitStack, file: Path) -> None:
        process = spawn(
            "guests", file, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdin and process.stdout
        stack.callback(process.wait, _STOP_S)
        stack.callback(process.stdin.close)
        self._guests.append(process)
        assert process.stdout.readline() == b"listening\n", "a process of emulated VMs did not start"

    def _start_relays(self, stack: ExitStack, configs: list[Path]) -> None:
        process = spawn("relays", *configs)
        stack.callback(process.wait, _STOP_S)
        stack.callback(process.terminate)
        self._relays.append(process)

    def _configure(self, node: fleet.Node, directory: Path) -> Path:
        """Write the relay's configuration for ``node``; return the file."""
        password = directory / "password"
        password.write_text(settings.RELAY_PASSWORD)
        domains = directory / f"{node.name}-domains.json"
        fleet.save([node], domains)
        broker = {
            "host": self._broker.address,
            "port": PORT,
            "vhost": VHOST,
            "username": RELAY,
            "password_file": str(password),
        }
        config = directory / f"{node.name}.json"
        config.write_text(json.dumps({"node": node.name, "broker": broker, "libvirt_uri": f"file:{domains}"}))
        return config

    def _is_connected(self) -> bool:
        for process in self._relays:
            assert process.poll() is None, "a process of relays ended"
        return self.deeds()["sessions"] == self._vms


def selection(nodes: list[fleet.Node]) -> list[dict[str, str]]:
    """All VMs of the nodes, as upgrade_start takes them."""
    return [{"vm": vm.uuid, "name": vm.name, "node": node.name} for node in nodes for vm in node.vms]
