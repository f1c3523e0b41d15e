# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A control group of its own for each host.

systemd in a host manages the whole control group that it was started in. Two of them in one group would remove each
other's services' groups, and units would fail to start. Where systemd rules this machine as well, it makes the
group (``systemd-run --scope``); elsewhere this module does.
"""

from __future__ import annotations

import os
from pathlib import Path

# Joining a group of this hierarchy needs its processors and memory nodes set first, and systemd does not use it.
_UNUSED = "cpuset"


def hierarchies() -> list[Path]:
    """Where the control group hierarchies of this machine are mounted for writing."""
    points = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _unused, point, kind, options = line.split()[:4]
        words = options.split(",")
        if kind in ("cgroup", "cgroup2") and "rw" in words and _UNUSED not in words:
            points.append(Path(point))
    return points


def create(name: str) -> list[Path]:
    """Make the group ``name`` in every hierarchy; a process joins by writing its ID into each ``cgroup.procs``."""
    groups = [point / name for point in hierarchies()]
    for group in groups:
        group.mkdir(exist_ok=True)
    return groups


def remove(name: str) -> None:
    """Remove the group ``name`` and all below it; its processes must have ended."""
    for point in hierarchies():
        if (point / name).is_dir():
            for directory, _unused, _unused in os.walk(point / name, topdown=False):
                os.rmdir(directory)
