# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount and unmount; never delete through a mount."""

from __future__ import annotations

import shutil
from pathlib import Path

from .errors import LabError
from .shell import run


def mounts_below(directory: Path) -> list[Path]:
    """The mount points at or below ``directory``, the innermost first."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(line.split()[4].encode().decode("unicode_escape"))
        if point == directory or directory in point.parents:
            points.append(point)
    return list(reversed(points))


def mount_tmpfs(point: Path, *, mebibytes: int) -> None:
    """Mount a file system in memory, which may take up to ``mebibytes``."""
    point.mkdir(parents=True, exist_ok=True)
    run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=755", "isolift-lab", point])


def mount_overlay(point: Path, *, lower: Path, upper: Path, work: Path) -> None:
    """Mount ``upper`` over the read-only ``lower`` at ``point``."""
    for directory in (point, upper, work):
        directory.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    run(["mount", "-t", "overlay", "-o", options, "isolift-lab", point])


def unmount_below(directory: Path) -> None:
    """Unmount everything at or below ``directory``."""
    for point in mounts_below(directory):
        run(["umount", point])


def remove_tree(directory: Path) -> None:
    """Delete ``directory`` if it exists.

    :raise LabError: something is mounted below it, so that deleting would reach elsewhere.
    """
    if not directory.exists():
        return
    points = mounts_below(directory)
    if points:
        raise LabError(f"{points[0]} is still mounted: unmount it, then try again")
    shutil.rmtree(directory)
