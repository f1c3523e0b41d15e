# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's broker knows of campaigns."""

from __future__ import annotations

import os
import time
import uuid
from typing import Any

from ansible_collections.isolift.vm.plugins.module_utils.broker import Broker, BrokerOptions, append
from ansible_collections.isolift.vm.plugins.module_utils.campaign import Campaign
from ansible_collections.isolift.vm.plugins.module_utils.history import campaigns_of, fold, history_of
from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_id as new_campaign_id
from ansible_collections.isolift.vm.plugins.module_utils.media import DEFAULT_MEDIA_DIR
from ansible_collections.isolift.vm.plugins.module_utils.records import Opened, Row
from ansible_collections.isolift.vm.plugins.module_utils.report import summary_of
from ansible_collections.isolift.vm.plugins.module_utils.topology import CAMPAIGNS, journal
from ansible_collections.isolift.vm.plugins.module_utils.wire import encode

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


def known() -> list[str]:
    """The IDs of all campaigns that the broker lists, the newest first."""
    with Broker(broker_options()) as broker:
        return [str(campaign["campaign_id"]) for campaign in campaigns_of(broker.campaigns())]


def newest(count: int) -> list[str]:
    """The IDs of the ``count`` campaigns that were begun last, the newest first.

    :raise LabError: there are not so many.
    """
    ids = known()
    if len(ids) < count:
        raise LabError(f"the broker has {len(ids)} campaigns, not {count}")
    return ids[:count]


def summary(campaign_id: str) -> dict[str, Any]:
    """The campaign as its journal tells it: the same data as upgrade_info returns."""
    with Broker(broker_options()) as broker:
        return summary_of(fold(broker.read_all(journal(campaign_id))))


def history(upgrade_id: str) -> list[dict[str, Any]]:
    """Every record of one upgrade: the same data as upgrade_info returns."""
    with Broker(broker_options()) as broker:
        return history_of(broker.read_all(journal(upgrade_id)), upgrade_id)


def media_path(campaign_id: str) -> str:
    """Where the campaign's ISO is on every node that has it."""
    return _folded(campaign_id).policy.media_path


def epoch(campaign_id: str) -> int:
    """The epoch of the claim in force."""
    return _folded(campaign_id).epoch


def is_past(campaign_id: str) -> bool:
    """Whether the campaign's deadline has passed."""
    return _folded(campaign_id).policy.deadline < time.time()


def begin_without_seal() -> str:
    """A campaign whose run was stopped in the middle of its beginning: it is listed, and its journal has no seal. Its ID."""
    now = time.time()
    new = new_campaign_id(int(now * 1000), os.urandom(10))
    opened = Opened(
        component="guest-tools",
        target_version="2.0.0",
        iso_sha256="a" * 64,
        manifest_sha256="b" * 64,
        media_path=f"{DEFAULT_MEDIA_DIR}/{new}/{'a' * 64}.iso",
        deadline=now + 60.0,
        permit_s=300.0,
        consent="auto",
    )
    *begun, _seal = Campaign(new).opening(opened, [Row(str(uuid.uuid4()), "desk-1", "node1")], now)
    with Broker(broker_options()) as broker:
        broker.declare_journal(journal(new))
        append(broker, CAMPAIGNS, [encode(begun[0])])
        append(broker, journal(new), [encode(record) for record in begun])
    return new


def _folded(campaign_id: str) -> Campaign:
    with Broker(broker_options()) as broker:
        return fold(broker.read_all(journal(campaign_id)))
