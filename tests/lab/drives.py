# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the CD-ROM drives of the lab's domains, as libvirt says."""

from __future__ import annotations

from . import ssh
from .cast import NODES, Guest, node_of
from .domains import DRIVE_TARGET

EMPTY = "-"


def drive_of(guest: Guest, node: str) -> str:
    """What is in the drive of the guest, which is on ``node`` now; `EMPTY` for nothing."""
    for line in ssh.run_on(node_of(node), f"virsh -q domblklist {guest.name}").splitlines():
        target, source = line.split(None, 1)
        if target == DRIVE_TARGET:
            return source.strip()
    raise AssertionError(f"{guest.name} has no drive")


def discs() -> str:
    """Every disc that is in a drive of any node's domains now, or would be at its next start."""
    script = "for d in $(virsh -q list --all --name); do virsh -q domblklist $d; virsh -q domblklist --inactive $d; done"
    lines = [line for node in NODES for line in ssh.run_on(node, script).splitlines()]
    return "\n".join(line for line in lines if ".iso" in line)
