# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Emulated VMs that anybody can upgrade: a directory each, with the installed version and an installer."""

from __future__ import annotations

import shutil
from pathlib import Path

OLD = "1.0.0"
TARGET = "2.0.0"
PEER = Path(__file__).with_name("peer")


class Targets:
    """``count`` VMs below ``directory``, with the old version installed."""

    def __init__(self, directory: Path, count: int) -> None:
        self.parent = directory
        self.directories = {
            f"vm{number:06d}": directory / f"vm{number:06d}" for number in range(1, count + 1)
        }
        for target in self.directories.values():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(PEER / "install.sh", target)
        self.set_back()

    def set_back(self) -> None:
        """Have the old version installed again."""
        for target in self.directories.values():
            (target / "version").write_text(OLD + "\n")

    def require_upgraded(self) -> None:
        """Return if every VM has the target version.

        :raise AssertionError: one has not.
        """
        for name, target in self.directories.items():
            version = (target / "version").read_text().strip()
            assert version == TARGET, f"{name} has version {version}"
