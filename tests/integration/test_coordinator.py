# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The coordinator against a real RabbitMQ; the relay's part is played by the test."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from integration.journals import TARGET, Journals, Relay, opened, vms

from ansible_collections.isolift.vm.plugins.module_utils.broker import Broker, BrokerError, NoSuchStream
from ansible_collections.isolift.vm.plugins.module_utils.campaign import Campaign
from ansible_collections.isolift.vm.plugins.module_utils.campaign_errors import CampaignError
from ansible_collections.isolift.vm.plugins.module_utils.coordinator import Coordinator
from ansible_collections.isolift.vm.plugins.module_utils.history import campaigns_of
from ansible_collections.isolift.vm.plugins.module_utils.records import Closed, Opened, Row
from ansible_collections.isolift.vm.plugins.module_utils.states import State
from ansible_collections.isolift.vm.plugins.module_utils.topology import journal
from ansible_collections.isolift.vm.plugins.module_utils.wire import (
    Confirmation,
    Delivered,
    Facts,
    Message,
    Notification,
    Presence,
    Progress,
    Request,
    Result,
    Start,
)

SUCCEEDED = Result("succeeded", version_before="1.0.0", version_after=TARGET, exit_code=0)


def met(_facts: Facts) -> str:
    return ""


def silent(_campaign: Campaign) -> None:
    """Watches and does nothing."""


def until(condition: Callable[[Campaign], bool]) -> Callable[[Campaign], None]:
    """Ends a coordinator's run by `Stopped` once the campaign is as wanted, or by failing after a while."""
    give_up = time.monotonic() + 30

    def watch(campaign: Campaign) -> None:
        if condition(campaign):
            raise Stopped
        assert time.monotonic() < give_up, campaign.counts()

    return watch


class Stopped(Exception):
    """The test has seen enough."""


def begun(journals: Journals, rows: list[Row], deadline_s: float = 600.0) -> tuple[str, Coordinator]:
    campaign = journals.campaign()
    coordinator = journals.coordinator(campaign, "first")
    coordinator.begin(opened(deadline_s), rows)
    return campaign, coordinator


def unfit(rows: list[Row]) -> list[Row]:
    """The same VMs, of which it is known that they cannot be upgraded."""
    return [row._replace(unfit="no_drive") for row in rows]


@contextlib.contextmanager
def agents(relay: Relay, results: dict[str, Result]) -> Iterator[None]:
    """The VMs play their part: every command is acknowledged and followed, up to the VM's result."""
    over = threading.Event()

    def answer(message: Message) -> None:
        payload = message.payload
        relay.report(message.vm, Delivered(payload.TYPE, message.message_id))
        if isinstance(payload, Start):
            relay.report(message.vm, Request("1.0.0", facts={"free_bytes": 1}))
        elif isinstance(payload, Notification):
            relay.report(message.vm, Confirmation(payload.permit, "confirm", "policy"))
            relay.report(message.vm, Progress("installing"))
            relay.report(message.vm, results[message.vm])

    def play() -> None:
        while not over.wait(0.05):
            for message in relay.commands():
                answer(message)

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# The whole course.


def test_a_campaign_from_its_start_to_its_closing(journals_of_test: Journals) -> None:
    rows = vms(3)
    good, bad, off = (row.vm for row in rows)
    results = {good: SUCCEEDED, bad: Result("failed", stage="install", code="exit_code", exit_code=3)}
    campaign, first = begun(journals_of_test, rows, deadline_s=5.0)
    relay = journals_of_test.relay(campaign, [good, bad])
    first.settle(met)
    second = journals_of_test.coordinator(campaign, "second")
    second.resume()
    with agents(relay, results):
        second.run(met, silent)
    folded, records = journals_of_test.fold(campaign)
    assert {vm: one.state for vm, one in folded.upgrades.items()} == {
        good: State.SUCCEEDED,
        bad: State.FAILED,
        off: State.UNREACHABLE,
    }
    assert [record.payload.TYPE for record in records].count("closed") == 1
    assert second.campaign.closed and second.campaign.counts() == folded.counts()


def test_a_vm_that_no_relay_has_is_told_as_shut_off(journals_of_test: Journals) -> None:
    campaign, coordinator = begun(journals_of_test, vms(1), deadline_s=0.5)
    coordinator.run(met, silent)
    folded, _records = journals_of_test.fold(campaign)
    (upgrade,) = folded.upgrades.values()
    assert (upgrade.state, upgrade.reason) == (State.UNREACHABLE, "shut_off: no relay has it running")


def test_a_campaign_is_listed_when_it_begins_and_when_it_is_closed(journals_of_test: Journals) -> None:
    campaign, coordinator = begun(journals_of_test, unfit(vms(2)), deadline_s=600.0)
    entry = _listed(journals_of_test, campaign)
    assert (entry["closed"], entry["target_version"]) == (False, TARGET)
    coordinator.run(met, silent)
    coordinator.make_known()
    entry = _listed(journals_of_test, campaign)
    assert (entry["closed"], entry["counts"]) == (True, {"ineligible": 2})


def _listed(journals: Journals, campaign: str) -> dict[str, object]:
    (entry,) = [one for one in campaigns_of(journals.connect().campaigns()) if one["campaign_id"] == campaign]
    return entry


def test_presence_brings_the_start_to_a_vm_that_was_off(journals_of_test: Journals) -> None:
    rows = vms(1)
    vm = rows[0][0]
    campaign, coordinator = begun(journals_of_test, rows)
    coordinator.settle(met)
    second = journals_of_test.coordinator(campaign, "second")
    second.resume()
    began = time.monotonic()
    relay = journals_of_test.relay(campaign, [vm])
    relay.announce(vm, Presence("node1"))
    with agents(relay, {vm: SUCCEEDED}):
        second.run(met, silent)
    assert second.campaign.counts() == {"succeeded": 1}
    assert time.monotonic() - began < 15  # and not after the time until the next try


def test_what_is_no_record_is_passed_over(journals_of_test: Journals) -> None:
    rows = vms(1)
    vm = rows[0][0]
    campaign, _first = begun(journals_of_test, rows)
    relay = journals_of_test.relay(campaign, [vm])
    for garbage in (b"", b"\xff\xfe", b"{}", b'{"type":"novelty","schema":1}', b"[" * 60_000):
        relay.spoil(garbage)
    relay.report(vm, SUCCEEDED)
    second = journals_of_test.coordinator(campaign, "second")
    second.resume()
    second.run(met, silent)
    assert second.campaign.counts() == {"succeeded": 1}
    assert second.campaign.strays == 5


def test_a_held_vm_has_its_reason_in_the_journal(journals_of_test: Journals) -> None:
    rows = vms(1)
    vm = rows[0][0]
    campaign, first = begun(journals_of_test, rows)
    relay = journals_of_test.relay(campaign, [vm])
    relay.report(vm, Request("1.0.0"))
    with pytest.raises(Stopped):
        first.run(lambda _facts: "no room", until(lambda one: one.counts() == {"held": 1}))
    folded, _records = journals_of_test.fold(campaign)
    assert folded.upgrades[vm].reason == "no room"


# Resuming.


def test_a_resumed_coordinator_knows_what_the_first_one_knew(journals_of_test: Journals) -> None:
    rows = [*unfit(vms(1)), *vms(449)]
    campaign, first = begun(journals_of_test, rows)
    first.settle(met)
    second = journals_of_test.coordinator(campaign, "second")
    second.resume()
    assert list(second.campaign.upgrades) == [row.vm for row in rows]
    assert second.campaign.counts() == {"ineligible": 1, "pending": 449}
    assert (second.campaign.epoch, second.campaign.claimed_by) == (2, "second")


def test_the_older_coordinator_stops_when_a_newer_one_claims(journals_of_test: Journals) -> None:
    campaign, first = begun(journals_of_test, vms(2))
    second = journals_of_test.coordinator(campaign, "second")
    second.resume()
    with pytest.raises(CampaignError, match=rf"on control, has taken campaign {campaign} \(epoch 2\)"):
        first.run(met, silent)
    assert second.campaign.mine
    with pytest.raises(Stopped):
        second.run(met, until(lambda one: one.mine))


def test_of_two_coordinators_that_claim_one_epoch_the_first_in_the_journal_wins(
    journals_of_test: Journals,
) -> None:
    campaign, _first = begun(journals_of_test, vms(1))
    late = journals_of_test.coordinator(campaign, "late")
    broker = journals_of_test.connect()
    rival = Campaign(campaign, "rival")
    rival.epoch = 1
    claim = late.campaign.claim

    def overtaken(host: str, now: float) -> Message:
        mine = claim(host, now)
        journals_of_test.publish(broker, journal(campaign), rival.claim("control", now))
        return mine

    late.campaign.claim = overtaken  # type: ignore[method-assign]
    with pytest.raises(CampaignError, match="another coordinator"):
        late.resume()
    folded, _records = journals_of_test.fold(campaign)
    assert (folded.epoch, folded.claimed_by) == (2, "rival")


def test_a_closed_campaign_is_resumed_without_a_claim(journals_of_test: Journals) -> None:
    campaign, first = begun(journals_of_test, vms(1), deadline_s=0.1)
    first.run(met, silent)
    _folded, before = journals_of_test.fold(campaign)
    assert isinstance(before[-1].payload, Closed)
    second = journals_of_test.coordinator(campaign, "second")
    second.resume()
    second.run(met, silent)
    assert second.campaign.counts() == {"unreachable": 1}
    assert journals_of_test.fold(campaign)[1] == before


@pytest.mark.parametrize("records", [0, 1, 2])
def test_a_campaign_whose_opening_was_cut_short_is_refused(journals_of_test: Journals, records: int) -> None:
    campaign = journals_of_test.campaign()
    broker = journals_of_test.connect()
    broker.declare_journal(journal(campaign))
    opening = Campaign(campaign, "first").opening(opened(), vms(1), time.time())
    journals_of_test.publish(broker, journal(campaign), *opening[:records])
    with pytest.raises(CampaignError, match=f"campaign {campaign} was never sealed"):
        journals_of_test.coordinator(campaign, "second").resume()
    assert len(journals_of_test.fold(campaign)[1]) == records


def test_a_campaign_whose_selection_is_not_the_sealed_one_is_refused(journals_of_test: Journals) -> None:
    campaign = journals_of_test.campaign()
    broker = journals_of_test.connect()
    broker.declare_journal(journal(campaign))
    first, selected, seal = Campaign(campaign, "first").opening(opened(), vms(3), time.time())
    journals_of_test.publish(broker, journal(campaign), first, seal, selected)
    with pytest.raises(CampaignError, match="sealed"):
        journals_of_test.coordinator(campaign, "second").resume()


def test_a_campaign_that_the_broker_does_not_know_is_told_by_name(journals_of_test: Journals) -> None:
    campaign = journals_of_test.campaign()
    with pytest.raises(NoSuchStream, match=journal(campaign)):
        journals_of_test.coordinator(campaign, "second").resume()


# Beginning.


def test_a_campaign_is_begun_once(journals_of_test: Journals) -> None:
    campaign, _first = begun(journals_of_test, vms(1))
    _folded, before = journals_of_test.fold(campaign)
    with pytest.raises(BrokerError, match="exists already"):
        journals_of_test.coordinator(campaign, "again").begin(opened(), vms(1))
    assert journals_of_test.fold(campaign)[1] == before


def refused(journals: Journals, policy: Opened, rows: list[Row]) -> str:
    """Why a campaign was not begun; nothing of it is in the broker."""
    campaign = journals.campaign()
    with pytest.raises(CampaignError) as raised:
        journals.coordinator(campaign, "first").begin(policy, rows)
    with Broker(journals.options) as broker:
        assert not broker.stream_exists(journal(campaign))
        assert not journals.is_listed(broker, campaign)
    return str(raised.value)


def test_a_policy_that_no_record_can_hold_is_refused_before_anything_is_written(
    journals_of_test: Journals,
) -> None:
    assert "prompt" in refused(journals_of_test, replace(opened(), prompt="x" * 501), vms(1))
    assert "conditions" in refused(journals_of_test, replace(opened(), conditions=("x" * 501,)), vms(1))
    assert "deadline" in refused(journals_of_test, replace(opened(), deadline=float("inf")), vms(1))


def test_a_vm_that_is_selected_twice_is_refused_before_anything_is_written(
    journals_of_test: Journals,
) -> None:
    rows = vms(2)
    assert rows[0][0] in refused(journals_of_test, opened(), [*rows, rows[0]])


def test_a_vm_without_a_uuid_is_refused_before_anything_is_written(journals_of_test: Journals) -> None:
    assert "desk" in refused(journals_of_test, opened(), [Row("desk", "desk", "node1")])


def test_long_names_of_domains_and_nodes_are_no_obstacle(journals_of_test: Journals) -> None:
    """Libvirt takes names as long as file names, and compute nodes are known by their host names."""
    rows = [Row(row.vm, "桌" * 80, "node." + "x" * 240) for row in vms(250)]
    campaign, _first = begun(journals_of_test, rows)
    folded, _records = journals_of_test.fold(campaign)
    assert folded.sealed
    assert {one.node for one in folded.upgrades.values()} == {rows[0].node}
