# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a conductor waits, gives up and refuses; the broker is a list and time is a number. On a real one: tests/integration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from unit.campaign_rig import (
    BEGIN,
    CAMPAIGN,
    DEADLINE,
    OPENED,
    Rig,
    met,
    rows,
    snapshot,
    unfit,
    vm_uuid,
)
from unit.list_broker import Clock, ListBroker

from ansible_collections.isolift.vm.plugins.module_utils import conductor as conducting
from ansible_collections.isolift.vm.plugins.module_utils import coordinator as coordinating
from ansible_collections.isolift.vm.plugins.module_utils.broker import Publication
from ansible_collections.isolift.vm.plugins.module_utils.broker_errors import BrokerLost, refused
from ansible_collections.isolift.vm.plugins.module_utils.campaign import Campaign
from ansible_collections.isolift.vm.plugins.module_utils.campaign_errors import CampaignError, HalfBegun
from ansible_collections.isolift.vm.plugins.module_utils.conductor import PATIENCE_S, Conductor
from ansible_collections.isolift.vm.plugins.module_utils.coordinator import SILENCE_S, Coordinator
from ansible_collections.isolift.vm.plugins.module_utils.fold import PATIENCE_S as RESEND_S
from ansible_collections.isolift.vm.plugins.module_utils.ids import upgrade_id
from ansible_collections.isolift.vm.plugins.module_utils.records import RECORDS, Claim, Closed, Control
from ansible_collections.isolift.vm.plugins.module_utils.topology import CAMPAIGNS, journal
from ansible_collections.isolift.vm.plugins.module_utils.wire import decode, encode


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(conducting, "time", clock)
    monkeypatch.setattr(coordinating, "time", clock)
    return clock


def log_of(rig: Rig) -> list[bytes]:
    return [encode(record) for record in rig.journal]


def coordinator(broker: Any) -> Coordinator:
    return Coordinator(broker, CAMPAIGN, "second", "host")


@pytest.mark.parametrize(
    "wrong",
    [upgrade_id(CAMPAIGN, vm_uuid(0), 1), CAMPAIGN.upper(), CAMPAIGN.replace("-", ""), "campaign", ""],
)
def test_whatever_else_names_the_journal_is_no_campaign(wrong: str) -> None:
    with pytest.raises(ValueError):
        Conductor(lambda: None, wrong, "host", lambda _o: met, lambda _c: None, print)  # type: ignore[arg-type,return-value]


def test_a_campaign_is_listed_before_it_can_be_conducted(clock: Clock) -> None:
    """What is sealed can be resumed, so it has to be found, also if its run was killed a moment after."""
    streams: list[tuple[str, str]] = []

    class Watched(ListBroker):
        def publish(self, publications: Iterable[Publication]) -> list[Publication]:
            several = list(publications)
            streams.extend((one.key, decode(one.body, RECORDS).payload.TYPE) for one in several)
            return super().publish(several)

    broker: Any = Watched(clock, [])
    Coordinator(broker, CAMPAIGN, "first", "host").begin(OPENED, rows(2))
    own = journal(CAMPAIGN)
    assert streams == [
        (CAMPAIGNS, "opened"),
        (own, "opened"),
        (own, "selected"),
        (own, "sealed"),
        (own, "claim"),
    ]


def test_a_beginning_that_is_broken_off_is_not_taken_for_none(clock: Clock) -> None:
    """The journal may have its seal already, and then any run may conduct the campaign."""
    broker: Any = ListBroker(clock, [], stores=False)
    with pytest.raises(HalfBegun, match="could not store"):
        Coordinator(broker, CAMPAIGN, "first", "host").begin(OPENED, rows(2))


def test_a_beginning_that_another_run_overtakes_is_not_taken_for_none(clock: Clock) -> None:
    class Overtaken(ListBroker):
        def publish(self, publications: Iterable[Publication]) -> list[Publication]:
            several = list(publications)
            if b'"claim"' in several[-1].body:
                Coordinator(ListBroker(clock, log), CAMPAIGN, "quicker", "host").resume()  # type: ignore[arg-type]
            return super().publish(several)

    log: list[bytes] = []
    broker: Any = Overtaken(clock, log)
    with pytest.raises(HalfBegun, match="another coordinator"):
        Coordinator(broker, CAMPAIGN, "first", "host").begin(OPENED, rows(2))


def test_an_id_that_is_wrong_in_its_last_digits_names_no_campaign_and_changes_none(clock: Clock) -> None:
    """It names the same journal, which knows whose it is."""
    log = log_of(Rig(2))
    before, wrong = list(log), CAMPAIGN[:-1] + "0"
    assert journal(wrong) == journal(CAMPAIGN)
    broker: Any = ListBroker(clock, log)
    with pytest.raises(CampaignError, match=f"that of campaign {CAMPAIGN}"):
        Coordinator(broker, wrong, "second", "host").resume()
    assert log == before


def test_records_that_name_another_campaign_change_nothing() -> None:
    rig = Rig(2)
    before = snapshot(rig.campaign)
    other = CAMPAIGN[:-1] + "0"
    for payload, epoch in (
        (Claim("nonce-2", "control-2"), 2),
        (Closed("nonce-1", ()), 1),
        (Control("cancel"), 1),
    ):
        rig.append(replace(rig.message(payload, epoch=epoch), campaign_id=other))
    assert snapshot(rig.campaign) == {**before, "strays": before["strays"] + 3}


def test_a_record_of_another_campaign_before_the_opening_stops_nobody() -> None:
    rig = Rig(2)
    folded = Campaign(CAMPAIGN)
    for record in (replace(rig.message(Control("cancel")), campaign_id=CAMPAIGN[:-1] + "0"), *rig.journal):
        folded.apply(record)
    assert folded.sealed and not folded.problem and folded.strays == 1


def test_a_run_that_dies_after_its_claim_leaves_nothing_that_only_it_knew(clock: Clock) -> None:
    """What the journal says then ends the VMs that cannot be upgraded, and starts the others alone."""
    log: list[bytes] = []
    fit, twice = rows(2)
    first: Any = ListBroker(clock, log)
    Coordinator(first, CAMPAIGN, "first", "host").begin(OPENED, [fit, unfit(twice, "duplicate_uuid")])
    broker = ListBroker(clock, log)
    one = coordinator(broker)
    one.resume()
    clock.sleep(RESEND_S)
    one.settle(met)
    one.receive(0.0)
    assert [(command.vm, command.payload.TYPE) for command in broker.commands] == [(fit.vm, "start")]
    assert one.campaign.counts() == {"ineligible": 1, "pending": 1}


def test_hellos_that_come_before_a_claim_is_read_back_are_not_silence(clock: Clock) -> None:
    broker = ListBroker(clock, log_of(Rig(2)))
    one = coordinator(broker)
    one.catch_up()
    broker.hellos = 1000
    one.take()
    assert one.campaign.mine and one.campaign.epoch == 2


def test_silence_among_hellos_is_noticed(clock: Clock) -> None:
    broker = ListBroker(clock, log_of(Rig(2)))
    one = coordinator(broker)
    one.catch_up()
    broker.silent, broker.hellos, broker.hello_after = True, 10**6, 1.0
    with pytest.raises(BrokerLost, match="sent nothing of"):
        one.take()
    assert SILENCE_S <= clock.monotonic() <= SILENCE_S + 2.0


def test_a_broker_that_can_be_read_but_stores_nothing_is_given_up(clock: Clock) -> None:
    """To be connected to is not to be back: otherwise it would be said, and tried, every second for ever."""
    log = log_of(Rig(2))
    said: list[str] = []
    connections = 0

    def connect() -> Any:
        nonlocal connections
        connections += 1
        return ListBroker(clock, log, stores=False)

    with pytest.raises(BrokerLost, match="could not store"):
        Conductor(connect, CAMPAIGN, "host", lambda _o: met, lambda _c: None, said.append).run()
    assert DEADLINE < clock.now < DEADLINE + PATIENCE_S
    assert len(said) == 1 and connections < 1000


def test_a_stream_whose_node_is_down_is_tried_again_until_it_is_up(clock: Clock) -> None:
    """RabbitMQ says so for a while after it was restarted: with the code for what does not exist."""
    log = log_of(Rig(selection=[unfit(row, "no_channel") for row in rows(2)]))
    answers = iter([refused("broker:5672", 404, DOWN)] * 3)
    said: list[str] = []

    class Starting(ListBroker):
        def read(self, stream: str) -> int:
            error = next(answers, None)
            if error is not None:
                raise error
            return super().read(stream)

    def connect() -> Any:
        return Starting(clock, log)

    campaign = Conductor(connect, CAMPAIGN, "host", lambda _o: met, lambda _c: None, said.append).run()
    assert campaign.closed and campaign.counts() == {"ineligible": 2}
    assert "Nothing is lost; trying again" in said[0] and said[1] == "RabbitMQ is back."


DOWN = "NOT_FOUND - home node 'rabbit@one' of durable queue 'isolift.campaign.x' is down or inaccessible"


def test_a_broker_that_is_away_is_tried_until_a_deadline_that_is_a_day_ahead(clock: Clock) -> None:
    deadline = BEGIN + 86400.0
    log = log_of(Rig(2, opened=replace(OPENED, deadline=deadline)))
    connections = 0

    def connect() -> Any:
        nonlocal connections
        connections += 1
        if connections > 1:
            raise BrokerLost("refused")
        return ListBroker(clock, log, stores=False)

    with pytest.raises(BrokerLost, match="refused"):
        Conductor(connect, CAMPAIGN, "host", lambda _o: met, lambda _c: None, print).run()
    assert deadline < clock.now < deadline + PATIENCE_S
