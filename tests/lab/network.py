# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bridge that joins the lab's hosts to this machine, and to nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from . import paths
from .errors import LabError
from .shell import run

BRIDGE = "isolift0"
NETWORK = IPv4Network("10.99.0.0/24")
GATEWAY = IPv4Address("10.99.0.1")


@dataclass(frozen=True)
class Route:
    """A line of the routing table: where ``destination`` is reached."""

    destination: str
    device: str


def link_exists(name: str) -> bool:
    """Whether there is an interface of this name, whosever it is."""
    return any(link["ifname"] == name for link in json.loads(run(["ip", "-j", "link", "show"])))


def bridge_exists() -> bool:
    """Whether there is an interface with the bridge's name, whosever it is."""
    return link_exists(BRIDGE)


def overlapping_routes() -> list[Route]:
    """The routes of other interfaces that overlap with the lab's network."""
    routes = []
    for line in json.loads(run(["ip", "-j", "-4", "route", "show", "table", "all"])):
        destination = line["dst"]
        if destination == "default" or line.get("dev") == BRIDGE:
            continue
        if IPv4Network(destination, strict=False).overlaps(NETWORK):
            routes.append(Route(destination, line.get("dev", "?")))
    return routes


def ensure_bridge() -> None:
    """Make the bridge, unless this lab has made it before.

    :raise LabError: somebody else's interface has its name.
    """
    if bridge_exists():
        if not paths.BRIDGE_OWNER.exists():
            raise LabError(
                f"an interface {BRIDGE} exists that this checkout's lab did not make: "
                f"take down the other lab (or `ip link delete {BRIDGE}`)"
            )
        return
    paths.RUN.mkdir(parents=True, exist_ok=True)
    paths.BRIDGE_OWNER.touch()
    run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "address", "add", f"{GATEWAY}/{NETWORK.prefixlen}", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])


def remove_bridge() -> None:
    """Delete the bridge if this lab made it."""
    if paths.BRIDGE_OWNER.exists():
        if bridge_exists():
            run(["ip", "link", "delete", BRIDGE])
        paths.BRIDGE_OWNER.unlink()
