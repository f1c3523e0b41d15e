# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command and count what it and everything that it started used: ``python3 accounted.py FILE COMMAND…``.

Processes that their parents left behind become children of this one, so that the kernel adds them up here. The seconds of processor time are
written to the file once all have ended; the exit status is the command's.
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """The command line."""
    file, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    status = subprocess.run(command, check=False).returncode
    _wait_for_all()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    Path(file).write_text(str(usage.ru_utime + usage.ru_stime))
    return status


def _wait_for_all() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    sys.exit(main())
