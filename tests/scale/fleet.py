# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which virtual machines are emulated, on which nodes, and in which process each node is."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

VMS_PER_NODE = 40
VMS_PER_PROCESS = 5000
"""How many VMs share a process; a process of agents has two descriptors for each."""

_NAMES = uuid.UUID("3f0a0d0e-6a57-5b0b-8a41-6f5f4f3f5c21")


@dataclass(frozen=True)
class Vm:
    """One emulated VM; ``path`` is the socket of its agent's port.

    ``directory`` is where it keeps its component (see targets.py), empty if it only pretends to have one.
    """

    uuid: str
    name: str
    path: str
    directory: str = ""


@dataclass(frozen=True)
class Node:
    """One emulated compute node."""

    name: str
    vms: tuple[Vm, ...]


def fleet(
    vms: int, sockets: Path, directories: Mapping[str, Path] | None = None, per_node: int = VMS_PER_NODE
) -> list[Node]:
    """``vms`` VMs on as many nodes as they need, the same in every run; their sockets are below ``sockets``.

    :param directories: by VM name, if their components are real.
    """
    nodes = []
    for first in range(0, vms, per_node):
        node = f"node{first // per_node + 1:04d}"
        numbers = range(first, min(first + per_node, vms))
        nodes.append(Node(node, tuple(_vm(number, sockets / node, directories or {}) for number in numbers)))
    return nodes


def _vm(number: int, sockets: Path, directories: Mapping[str, Path]) -> Vm:
    name = f"vm{number + 1:06d}"
    return Vm(str(uuid.uuid5(_NAMES, name)), name, str(sockets / name), str(directories.get(name, "")))


def shards(nodes: Sequence[Node], most_vms: int = VMS_PER_PROCESS) -> Iterator[list[Node]]:
    """The nodes in groups of at most ``most_vms`` VMs; a node is never divided."""
    shard: list[Node] = []
    for node in nodes:
        if shard and sum(len(one.vms) for one in [*shard, node]) > most_vms:
            yield shard
            shard = []
        shard.append(node)
    if shard:
        yield shard


def save(nodes: Sequence[Node], path: Path) -> None:
    """Write the nodes to a file, for `load` in another process."""
    path.write_text(json.dumps([asdict(node) for node in nodes]))


def load(path: Path) -> list[Node]:
    """The nodes that `save` wrote."""
    return [
        Node(node["name"], tuple(Vm(**vm) for vm in node["vms"])) for node in json.loads(path.read_text())
    ]
