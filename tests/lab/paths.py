# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps its files: everything is below ``.cache/lab`` of the checkout.

``run`` and ``hosts`` belong to the running lab and vanish with it; the rest is a cache that outlives it.
"""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).resolve().parent

COLLECTIONS = REPOSITORY / ".cache" / "collections"
CACHE = REPOSITORY / ".cache" / "lab"
KEYS = CACHE / "keys"
LOCK = CACHE / "lock"
INVENTORY = CACHE / "inventory.yml"
HOSTS = CACHE / "hosts"

RUN = CACHE / "run"
MACHINES = RUN / "machines"
BRIDGE_OWNER = RUN / "bridge"

# The directory that every node sees at the same path, so that a guest can move from one to the other.
SHARED = RUN / "shared"
BOOT = SHARED / "boot"
DISKS = SHARED / "disks"
DOMAINS = SHARED / "domains"
LOGS = SHARED / "logs"
SHARED_ON_NODE = Path("/srv/isolift-lab")


def on_node(path: Path) -> Path:
    """The path at which a node sees ``path``, which must be below the shared directory."""
    return SHARED_ON_NODE / path.relative_to(SHARED)
