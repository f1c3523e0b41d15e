# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of the lab: systemd in namespaces, on an overlay that vanishes with it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

from . import cgroups, mounts, network, node_files, paths, processes, ssh
from .cast import Node
from .errors import LabError
from .waiting import wait_until

_TMPFS_MIB = 2048
_BOOT_SECONDS = 60.0
_DEATH_SECONDS = 30.0


class Machine:
    """The namespaces, mounts and files of one host; ``node`` says which."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._directory = paths.MACHINES / node.name
        self._memory = self._directory / "memory"
        self._root = self._directory / "root"
        self._address_file = self._directory / "address"
        self._log = self._directory / "console.log"
        self._cgroup = f"isolift-lab-{node.name}"

    @classmethod
    def known(cls) -> list[Machine]:
        """Every host that this checkout has begun to start and not taken down, working or not."""
        if not paths.MACHINES.is_dir():
            return []
        found = []
        for directory in sorted(paths.MACHINES.iterdir()):
            address = directory / "address"
            found.append(cls(Node(directory.name, address.read_text() if address.exists() else "")))
        return found

    def is_up(self) -> bool:
        """Whether the host runs and its ssh server answers."""
        return bool(self._supervisors()) and ssh.answers(self.node)

    def boot(self, rootfs: Path, everybody: Iterable[Node]) -> None:
        """Start the host afresh and return when its ssh server answers; ``everybody`` is in its hosts file.

        :raise LabError: it does not come up; the text ends with the last lines of its console.
        """
        self.destroy()
        self._directory.mkdir(parents=True)
        self._address_file.write_text(self.node.address)
        mounts.mount_tmpfs(self._memory, mebibytes=_TMPFS_MIB)
        mounts.mount_overlay(
            self._root, lower=rootfs, upper=self._memory / "upper", work=self._memory / "work"
        )
        node_files.write(self._root, self.node, everybody)
        process = self._start()

        def greets() -> bool:
            if process.poll() is not None:
                raise LabError(f"systemd-nspawn of {self.node.name} ended with status {process.returncode}")
            return ssh.answers(self.node)

        try:
            wait_until(greets, what=f"ssh on {self.node.name}", timeout=_BOOT_SECONDS)
        except LabError as error:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
            raise LabError(f"{error}; its console ends with:\n{tail}") from error

    def destroy(self) -> None:
        """Kill the host and remove all of it; what is missing already does not matter.

        :raise LabError: its processes do not end, or something of it cannot be removed.
        """
        for supervisor in self._supervisors():
            # The first process of the host takes all others with it, and systemd-nspawn then cleans up.
            children = _children(supervisor)
            for child in children:
                _send(child, signal.SIGKILL)
            if not children:
                _send(supervisor, signal.SIGTERM)
        wait_until(
            lambda: not self._supervisors(), what=f"the end of {self.node.name}", timeout=_DEATH_SECONDS
        )
        if self._directory.exists():
            mounts.unmount_below(self._directory)
            mounts.remove_tree(self._directory)
        cgroups.remove(self._cgroup)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [
            *self._in_own_cgroup(),
            *("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"),
            *("--machine", self.node.name, "--directory", str(self._root)),
            *("--network-bridge", network.BRIDGE, "--capability=all"),
            # Nothing of this machine's: no journal directory, no resolver, no time zone.
            *("--link-journal=no", "--resolv-conf=off", "--timezone=off"),
            f"--bind={paths.SHARED}:{paths.SHARED_ON_NODE}",
        ]
        with self._log.open("wb") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _in_own_cgroup(self) -> list[str]:
        """The words that make the command behind them run in a control group of its own."""
        if Path("/run/systemd/system").is_dir():
            scope = ["systemd-run", "--scope", "--quiet", "--collect", "-p", "Delegate=yes"]
            return [*scope, f"--unit={self._cgroup}", "--"]
        groups = [shlex.quote(str(group)) for group in cgroups.create(self._cgroup)]
        joins = [f"echo $$ > {group}/cgroup.procs" for group in groups]
        return ["sh", "-euc", "; ".join([*joins, 'exec "$@"']), "sh"]

    def _supervisors(self) -> list[int]:
        """The process of systemd-nspawn for this host (and, while it starts, its forks), found by its arguments.

        No file holds its ID: such a file is missing after a crash at the wrong moment.
        """
        return [pid for pid, words in processes.ours() if str(self._root) in words]


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
