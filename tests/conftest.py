# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make known the marks that tests bear."""
    config.addinivalue_line("markers", "deep: takes long; run by `make test-deep`, and not by `make test`")
    config.addinivalue_line(
        "markers", "harmless: leaves the lab as it is, so that it may run beside another such test"
    )
