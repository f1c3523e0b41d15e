# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep what comes from the guest within the limits of the wire."""

from __future__ import annotations


def clip(text: str, limit: int) -> str:
    """At most the first ``limit`` characters of ``text``; what is no Unicode character becomes ``?``."""
    return text[:limit].encode("utf-8", "replace").decode("utf-8")


def clip_tail(text: str, limit: int) -> str:
    """At most the last ``limit`` (above 0) characters of ``text``; what is no Unicode character becomes ``?``."""
    return clip(text[-limit:], limit)
