# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a campaign cannot be begun or gone on with."""

from __future__ import annotations


class CampaignError(Exception):
    """The campaign cannot be begun or continued; the text says why."""


class NeverSealed(CampaignError):
    """Its run was stopped before it sealed the campaign, which therefore never starts."""


class CampaignLost(CampaignError):
    """Another coordinator has taken the campaign; the text names it."""


class HalfBegun(CampaignError):
    """Beginning the campaign was broken off; how far it came only its journal says."""
