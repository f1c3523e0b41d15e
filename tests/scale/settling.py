# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process that stands for many does once all sessions are open."""

from __future__ import annotations

import gc

NOTE = (
    "garbage collection as everywhere; in relays and agents it leaves out what was there before the campaign"
)


def settle() -> None:
    """Let garbage collections look no more at what is there by now.

    A full collection looks at all that a process keeps. On a node or in a guest that is little; here it would cost each
    as many times more as there are others in its process.
    """
    gc.collect()
    gc.freeze()
