# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs that are part of another campaign already."""

from __future__ import annotations

from typing import Sequence

from .broker import Broker
from .broker_errors import NoSuchStream
from .campaign import Campaign
from .campaign_errors import CampaignError
from .history import campaigns_of, fold, open_ids
from .topology import journal

_SHOWN = 5
"""Most VMs of one campaign that an error names."""


def require_free(broker: Broker, vms: Sequence[str], now: float) -> None:
    """Make sure that no open campaign has any of ``vms`` without an outcome at Unix time ``now``.

    :raises CampaignError: one has; the text names it and its VMs, and says what can be done.
    :raises BrokerError: the broker fails.
    """
    wanted = set(vms)
    for campaign_id in open_ids(campaigns_of(broker.campaigns()), now):
        try:
            records = broker.read_all(journal(campaign_id))
        except NoSuchStream:
            continue  # deleted meanwhile
        taken = _taken(fold(records), wanted) if records else []
        if taken:
            named = ", ".join(taken[:_SHOWN]) + (
                f" and {len(taken) - _SHOWN} more" if len(taken) > _SHOWN else ""
            )
            raise CampaignError(
                f"campaign {campaign_id} is open and has no outcome yet for {len(taken)} of the selected VMs ({named}). Go on with it "
                f"(isolift.vm.upgrade -e campaign_id={campaign_id}), cancel it (isolift.vm.control -e control_action=cancel "
                f"-e campaign_id={campaign_id}), or let the VMs take one upgrade after the other (upgrade_overlap=queue; module "
                "option overlap)"
            )


def _taken(campaign: Campaign, wanted: set[str]) -> list[str]:
    if not campaign.sealed:
        return []
    return [one.name for vm, one in campaign.upgrades.items() if vm in wanted and not one.final]
