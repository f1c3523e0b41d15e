# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of this guest, as a request carries them for the controller's conditions."""

from __future__ import annotations

import os
from pathlib import Path

from . import __version__
from .bounds import clip
from .clock import elapsed

_OS_RELEASE = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
_LOGIND = Path("/run/systemd/sessions")
_UTMP = Path("/run/utmp")
_UTMP_SIZES = (384, 400)  # a record's bytes: x86-64 and most others; aarch64
_USER_PROCESS = 7


def gather(work_dir: Path) -> dict[str, str | int]:
    """The facts by name. Sizes are in bytes, times in seconds; ``free_bytes`` is what ``work_dir`` can take."""
    release = _os_release()
    kernel = os.uname()
    return {
        "os_id": clip(release.get("ID", ""), 256),
        "os_version": clip(release.get("VERSION_ID", ""), 256),
        "kernel": clip(kernel.release, 256),
        "arch": clip(kernel.machine, 256),
        "free_bytes": free_bytes(work_dir),
        "sessions": _sessions(),
        "uptime_s": int(elapsed()),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "agent_version": __version__,
    }


def platform() -> dict[str, str]:
    """What a manifest's platforms are matched against."""
    release = _os_release()
    return {
        "id": release.get("ID", ""),
        "version_id": release.get("VERSION_ID", ""),
        "arch": os.uname().machine,
    }


def free_bytes(path: Path) -> int:
    """Bytes free for us on the filesystem that holds ``path``, or will hold it."""
    while not path.exists():
        path = path.parent
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def _os_release() -> dict[str, str]:
    """The keys of os-release; empty where the guest has none."""
    for path in _OS_RELEASE:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue
        pairs = (
            line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#")
        )
        return {key.strip(): value.strip().strip("\"'") for key, _equals, value in pairs}
    return {}


def _sessions() -> int:
    """How many sessions users have, by logind or, where there is none, by utmp."""
    if _LOGIND.is_dir():
        return sum(_is_user_session(path) for path in _LOGIND.iterdir() if path.suffix != ".ref")
    try:
        data = _UTMP.read_bytes()
    except FileNotFoundError:
        return 0
    size = next((size for size in _UTMP_SIZES if len(data) % size == 0), _UTMP_SIZES[0])
    kinds = (int.from_bytes(data[start : start + 2], "little") for start in range(0, len(data), size))
    return sum(kind == _USER_PROCESS for kind in kinds)


def _is_user_session(path: Path) -> bool:
    try:
        return "CLASS=user\n" in path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:  # it has just ended
        return False
