# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What processes have used so far: ``python3 snapshot.py PID...``, on a node or in a guest, prints it as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def of(pid: int) -> dict[str, float]:
    """What one process has used.

    ``cpu_s`` is processor time, ended threads included; ``sleeps`` is how often a thread went to sleep, and was woken;
    ``resident_kib`` and ``peak_kib`` are its memory now and at most.

    :raise FileNotFoundError: there is no such process.
    """
    process = Path(f"/proc/{pid}")
    threads = [_status(thread) for thread in process.glob("task/*/status")]
    status = _status(process / "status")
    return {
        "cpu_s": time.clock_gettime(
            ~pid << 3 | 2
        ),  # the kernel's clock of that process, exact where ticks are not
        "sleeps": sum(int(thread["voluntary_ctxt_switches"]) for thread in threads),
        "resident_kib": int(status["VmRSS"].split()[0]),
        "peak_kib": int(status["VmHWM"].split()[0]),
    }


def _status(path: Path) -> dict[str, str]:
    return dict(line.split(":", 1) for line in path.read_text().splitlines())


def take(pids: list[int]) -> dict[str, object]:
    """When it is, and what the processes have used.

    :raise FileNotFoundError: there is no such process.
    """
    return {"at": time.monotonic(), "processes": {str(pid): of(pid) for pid in pids}}


if __name__ == "__main__":
    print(json.dumps(take([int(pid) for pid in sys.argv[1:]])))
