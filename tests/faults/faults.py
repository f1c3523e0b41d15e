# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the matrix of faults: ``make faults``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # The directory above holds the packages ``faults`` and ``lab``; this file's own directory would hide them.
    tests = Path(__file__).resolve().parents[1]
    sys.path[0] = str(tests)
    sys.path.append(str(tests.parent / ".cache" / "collections"))
    from faults.matrix import main

    sys.exit(main())
