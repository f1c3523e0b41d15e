# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command and say clearly how it failed."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import LabError

_TAIL_LINES = 25


def run(
    command: Sequence[str | Path],
    *,
    timeout: float = 60.0,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run ``command`` for at most ``timeout`` seconds and return what it wrote to stdout.

    :raise LabError: it is not installed, took too long, or its exit status is not 0.
    """
    words = [str(word) for word in command]
    shown = shlex.join(words[:6]) + (" …" if len(words) > 6 else "")
    try:
        done = subprocess.run(
            words,
            input="" if stdin is None else stdin,
            cwd=cwd,
            env=None if env is None else {**os.environ, **env},
            timeout=timeout,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"{words[0]} is not installed: see tests/lab/packages.txt") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{shown}` did not end within {timeout:.0f} s") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_TAIL_LINES:])
        raise LabError(f"`{shown}` failed with status {done.returncode}:\n{tail}")
    return done.stdout
