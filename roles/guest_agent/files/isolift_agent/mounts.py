# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is mounted where, by the kernel's own list."""

from __future__ import annotations

import os
import re
from pathlib import Path

_LIST = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(rb"\\([0-7]{3})")


def mounted(path: Path) -> bool:
    """Whether a filesystem is mounted at ``path`` itself."""
    return os.fsencode(os.path.realpath(path)) in _places()


def below(path: Path) -> list[str]:
    """Where filesystems are mounted at ``path`` or below it, in the order in which they can be unmounted."""
    wanted = os.fsencode(os.path.realpath(path))
    found = [place for place in _places() if place == wanted or place.startswith(wanted + b"/")]
    return [os.fsdecode(place) for place in sorted(found, key=len, reverse=True)]


def _places() -> list[bytes]:
    # Only these two separate: other white space may be part of a path as it is.
    lines = filter(None, _LIST.read_bytes().split(b"\n"))
    return [_ESCAPED.sub(_byte, line.split(b" ")[4]) for line in lines]


def _byte(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape.group(1), 8)])
