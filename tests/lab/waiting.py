# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from .errors import LabError


def wait_until(condition: Callable[[], bool], *, what: str, timeout: float, every: float = 0.1) -> None:
    """Return once ``condition()`` is true; look again each ``every`` seconds.

    :raise LabError: ``timeout`` seconds passed first; ``what`` says what was waited for.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(every)
