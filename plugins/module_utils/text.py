# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make text that came from a guest safe to show and to keep in a report."""

from __future__ import annotations

import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that can move a cursor, hide or reorder text, or break a line."""


def printable(raw: str, limit: int = 300) -> str:
    """``raw`` on one line of at most ``limit`` characters, what could steer a terminal shown as its escape in Python.

    A line break becomes a space. Longer text ends in ``…``.
    """
    if len(raw) <= limit and raw.isprintable():
        return raw
    shown: list[str] = []
    length = 0
    for character in raw[: limit + 1]:
        piece = _show(character)
        if length + len(piece) > limit:
            return "".join(shown)[: limit - 1] + "…"
        shown.append(piece)
        length += len(piece)
    return "".join(shown)


def _show(character: str) -> str:
    if character in "\r\n\t":
        return " "
    if unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
