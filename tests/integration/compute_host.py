# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compute nodes for tests: systemd hosts with libvirt, reached as Ansible reaches them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

from lab import keys, paths, ssh
from lab.cast import Node
from lab.shell import run as run_here
from lab.waiting import wait_until


class ComputeHost:
    """A compute node that is up; to be used as a context manager, which holds the connection to it."""

    def __init__(self, node: Node, inventory: Path, known_hosts: Path) -> None:
        self.name = node.name
        self.address = node.address
        self.inventory = inventory
        self._ssh = ["ssh", "-F", "none", "-i", str(keys.SSH_KEY), *ssh.options(known_hosts)]
        self._stack = ExitStack()

    def __enter__(self) -> ComputeHost:
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="isolift-"))
        self._ssh += ["-o", f"ControlPath={directory}/ssh"]
        # The connection that all others share. It must not inherit a pipe that somebody reads to its end.
        master = subprocess.Popen(
            [*self._ssh, "-M", "-N", f"root@{self.address}"], stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
        )
        self._stack.callback(self._disconnect, master)
        wait_until(Path(directory, "ssh").exists, what=f"the connection to {self.name}", timeout=20)
        self.run("systemctl start libvirtd.service")
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def run(self, command: str, *, stdin: str = "", timeout: float = 60.0) -> str:
        """Runs a shell command on the host as root and returns its output.

        :raise LabError: it failed or took too long.
        """
        return run_here([*self._ssh, f"root@{self.address}", command], stdin=stdin, timeout=timeout)

    def module(self, name: str, check: bool = False, **arguments: Any) -> dict[str, Any]:
        """Runs a module of this collection through Ansible and returns its result, whether it failed or not.

        ``failed`` is always in it, and ``shown`` holds what was printed besides, such as the diff.
        """
        command = ["ansible", self.name, "-i", str(self.inventory), "-m", f"isolift.vm.{name}", "--diff"]
        command += ["-a", json.dumps(arguments)] if arguments else []
        done = self._ansible([*command, "--check"] if check else command)
        before, arrow, result = done.stdout.partition(" => ")
        assert arrow, done.stdout + done.stderr
        parsed, end = json.JSONDecoder().raw_decode(result)
        return {**parsed, "failed": "FAILED" in before, "shown": before + result[end:]}

    def playbook(self, path: Path, inventories: Sequence[Path], variables: Mapping[str, Any]) -> None:
        """Runs a playbook.

        :raise AssertionError: it failed.
        """
        sources = [word for inventory in inventories for word in ("-i", str(inventory))]
        done = self._ansible(["ansible-playbook", *sources, str(path), "-e", json.dumps(variables)])
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]

    @contextmanager
    def forwarded(self, there: str, here: Path) -> Iterator[None]:
        """Brings connections to the unix socket ``there`` on the host to the unix socket ``here``."""
        forwarding = ["-R", f"{there}:{here}"]
        self._control("forward", *forwarding)
        try:
            yield
        finally:
            self._control("cancel", *forwarding)
            self.run(f"rm -f {there}")

    def wait_for(self, command: str, *, what: str, timeout: float = 20.0) -> None:
        """Waits until a shell command succeeds on the host.

        :raise LabError: it did not in time.
        """
        script = f"until {command} > /dev/null 2>&1; do sleep 0.1; done"
        self.run(
            f"timeout {timeout} sh -c {shlex.quote(script)} || {{ echo 'waited in vain for {what}' >&2; exit 1; }}",
            timeout=timeout + 20,
        )

    def _disconnect(self, master: subprocess.Popen[bytes]) -> None:
        # Not by a signal: one that arrives just before ssh waits for its next event is not seen before that event.
        if master.poll() is None:
            self._control("exit")
        master.wait(10)

    def _control(self, command: str, *options: str) -> None:
        run_here([*self._ssh, "-O", command, *options, f"root@{self.address}"])

    def _ansible(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        programs = Path(sys.executable).parent
        environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        }
        return subprocess.run(
            command,
            cwd=paths.REPOSITORY,
            env=environment,
            stdin=DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


@contextmanager
def own_host(name: str) -> Iterator[ComputeHost]:
    """A host that is started for the tests and taken down after them, on which everything may be broken."""
    lab: list[str | Path] = [sys.executable, paths.SOURCES / "lab.py", "host"]
    run_here([*lab, "up", name], timeout=300.0)
    try:
        inventory = paths.HOSTS / f"{name}.yml"
        address = json.loads(inventory.read_text())["all"]["hosts"][name]["ansible_host"]
        with ComputeHost(Node(name, address), inventory, paths.RUN / f"known_hosts.{name}") as host:
            yield host
    finally:
        run_here([*lab, "down", name], timeout=300.0)


def lab_node(node: Node) -> ComputeHost:
    """A compute node of the lab, whose guests must be as before when the test is over."""
    return ComputeHost(node, paths.INVENTORY, ssh.KNOWN_HOSTS)
