# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One command at a time may change the lab's common parts."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from .waiting import wait_until


@contextlib.contextmanager
def locked(path: Path, *, timeout: float = 600.0) -> Iterator[None]:
    """Hold the lock file ``path``; the kernel frees it if this process dies.

    :raise LabError: another process held it for longer than ``timeout`` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:

        def is_ours() -> bool:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        wait_until(is_ours, what=f"another lab command to let go of {path}", timeout=timeout, every=0.2)
        yield
