# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The running lab, for tests that upgrade real guests through the playbooks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from e2e import inventories

from lab import paths, plays


@pytest.fixture(scope="session")
def iso() -> Path:
    """The signed ISO of guest-tools 2.0.0, where the lab's inventory expects it."""
    return plays.build_iso("2.0.0")


@pytest.fixture
def shared_iso(iso: Path) -> Path:
    """The same ISO in the directory that all nodes see."""
    return Path(shutil.copy(iso, paths.SHARED))


@pytest.fixture
def lost_node(tmp_path: Path) -> Path:
    """The lab's inventory with a node2 that cannot be reached."""
    return inventories.with_variables(tmp_path, node2={"ansible_host": "127.0.0.1", "ansible_port": 1})
