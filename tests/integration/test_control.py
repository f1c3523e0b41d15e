# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cancelling a campaign, and beginning one for VMs that another one has; on a real RabbitMQ."""

from __future__ import annotations

import time
from typing import Any

import pytest
from integration.journals import Journals, opened, vms

from ansible_collections.isolift.vm.plugins.module_utils.broker import ARGUMENT_SPEC, BrokerOptions
from ansible_collections.isolift.vm.plugins.module_utils.broker_errors import BrokerError
from ansible_collections.isolift.vm.plugins.module_utils.campaign_errors import CampaignError
from ansible_collections.isolift.vm.plugins.module_utils.overlap import require_free
from ansible_collections.isolift.vm.plugins.module_utils.records import Control, Row
from ansible_collections.isolift.vm.plugins.module_utils.wire import Progress, WireError
from ansible_collections.isolift.vm.plugins.modules.upgrade_control import control


def met(_facts: Any) -> str:
    return ""


def arguments(options: BrokerOptions, campaign: str, **more: Any) -> dict[str, Any]:
    """The module's arguments."""
    broker = {name: getattr(options, name[len("broker_") :]) for name in ARGUMENT_SPEC}
    return {**broker, "campaign_id": campaign, "action": "cancel", "vms": None, "reason": "", **more}


def begun(journals: Journals, rows: list[Row]) -> str:
    campaign = journals.campaign()
    journals.coordinator(campaign, "first").begin(opened(), rows)
    return campaign


def test_a_wish_without_a_coordinator_takes_effect_when_one_resumes(journals_of_test: Journals) -> None:
    rows = vms(450)
    campaign = begun(journals_of_test, rows)
    relay = journals_of_test.relay(campaign, [rows[7][0]])
    relay.report(rows[7][0], Progress("installing"))
    result = control(arguments(journals_of_test.options, campaign, reason="not now"), check_mode=False)
    assert (result["changed"], result["accepted"], result["refused"]) == (True, 449, 1)
    (refused,) = [one for one in result["results"] if not one["accepted"]]
    assert (refused["vm"], refused["state"], refused["reason"]) == (
        rows[7][0],
        "installing",
        "the installer was started",
    )
    folded, _records = journals_of_test.fold(campaign)
    assert folded.counts() == {"pending": 449, "installing": 1}
    second = journals_of_test.coordinator(campaign, "second")
    second.resume()
    second.settle(met)
    folded, _records = journals_of_test.fold(campaign)
    assert folded.counts() == {"cancelled": 449, "installing": 1}
    assert {one.reason for one in folded.upgrades.values() if one.final} == {"not now"}


def test_some_vms_are_named_by_pattern_or_uuid(journals_of_test: Journals) -> None:
    rows = vms(12)
    campaign = begun(journals_of_test, rows)
    named = arguments(journals_of_test.options, campaign, vms=["desk-1*", rows[3][0].upper()])
    result = control(named, check_mode=False)
    assert [one["name"] for one in result["results"]] == ["desk-1", "desk-3", "desk-10", "desk-11"]
    folded, _records = journals_of_test.fold(campaign)
    assert sum(bool(one.cancelling) for one in folded.upgrades.values()) == 4


def test_check_mode_says_it_and_writes_nothing(journals_of_test: Journals) -> None:
    campaign = begun(journals_of_test, vms(2))
    assert control(arguments(journals_of_test.options, campaign), check_mode=True)["accepted"] == 2
    _folded, records = journals_of_test.fold(campaign)
    assert not [one for one in records if isinstance(one.payload, Control)]


def test_what_cannot_be_meant_is_refused(journals_of_test: Journals) -> None:
    campaign = begun(journals_of_test, vms(2))
    options = journals_of_test.options
    with pytest.raises(ValueError, match="no VM that matches 'lab-\\*'"):
        control(arguments(options, campaign, vms=["desk-1", "lab-*"]), check_mode=False)
    with pytest.raises(ValueError, match="vms is empty"):
        control(arguments(options, campaign, vms=[]), check_mode=False)
    with pytest.raises(WireError, match="control.reason"):
        control(arguments(options, campaign, reason="x" * 201), check_mode=False)
    unknown = journals_of_test.campaign()
    with pytest.raises(BrokerError, match=f"knows no campaign of the ID {unknown}; isolift.vm.status lists"):
        control(arguments(options, unknown), check_mode=False)
    _folded, records = journals_of_test.fold(campaign)
    assert not [one for one in records if isinstance(one.payload, Control)]


def test_a_campaign_for_vms_of_an_open_one_is_refused_and_offers_ways_out(journals_of_test: Journals) -> None:
    rows = vms(8)
    campaign = begun(journals_of_test, rows)
    wanted = [row.vm for row in rows[:7]]
    with pytest.raises(CampaignError) as raised:
        require_free(journals_of_test.connect(), wanted, time.time())
    text = str(raised.value)
    assert f"campaign {campaign} is open and has no outcome yet for 7 of the selected VMs" in text
    assert "desk-4 and 2 more" in text
    assert f"isolift.vm.upgrade -e campaign_id={campaign}" in text
    assert "cancel" in text and "upgrade_overlap=queue" in text


def test_vms_with_an_outcome_and_other_vms_are_free(journals_of_test: Journals) -> None:
    rows = vms(2)
    campaign = begun(journals_of_test, rows)
    control(arguments(journals_of_test.options, campaign, vms=["desk-0"]), check_mode=False)
    second = journals_of_test.coordinator(campaign, "second")
    second.resume()
    second.settle(met)
    second.receive(1.0)
    broker = journals_of_test.connect()
    require_free(broker, [rows[0][0], *(row.vm for row in vms(3))], time.time())
    with pytest.raises(CampaignError, match="for 1 of the selected VMs \\(desk-1\\)"):
        require_free(broker, [rows[1][0]], time.time())
    require_free(broker, [rows[1][0]], time.time() + 601.0)  # past the deadline nothing is open
