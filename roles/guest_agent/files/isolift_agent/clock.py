# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's time, as told by the host and counted on from there. The guest's own wall clock decides nothing."""

from __future__ import annotations

import time


def elapsed() -> float:
    """Seconds since the guest booted, time asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class HostClock:
    """What the host's clock shows. It is not known before `set` was called."""

    def __init__(self) -> None:
        self._offset: float | None = None

    def set(self, now: float) -> None:
        """The host's clock shows ``now`` (Unix seconds) at this moment."""
        self._offset = now - elapsed()

    def now(self) -> float | None:
        """The host's time in Unix seconds; None if the host has not told it yet."""
        return None if self._offset is None else self._offset + elapsed()
