# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which text can be shown on a terminal without doing anything to it."""

from __future__ import annotations

import unicodedata
from typing import Any

HARMFUL = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that steer a terminal, are invisible, turn text round or break a line."""


def harmless(value: Any) -> bool:
    """Whether all text in ``value``, plain data, can be shown as it is."""
    if isinstance(value, dict):
        return all(harmless(key) and harmless(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(harmless(item) for item in value)
    if isinstance(value, str):
        return not HARMFUL.intersection(map(unicodedata.category, value))
    return value is None or isinstance(value, (int, float))
