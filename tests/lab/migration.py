# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move a running guest from one node to the other."""

from __future__ import annotations

from . import ssh
from .cast import node_of

_SECONDS = 120.0


def migrate(domain: str, source: str, target: str) -> None:
    """Migrate ``domain`` live; its definition moves with it.

    :raise LabError: libvirt refuses, or it takes too long.
    """
    # Unsafe, because libvirt cannot know that both nodes see one and the same disk through one kernel.
    options = "--live --persistent --undefinesource --unsafe"
    ssh.run_on(
        node_of(source),
        f"virsh -q migrate {options} {domain} qemu+tcp://{target}/system",
        timeout=_SECONDS,
    )
