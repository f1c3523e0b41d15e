# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The installer of the demo component, run below a directory of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lab import paths

INSTALLER = paths.SOURCES / "component" / "install.sh"


def install(root: Path, version: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GUEST_TOOLS_ROOT": str(root), "ISOLIFT_VERSION": version}
    return subprocess.run(
        ["sh", str(INSTALLER)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The component's state directory in a guest that has 1.0.0."""
    directory = tmp_path / "var/lib/guest-tools"
    directory.mkdir(parents=True)
    (directory / "version").write_text("1.0.0\n")
    return directory


def test_installs_the_version_it_is_told(tmp_path: Path, state: Path) -> None:
    assert install(tmp_path, "2.0.0").returncode == 0
    assert (state / "version").read_text() == "2.0.0\n"
    assert (tmp_path / "opt/guest-tools/guest-tools.txt").is_file()


def test_counts_its_installations(tmp_path: Path, state: Path) -> None:
    for version in ("2.0.0", "2.1.0"):
        install(tmp_path, version)
    assert (state / "installs").read_text().split() == ["2.0.0", "2.1.0"]


def test_fails_and_changes_nothing_where_it_is_told_to_fail(tmp_path: Path, state: Path) -> None:
    (state / "fail-install").touch()
    done = install(tmp_path, "2.0.0")
    assert done.returncode == 1 and "fail-install" in done.stderr
    assert (state / "version").read_text() == "1.0.0\n"
    assert not (tmp_path / "opt").exists()
