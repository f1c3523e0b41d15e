# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress lines with the seconds since the command began."""

from __future__ import annotations

import sys
import threading
import time


class Progress:
    """Print one line per step, from any thread."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lock = threading.Lock()

    @property
    def elapsed(self) -> float:
        """Seconds since this object was made."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """Print ``text`` behind the elapsed seconds, at once."""
        with self._lock:
            print(f"[{self.elapsed:6.1f}s] {text}", flush=True, file=sys.stdout)
