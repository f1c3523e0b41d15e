# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines on standard error. The standard logging package would take a twentieth of an idle agent's memory."""

from __future__ import annotations

import sys


def info(text: str) -> None:
    """Say what happened."""
    _write("INFO", text)


def warning(text: str) -> None:
    """Say what went wrong and will be tried again."""
    _write("WARNING", text)


def error(text: str) -> None:
    """Say what went wrong and needs somebody's attention."""
    _write("ERROR", text)


def _write(level: str, text: str) -> None:
    try:
        print(f"{level} {text}", file=sys.stderr, flush=True)
    except OSError:
        pass  # whoever read our standard error is gone; the work goes on
