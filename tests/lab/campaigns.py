# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's broker knows of campaigns."""

from __future__ import annotations

from typing import Any

from ansible_collections.isolift.vm.plugins.module_utils.broker import Broker, BrokerOptions
from ansible_collections.isolift.vm.plugins.module_utils.history import campaigns_of, fold
from ansible_collections.isolift.vm.plugins.module_utils.report import summary_of
from ansible_collections.isolift.vm.plugins.module_utils.topology import journal

from . import settings
from .errors import LabError


def broker_options() -> BrokerOptions:
    """The lab's broker, as the controller sees it."""
    return BrokerOptions(
        host=settings.BROKER_HOST,
        port=5672,
        vhost="isolift",
        username="isolift_controller",
        password=settings.CONTROLLER_PASSWORD,
    )


def newest_campaign() -> str:
    """The ID of the campaign that was begun last.

    :raise LabError: there is none.
    """
    with Broker(broker_options()) as broker:
        campaigns = campaigns_of(broker.campaigns())
    if not campaigns:
        raise LabError("the broker has no campaign")
    return str(campaigns[0]["campaign_id"])


def summary(campaign_id: str) -> dict[str, Any]:
    """The campaign as its journal tells it: the same data as upgrade_info returns."""
    with Broker(broker_options()) as broker:
        return summary_of(fold(broker.read_all(journal(campaign_id))))
