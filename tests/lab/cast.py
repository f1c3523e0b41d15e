# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who plays in the lab: its nodes and their guests, as data."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass

_NAMES = uuid.UUID("8d0c5b1e-5d3c-5c0f-9a53-2d1f0f6a7b10")

ROOMY_DISK_MIB = 384
TIGHT_DISK_MIB = 48
GUEST_MEMORY_MIB = 192


def stable_uuid(name: str) -> uuid.UUID:
    """The UUID that ``name`` (of a node or a domain) has in every run of the lab."""
    return uuid.uuid5(_NAMES, name)


@dataclass(frozen=True)
class Node:
    """A systemd host of the lab; the lab's own two are compute nodes with guests."""

    name: str
    address: str

    @property
    def uuid(self) -> uuid.UUID:
        return stable_uuid(self.name)


class Ending(enum.Enum):
    """The outcome that the demo's upgrade to 2.0.0 must have."""

    SUCCEEDED = "succeeded"
    UP_TO_DATE = "up_to_date"
    DECLINED = "declined"
    FAILED = "failed"
    INELIGIBLE = "ineligible"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Guest:
    """A domain with a guest in it, and what is special about it."""

    name: str
    node: str
    part: str
    ending: Ending
    version: str = "1.0.0"
    disk_mib: int = ROOMY_DISK_MIB
    has_cdrom: bool = True
    is_running: bool = True
    user_declines: bool = False
    installer_fails: bool = False

    @property
    def uuid(self) -> uuid.UUID:
        return stable_uuid(self.name)


NODES = (Node("node1", "10.99.0.11"), Node("node2", "10.99.0.12"))

GUESTS = (
    Guest("desk-01", "node1", "is upgraded", Ending.SUCCEEDED),
    Guest("desk-02", "node1", "already has the target version", Ending.UP_TO_DATE, version="2.0.0"),
    Guest("desk-03", "node1", "its user declines", Ending.DECLINED, user_declines=True),
    Guest("desk-04", "node1", "its domain has no CD-ROM drive", Ending.INELIGIBLE, has_cdrom=False),
    Guest("desk-05", "node2", "is upgraded", Ending.SUCCEEDED),
    Guest("desk-06", "node2", "its installer fails", Ending.FAILED, installer_fails=True),
    Guest("desk-07", "node2", "has too little free space", Ending.INELIGIBLE, disk_mib=TIGHT_DISK_MIB),
    Guest("desk-08", "node2", "is powered off", Ending.UNREACHABLE, is_running=False),
)

CELLS = tuple(
    Guest(f"cell-{number:02d}", NODES[number % 2].name, "stands in a matrix of faults", Ending.SUCCEEDED)
    for number in range(1, 11)
)
"""Ten guests that are all alike, for tests that break something at ten moments at once."""


def node_of(name: str) -> Node:
    """The node called ``name``.

    :raise KeyError: there is none.
    """
    return {node.name: node for node in NODES}[name]
