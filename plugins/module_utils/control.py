# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator's wish about a campaign that is under way: for which upgrades it counts, and its records. No I/O."""

from __future__ import annotations

from typing import Sequence

from .campaign import Campaign
from .fold import CANCEL
from .records import CHUNK, Control
from .selection import matches
from .upgrade import Upgrade
from .wire import Message


def chosen(campaign: Campaign, patterns: Sequence[str] | None) -> list[Upgrade]:
    """The upgrades of the VMs that ``patterns`` (names, UUIDs or globs) name; all if it is None.

    :raises ValueError: the campaign never began, a pattern matches no VM of it, or there is no pattern.
    """
    if not campaign.sealed:
        raise ValueError(f"campaign {campaign.campaign_id} was never sealed: no VM of it was told to start")
    upgrades = list(campaign.upgrades.values())
    if patterns is None:
        return upgrades
    if not patterns:
        raise ValueError("vms is empty: name the VMs, or leave it out for all of the campaign")
    for pattern in patterns:
        if not any(matches(one.name, one.vm, pattern) for one in upgrades):
            raise ValueError(f"campaign {campaign.campaign_id} has no VM that matches {pattern!r}")
    return [one for one in upgrades if any(matches(one.name, one.vm, item) for item in patterns)]


def cancels(
    campaign: Campaign, upgrades: Sequence[Upgrade], reason: str, by: str, now: float
) -> list[Message]:
    """The records that cancel those of ``upgrades`` that can be cancelled; none if there is none."""
    vms = [one.vm for one in upgrades if not one.cancel_refusal]
    return [
        campaign.record(Control(CANCEL, tuple(vms[first : first + CHUNK]), reason, by), now)
        for first in range(0, len(vms), CHUNK)
    ]
