# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Be the host's end of a virtio-serial port: make a terminal appear at PORT, and write to COPY what the agent sends."""

from __future__ import annotations

import os
import pty
import sys
import tty
from pathlib import Path


def main(port: Path, copy: Path) -> None:
    """Copy until killed."""
    host, guest = pty.openpty()
    tty.setraw(guest)
    port.parent.mkdir(parents=True, exist_ok=True)
    with copy.open("wb", buffering=0) as file:
        port.symlink_to(os.ttyname(guest))
        while True:
            file.write(os.read(host, 65536))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
