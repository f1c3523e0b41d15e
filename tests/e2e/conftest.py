# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The running lab, for tests that upgrade real guests through the playbooks."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import plays


@pytest.fixture(scope="session")
def iso() -> Path:
    """The signed ISO of guest-tools 2.0.0, where the lab's inventory expects it."""
    return plays.build_iso("2.0.0")
