# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals read afterwards: the campaign they tell, the list of campaigns, and one upgrade's whole course."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from unit.campaign_rig import BEGIN, CAMPAIGN, DEADLINE, OPENED, REQUEST, SUCCEEDED, Rig, snapshot
from unit.safety import harmless

from ansible_collections.isolift.vm.plugins.module_utils.campaign import Campaign
from ansible_collections.isolift.vm.plugins.module_utils.history import (
    campaigns_of,
    fold,
    history_of,
    ids_over,
    open_ids,
)
from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_id
from ansible_collections.isolift.vm.plugins.module_utils.records import Closed, Removed
from ansible_collections.isolift.vm.plugins.module_utils.wire import (
    Confirmation,
    Message,
    Payload,
    Progress,
    Request,
    Result,
    encode,
)

OTHER = "0192f0e0-2222-7abc-8def-0123456789ab"
GARBAGE = [b"", b"\xff", b"{}", b'{"type":"novelty","schema":1}', b'{"type":"request","schema":2}']


def told() -> Rig:
    rig = Rig(2)
    rig.settle()
    rig.agent(REQUEST)
    rig.settle(1.0)
    rig.agent(Confirmation(1, "confirm", "user"), Progress("installing"), SUCCEEDED)
    rig.settle(DEADLINE - rig.now)
    return rig


def bodies(rig: Rig) -> list[bytes]:
    return [encode(record) for record in rig.journal]


def test_a_journal_tells_its_campaign() -> None:
    rig = told()
    campaign = fold(bodies(rig))
    assert campaign.campaign_id == CAMPAIGN
    assert snapshot(campaign) == snapshot(rig.campaign)
    assert not campaign.mine


def test_what_cannot_be_read_is_passed_over() -> None:
    rig = told()
    spoilt = [body for record in bodies(rig) for body in (*GARBAGE, record, *GARBAGE)]
    assert snapshot(fold(spoilt)) == snapshot(rig.campaign)
    upgrade = rig.upgrade().upgrade_id
    assert history_of(spoilt, upgrade) == history_of(bodies(rig), upgrade)
    assert campaigns_of(GARBAGE) == []


def test_a_stray_record_before_the_opening_does_not_name_the_campaign() -> None:
    rig = told()
    stray = encode(replace(rig.journal[-1], campaign_id=CAMPAIGN[:-1] + "0"))
    assert fold([stray, *bodies(rig)]).campaign_id == CAMPAIGN


@pytest.mark.parametrize("nothing", [[], GARBAGE])
def test_an_empty_journal_is_no_campaign(nothing: list[bytes]) -> None:
    with pytest.raises(ValueError, match="never begun"):
        fold(nothing)


def test_an_upgrades_history_is_every_record_of_it_in_order_and_of_no_other() -> None:
    rig = told()
    history = history_of(bodies(rig), rig.upgrade().upgrade_id)
    assert [record["type"] for record in history] == [
        "request",
        "notified",
        "confirmation",
        "progress",
        "result",
    ]
    assert history[0] == {
        "type": "request",
        "created_at": BEGIN,
        "epoch": 1,
        "message_id": "g.1",
        "payload": {"installed_version": "1.0.0", "consent_given": False, "facts": {"free_bytes": 10}},
    }
    assert [one["type"] for one in history_of(bodies(rig), rig.upgrade(1).upgrade_id)] == ["ended"]
    assert history_of(bodies(rig), CAMPAIGN) == []


def test_no_text_of_a_guest_comes_out_as_it_was() -> None:
    poison = "\x1b[2J\u202e\r\n\u2028"
    rig = Rig()
    rig.agent(Request(poison, facts={poison: poison, "count": 3, "flag": True}), generation=poison)
    rig.agent(Result("failed", log_tail=poison * 400))
    for record in history_of(bodies(rig), rig.upgrade().upgrade_id):
        assert harmless(record)


# The list of campaigns.


def listed(payload: Payload, campaign: str = CAMPAIGN, at: float = BEGIN) -> bytes:
    return encode(Message(payload, "c.1", "", campaign, "", 1, 0, at))


def test_the_list_of_campaigns_has_the_newest_first_and_says_which_are_closed() -> None:
    stream = [
        listed(OPENED),
        listed(replace(OPENED, target_version="3.0.0"), OTHER, BEGIN + 1.0),
        listed(Closed("n", (("succeeded", "4"), ("declined", "1")))),
    ]
    newer, older = campaigns_of(stream)
    assert (newer["campaign_id"], newer["target_version"], newer["closed"]) == (OTHER, "3.0.0", False)
    assert older == {
        "campaign_id": CAMPAIGN,
        "component": "guest-tools",
        "target_version": "2.0.0",
        "opened_at": BEGIN,
        "opened_by": OPENED.opened_by,
        "deadline": DEADLINE,
        "closed": True,
        "counts": {"succeeded": 4, "declined": 1},
    }


def test_a_campaign_that_was_removed_is_not_listed_any_more() -> None:
    assert campaigns_of([listed(OPENED), listed(Removed())]) == []
    assert campaigns_of([listed(Removed()), listed(Closed("n", ()))]) == []


@pytest.mark.parametrize("row", [(), ("succeeded",), ("succeeded", "x"), ("succeeded", "-1")])
def test_counts_that_make_no_sense_are_left_out(row: Any) -> None:
    (campaign,) = campaigns_of([listed(OPENED), listed(Closed("n", (row, ("failed", "2"))))])
    assert campaign["counts"] == {"failed": 2}


def test_a_campaign_that_is_listed_twice_is_one_campaign() -> None:
    assert len(campaigns_of([listed(OPENED), listed(OPENED)])) == 1
    closed, *more = campaigns_of([listed(OPENED), listed(Closed("n", ())), listed(OPENED)])
    assert closed["closed"] and not more


def test_a_fold_of_half_a_journal_is_where_the_campaign_was() -> None:
    rig = told()
    for end in range(1, len(rig.journal)):
        stepwise = Campaign(CAMPAIGN)
        for record in rig.journal[:end]:
            stepwise.apply(record)
        assert snapshot(fold(bodies(rig)[:end])) == snapshot(stepwise)


HOUR = 3600.0
NOW = 1_795_460_000.0


def named(seconds_ago: float) -> str:
    """A campaign ID that was made so long before `NOW`."""
    return campaign_id(int((NOW - seconds_ago) * 1000), bytes(10))


def entry(campaign: str, *, closed: bool = False, deadline: float = NOW + HOUR) -> dict[str, Any]:
    return {"campaign_id": campaign, "closed": closed, "deadline": deadline}


def test_a_campaign_is_open_until_it_is_closed_or_its_deadline_passes() -> None:
    known = [entry("a"), entry("b", closed=True), entry("c", deadline=NOW - 1)]
    assert open_ids(known, NOW) == ["a"]


def test_what_an_open_campaign_wants_is_not_over() -> None:
    campaign = named(10 * HOUR)
    assert ids_over([campaign], [entry(campaign)], NOW, HOUR) == []


def test_a_listed_campaign_is_over_at_once_when_it_is_closed() -> None:
    campaign = named(1)
    assert ids_over([campaign, campaign], [entry(campaign, closed=True)], NOW, HOUR) == [campaign]


def test_an_unlisted_campaign_is_over_after_the_time_of_grace() -> None:
    young, old = named(HOUR - 1), named(HOUR + 1)
    assert ids_over([young, old], [], NOW, HOUR) == [old]


@pytest.mark.parametrize(
    "name", ["somebody-elses", "", "0192F0E0-1111-7ABC-8DEF-0123456789AB", str(UUID(int=5))]
)
def test_what_is_no_campaign_id_is_never_over(name: str) -> None:
    assert ids_over([name], [], NOW, HOUR) == []
