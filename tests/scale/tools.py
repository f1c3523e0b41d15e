# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other tools to compare with, each in a virtual environment of its own among the caches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lab import paths
from scale.targets import PEER

_FOLDER = paths.REPOSITORY / ".cache" / "bench" / "tools"
_INSTALL_S = 600.0


class Unavailable(Exception):
    """The tool cannot be had here; the text says why."""


def programs(name: str) -> Path:
    """The directory with the programs of the tool that ``peer/<name>.txt`` lists, installed first if need be.

    :raises Unavailable: it cannot be installed.
    """
    requirements = PEER / f"{name}.txt"
    folder = _FOLDER / name
    installed = folder / "installed.txt"
    if not installed.exists() or installed.read_text() != requirements.read_text():
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        _run([*pip, "-r", str(requirements)])
        installed.write_text(requirements.read_text())
    return folder / "bin"


def _run(command: list[str]) -> None:
    try:
        subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_INSTALL_S, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"installing it takes more than {_INSTALL_S:.0f} s") from error
    except subprocess.CalledProcessError as error:
        raise Unavailable((error.stderr.strip().splitlines() or ["pip failed"])[-1]) from error
