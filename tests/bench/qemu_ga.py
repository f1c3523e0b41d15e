# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent of QEMU's own making, from Debian's package, as a tree to be put into a guest."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from integration.compute_host import ComputeHost

from lab import debs, paths

PORT = "org.isolift.bench.0"
"""Another port than the usual one, to which libvirt itself would connect."""

PROGRAM = "/opt/qemu-ga/qemu-ga"
COMMAND = f"env LD_LIBRARY_PATH=/opt/qemu-ga {PROGRAM} -m virtio-serial -p /dev/virtio-ports/{PORT} -t /run"


def below(root: Path) -> Path:
    """Where `install` puts the program."""
    return root / PROGRAM.lstrip("/")


def listening(program: str) -> str:
    """A command for start_time.py: the agent on a socket, for want of a port, which is there once it has started."""
    return f"{program} -m unix-listen -p {{ready}} -t /run"


def install(host: ComputeHost, root: Path) -> None:
    """Put it and its libraries, as ``host`` has them, below ``root``.

    :raise LabError: the package cannot be downloaded.
    """
    target = below(root)
    target.parent.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=paths.RUN) as scratch:
        unpacked = Path(scratch, "unpacked")
        debs.unpack(["qemu-guest-agent"], unpacked)
        shutil.copy(unpacked / "usr/sbin/qemu-ga", target)
    there = paths.on_node(target)
    host.run(
        f"ldd {there} | sed -n 's/.*=> \\(.*\\) (.*/\\1/p' | xargs cp --dereference --target-directory={there.parent}"
    )
