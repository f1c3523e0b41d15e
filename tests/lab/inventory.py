# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible inventories of the running lab. JSON is YAML, so nothing but the standard library is needed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from . import keys, settings, ssh
from .cast import NODES, Node

_PYTHON_ON_NODE = "/usr/bin/python3"


def host_variables(node: Node, known_hosts: Path = ssh.KNOWN_HOSTS) -> dict[str, object]:
    """How Ansible reaches ``node``."""
    return {
        "ansible_host": node.address,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(keys.SSH_KEY),
        "ansible_ssh_common_args": shlex.join(["-F", "none", *ssh.options(known_hosts)]),
        "ansible_ssh_pipelining": True,
        "ansible_python_interpreter": _PYTHON_ON_NODE,
    }


def lab_inventory(nodes: Sequence[Node] = NODES) -> dict[str, object]:
    """The inventory of the compute nodes, with the settings of an operator; the broker is on the first."""
    return {
        "all": {"vars": settings.variables()},
        "compute_nodes": {"hosts": {node.name: host_variables(node) for node in nodes}},
        "broker": {"hosts": {nodes[0].name: {}}},
    }


def host_inventory(node: Node, known_hosts: Path) -> dict[str, object]:
    """The inventory of one extra host."""
    return {"all": {"hosts": {node.name: host_variables(node, known_hosts)}}}


def write(inventory: dict[str, object], target: Path) -> None:
    """Write ``inventory`` to ``target``, whole or not at all: Ansible may read the directory, in which it ignores hidden files."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}")
    partial.write_text(json.dumps(inventory, indent=2) + "\n")
    partial.replace(target)
