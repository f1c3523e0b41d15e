# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reach a host of the lab as Ansible does: with the lab's key, knowing the host's key."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path

from . import keys, paths
from .cast import Node
from .shell import run

KNOWN_HOSTS = paths.RUN / "known_hosts"


def options(known_hosts: Path = KNOWN_HOSTS) -> list[str]:
    """The options of ssh that keep this machine's own ssh files out of it."""
    pairs = {
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlgorithms": "ssh-ed25519",
        "IdentitiesOnly": "yes",
        "ConnectTimeout": "10",
    }
    return [word for name, value in pairs.items() for word in ("-o", f"{name}={value}")]


def write_known_hosts(nodes: Iterable[Node], target: Path = KNOWN_HOSTS) -> None:
    """Write the host keys of ``nodes`` to ``target``."""
    lines = []
    for node in nodes:
        kind, key = keys.host_key(node.name).with_suffix(".pub").read_text().split()[:2]
        lines.append(f"{node.address} {kind} {key}\n")
    target.write_text("".join(lines))


def run_on(node: Node, command: str, *, timeout: float = 60.0, stdin: str | None = None) -> str:
    """Run the shell ``command`` on ``node`` as root and return its output.

    :raise LabError: it failed, or took longer than ``timeout`` seconds.
    """
    ssh = ["ssh", "-F", "none", "-i", str(keys.SSH_KEY), *options(), f"root@{node.address}"]
    return run([*ssh, command], timeout=timeout, stdin=stdin)


def answers(node: Node) -> bool:
    """Whether an ssh server on ``node`` greets."""
    try:
        with socket.create_connection((node.address, 22), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
