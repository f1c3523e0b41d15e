# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deleting the journals of old campaigns; on a real RabbitMQ."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from integration.journals import Journals, opened, vms

from ansible_collections.isolift.vm.plugins.module_utils.broker import ARGUMENT_SPEC
from ansible_collections.isolift.vm.plugins.module_utils.history import campaigns_of
from ansible_collections.isolift.vm.plugins.module_utils.topology import journal
from ansible_collections.isolift.vm.plugins.modules.upgrade_cleanup import DAY_S, cleanup


def met(_facts: Any) -> str:
    return ""


def clean(journals: Journals, days: float, check_mode: bool = False) -> list[str]:
    """The campaigns that the module says it deleted."""
    broker = {name: getattr(journals.options, name[len("broker_") :]) for name in ARGUMENT_SPEC}
    result = cleanup({**broker, "older_than_days": days}, check_mode)
    assert result["changed"] == bool(result["removed"])
    removed: list[str] = result["removed"]
    return removed


def left(journals: Journals, campaign: str) -> tuple[bool, bool]:
    """Whether the campaign is listed, and whether its journal is there."""
    broker = journals.connect()
    listed = any(one["campaign_id"] == campaign for one in campaigns_of(broker.campaigns()))
    return listed, broker.stream_exists(journal(campaign))


def ended(journals: Journals, days_ago: float, closed: bool) -> str:
    """A campaign whose deadline passed so many days ago."""
    campaign = journals.campaign()
    policy = replace(opened(), deadline=time.time() - days_ago * DAY_S)
    coordinator = journals.coordinator(campaign, "first")
    coordinator.begin(policy, vms(2))
    if closed:
        coordinator.run(met, lambda _campaign: None)
        coordinator.make_known()
    return campaign


def test_old_campaigns_are_forgotten_and_younger_ones_kept(journals_of_test: Journals) -> None:
    old = ended(journals_of_test, 1000.5, closed=True)
    younger = ended(journals_of_test, 999.5, closed=True)
    assert old in clean(journals_of_test, 1000.0, check_mode=True)
    assert left(journals_of_test, old) == (True, True), "check mode deletes nothing"
    assert clean(journals_of_test, 1000.0) == [old]
    assert left(journals_of_test, old) == (False, False)
    assert left(journals_of_test, younger) == (True, True)
    assert clean(journals_of_test, 1000.0) == []


def test_a_campaign_that_nobody_closed_is_kept_a_day_longer(journals_of_test: Journals) -> None:
    campaign = ended(journals_of_test, 1000.5, closed=False)
    assert clean(journals_of_test, 1000.0) == []
    assert clean(journals_of_test, 999.4) == [campaign]
    assert left(journals_of_test, campaign) == (False, False)
