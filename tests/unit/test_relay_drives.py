# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay core and the CD-ROM drives, told as stories."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.relay_node import (
    CAMPAIGN,
    ISO,
    OTHER_CAMPAIGN,
    OTHER_ISO,
    OTHER_START,
    RESULT,
    START,
    UPGRADE,
    VM,
    Node,
)

from isolift_relay import ids, wire
from isolift_relay.events import (
    AckDelivery,
    BrokerDown,
    BrokerUp,
    ChannelUp,
    DomainDown,
    DomainUp,
    EjectMedium,
    InsertMedium,
    Log,
    MediumDone,
    Outcome,
    Publish,
    Published,
    Wake,
)
from isolift_relay.media import Reason
from isolift_relay.rates import Limits


@pytest.fixture
def session() -> Node:
    return Node.connected().opens()


# After the result


def test_after_a_confirmed_result_the_disc_is_ejected(session: Node) -> None:
    session.starts()
    eject = session.reports(RESULT).broker_answers().the(EjectMedium)
    assert (eject.vm, eject.campaign_id) == (VM, CAMPAIGN)
    assert session.frames() == [wire.Ack(session=session.session, message_id="g.1")]
    assert session.medium_is_done().effects == []


def test_a_disc_that_does_not_come_out_is_tried_again_a_few_times(session: Node) -> None:
    session.starts().reports(RESULT).broker_answers()
    pauses = []
    while session.of(EjectMedium):
        session.medium_is_done(Reason.TRAY_LOCKED, "mounted")
        assert "tray_locked" in session.the(Log).text
        for wake in session.of(Wake):
            pauses.append(wake.after_s)
            session.now += wake.after_s
            session.happens(wake.event)
    assert pauses == [5.0, 10.0, 20.0, 40.0, 80.0]


def test_what_will_not_pass_by_itself_is_not_tried_again(session: Node) -> None:
    session.starts().reports(RESULT).broker_answers().medium_is_done(Reason.DRIVE_AMBIGUOUS, "two")
    assert session.of(Wake) == [] and "by hand" in session.the(Log).text


def test_a_start_that_comes_late_does_not_bring_the_disc_back(session: Node) -> None:
    session.starts().reports(RESULT).broker_answers().medium_is_done()
    session.commands(START, "c.2")
    assert session.of(InsertMedium) == []
    assert len(session.frames()) == 1


def test_a_new_attempt_gets_its_disc_although_the_old_one_still_waits_to_be_ejected(session: Node) -> None:
    session.starts().reports(RESULT).broker_answers().medium_is_done(Reason.TRAY_LOCKED, "mounted")
    wake = session.the(Wake)
    session.commands(START, "c.2", attempt=2)
    assert session.the(InsertMedium).path == ISO
    session.medium_is_done()
    assert session.happens(wake.event).effects == []


def test_a_start_waits_for_the_ejection_before_it(session: Node) -> None:
    session.starts().reports(RESULT).broker_answers()
    eject = session.the(EjectMedium)
    assert session.commands(START, "c.2", attempt=2).effects == []
    assert session.happens(MediumDone(VM, eject.number)).the(InsertMedium).path == ISO


def test_a_domain_that_stops_before_its_disc_came_out_is_tried_once_more(session: Node) -> None:
    session.starts().reports(RESULT).broker_answers().medium_is_done(Reason.TRAY_LOCKED, "mounted")
    eject = session.happens(DomainDown(VM)).the(EjectMedium)
    assert session.happens(MediumDone(VM, eject.number, Reason.NO_DOMAIN)).effects == []


def test_a_domain_that_stops_while_its_disc_is_ejected_is_rid_of_it_all_the_same(session: Node) -> None:
    """What goes on waits for a tray that the guest holds locked, and comes to nothing."""
    begun = session.starts().reports(RESULT).broker_answers().the(EjectMedium)
    eject = session.happens(DomainDown(VM)).the(EjectMedium)
    assert (eject.vm, eject.campaign_id) == (VM, CAMPAIGN)
    assert session.happens(MediumDone(VM, begun.number, Reason.TRAY_LOCKED)).effects == []
    assert session.happens(MediumDone(VM, eject.number)).effects == []


def test_a_domain_that_stops_before_its_result_is_safe_is_rid_of_the_disc_all_the_same(session: Node) -> None:
    published = session.starts().reports(RESULT).the(Publish)
    session.happens(DomainDown(VM))
    eject = session.happens(Published(published.token, Outcome.CONFIRMED)).the(EjectMedium)
    assert (eject.vm, eject.campaign_id) == (VM, CAMPAIGN)


def test_an_operation_of_an_earlier_life_does_not_end_one_of_this(session: Node) -> None:
    old = session.commands(START).the(InsertMedium)
    session.happens(DomainDown(VM), DomainUp(VM, "desk", "/run/new.sock"), ChannelUp(VM)).opens()
    new = session.commands(START, "c.2").the(InsertMedium)
    assert session.happens(MediumDone(VM, old.number)).effects == []
    assert len(session.happens(MediumDone(VM, new.number)).frames()) == 1


# Two campaigns and one drive


def starts_two(session: Node) -> None:
    """An upgrade goes on, and the start of another campaign comes."""
    session.starts()
    session.commands(OTHER_START, "d.1", campaign=OTHER_CAMPAIGN)


def test_another_campaigns_start_waits_for_the_drive_in_the_agent(session: Node) -> None:
    starts_two(session)
    assert session.of(InsertMedium) == []
    session.says(wire.Ack(session=session.session, message_id="d.1")).broker_answers()
    insert = session.reports(RESULT).broker_answers().the(InsertMedium)
    assert insert.path == OTHER_ISO
    assert session.of(EjectMedium) == []
    session.medium_is_done()
    session.reports(RESULT, "g.2", **of_other_campaign())
    assert session.broker_answers().the(EjectMedium).campaign_id == OTHER_CAMPAIGN


def of_other_campaign() -> dict[str, str]:
    return {"campaign_id": OTHER_CAMPAIGN, "upgrade_id": ids.upgrade_id(OTHER_CAMPAIGN, VM, 1)}


def test_a_successor_whose_disc_does_not_get_in_is_told_and_the_old_disc_ejected(session: Node) -> None:
    starts_two(session)
    session.reports(RESULT).broker_answers().medium_is_done(Reason.NO_MEDIA, "gone")
    [answer] = session.journaled()
    assert answer.payload == wire.Undeliverable("start", "d.1", "no_media", "gone")
    assert session.the(EjectMedium).campaign_id == CAMPAIGN


def test_a_successor_whose_disc_does_not_get_in_while_the_broker_is_away_is_not_told(session: Node) -> None:
    starts_two(session)
    insert = session.reports(RESULT).broker_answers().the(InsertMedium)
    session.happens(BrokerDown())
    session.happens(MediumDone(VM, insert.number, Reason.NO_MEDIA, "gone"))
    assert session.of(Publish) == []
    assert session.the(EjectMedium).campaign_id == CAMPAIGN


def test_a_successor_gets_its_disc_at_the_deadline_of_an_upgrade_that_says_nothing(session: Node) -> None:
    """At that the agent goes on with the next one, and has no result to tell."""
    session.starts()
    later = replace(OTHER_START, deadline=START.deadline + 1000.0)
    wake = session.commands(later, "d.1", campaign=OTHER_CAMPAIGN).the(Wake)
    assert wake.after_s == START.deadline - session.now
    session.now = START.deadline - 1.0
    again = session.happens(wake.event).the(Wake)
    session.now += again.after_s
    assert session.happens(again.event).the(InsertMedium).path == OTHER_ISO
    session.medium_is_done()
    assert session.happens(again.event).effects == []


def test_a_successor_that_was_learnt_of_from_its_agent_gets_its_disc_at_that_deadline_too(
    session: Node,
) -> None:
    """The relay began anew and saw the starts in the wrong order."""
    later = replace(OTHER_START, deadline=START.deadline + 1000.0)
    session.commands(later, "d.1", campaign=OTHER_CAMPAIGN).medium_is_done()
    session.reports(wire.Progress("busy", UPGRADE), "g.2", **of_other_campaign())
    insert = session.commands(START, "c.1")
    assert insert.the(InsertMedium).path == ISO
    wake = session.the(Wake)
    session.medium_is_done()
    session.now = START.deadline
    assert session.happens(wake.event).the(InsertMedium).path == OTHER_ISO


def test_a_passing_trouble_does_not_cost_a_successor_its_disc(session: Node) -> None:
    """libvirt is restarted while the discs are exchanged."""
    starts_two(session)
    session.reports(RESULT).broker_answers().medium_is_done(Reason.MEDIA_ERROR, "libvirt cannot be reached")
    assert session.of(Publish) == []
    wake = session.the(Wake)
    session.now += wake.after_s
    assert session.happens(wake.event).the(InsertMedium).path == OTHER_ISO
    session.medium_is_done()
    session.reports(RESULT, "g.2", **of_other_campaign())
    assert session.broker_answers().the(EjectMedium).campaign_id == OTHER_CAMPAIGN


def test_a_successor_that_ended_while_its_disc_was_to_come_gets_none(session: Node) -> None:
    """The drive is busy when the first one's result is stored, and its successor is cancelled."""
    starts_two(session)
    number = session.commands(START, "c.2").the(InsertMedium).number
    session.reports(RESULT).broker_answers()
    session.reports(RESULT, "g.2", **of_other_campaign()).broker_answers()
    session.happens(MediumDone(VM, number))
    assert session.the(EjectMedium).campaign_id == CAMPAIGN
    assert session.medium_is_done().the(EjectMedium).campaign_id == OTHER_CAMPAIGN
    assert session.medium_is_done().effects == []


# Three campaigns and one drive


THIRD_CAMPAIGN = ids.campaign_id(1_790_000_000_002, b"1111111111")
THIRD_ISO = f"/var/lib/isolift/media/{THIRD_CAMPAIGN}/{'d' * 64}.iso"
THIRD_START = replace(START, media_path=THIRD_ISO)
REFUSED = "busy: another one is next"


def acks(session: Node, message_id: str, refused: str = "") -> Node:
    """The agent answers a command."""
    return session.says(wire.Ack(session=session.session, message_id=message_id, refused=refused))


def of(campaign: str) -> dict[str, str]:
    return {"campaign_id": campaign, "upgrade_id": ids.upgrade_id(campaign, VM, 1)}


def test_a_start_that_the_agent_took_gets_its_disc_although_another_was_to_be_next(session: Node) -> None:
    """The second one is cancelled in the agent, which takes the third before that is known here."""
    starts_two(session)
    acks(session, "d.1")
    session.commands(THIRD_START, "e.1", campaign=THIRD_CAMPAIGN)
    acks(session, "e.1")
    session.reports(RESULT, "g.2", **of(OTHER_CAMPAIGN)).broker_answers().medium_is_done()
    assert session.reports(RESULT).broker_answers().the(InsertMedium).path == THIRD_ISO


@pytest.mark.parametrize("is_exchanged", [False, True])
def test_an_old_coordinators_start_of_the_next_upgrade_does_not_cost_it_its_disc(
    session: Node, is_exchanged: bool
) -> None:
    starts_two(session)
    acks(session, "d.1")
    if is_exchanged:
        session.reports(RESULT).broker_answers().medium_is_done()
    session.commands(OTHER_START, "d.2", campaign=OTHER_CAMPAIGN)
    if session.of(InsertMedium):
        session.medium_is_done()
    acks(session, "d.2", refused="stale_claim: epoch 7 of another coordinator is in force")
    if is_exchanged:
        assert session.commands(THIRD_START, "e.1", campaign=THIRD_CAMPAIGN).of(InsertMedium) == []
    else:
        assert session.reports(RESULT).broker_answers().the(InsertMedium).path == OTHER_ISO


def test_the_upgrade_in_progress_gets_the_drive_although_its_start_came_last(session: Node) -> None:
    """The relay began anew; the agent has the first upgrade in progress and the other one next."""
    session.commands(THIRD_START, "e.1", campaign=THIRD_CAMPAIGN).medium_is_done()
    session.commands(OTHER_START, "d.1", campaign=OTHER_CAMPAIGN)
    session.commands(START, "c.1")
    assert acks(session, "e.1", REFUSED).the(InsertMedium).path == OTHER_ISO
    session.medium_is_done()
    acks(session, "d.1")
    session.reports(wire.Progress("busy", UPGRADE), "g.2", **of(OTHER_CAMPAIGN))
    assert session.the(InsertMedium).path == ISO
    session.medium_is_done()
    assert session.reports(RESULT, "g.3").broker_answers().the(InsertMedium).path == OTHER_ISO


def test_an_upgrade_that_has_the_drive_is_not_its_own_successor(session: Node) -> None:
    """Its agent waited for the result of one that the relay never heard of to be taken."""
    session.commands(OTHER_START, "d.1", campaign=OTHER_CAMPAIGN).medium_is_done()
    acks(session, "d.1")
    session.reports(wire.Progress("busy", UPGRADE), "g.2", **of(OTHER_CAMPAIGN))
    session.commands(OTHER_START, "d.2", campaign=OTHER_CAMPAIGN).medium_is_done()
    acks(session, "d.2")
    session.commands(THIRD_START, "e.1", campaign=THIRD_CAMPAIGN)
    acks(session, "e.1")
    session.reports(RESULT, "g.3", **of(OTHER_CAMPAIGN))
    assert session.broker_answers().the(InsertMedium).path == THIRD_ISO


def test_an_exchange_that_is_tried_again_brings_back_no_disc_of_one_that_is_over(session: Node) -> None:
    other, third = (
        replace(start, deadline=START.deadline + more)
        for start, more in ((OTHER_START, 1.0), (THIRD_START, 900.0))
    )
    session.starts()
    first = session.commands(other, "d.1", campaign=OTHER_CAMPAIGN).the(Wake)
    acks(session, "d.1")
    session.now = other.deadline - 1.0
    session.reports(RESULT).broker_answers().medium_is_done(Reason.MEDIA_ERROR, "libvirt cannot be reached")
    retry = session.the(Wake)
    session.commands(third, "e.1", campaign=THIRD_CAMPAIGN)
    acks(session, "e.1")
    due = session.happens(first.event).the(Wake)
    session.now = other.deadline
    assert session.happens(due.event).the(InsertMedium).path == THIRD_ISO
    session.medium_is_done()
    session.now += retry.after_s
    assert session.happens(retry.event).the(EjectMedium).campaign_id == CAMPAIGN


def test_a_start_that_was_not_handed_over_keeps_the_drive_from_nobody(session: Node) -> None:
    number = session.commands(START).the(InsertMedium).number
    session.happens(BrokerDown())
    session.happens(MediumDone(VM, number), BrokerUp())
    session.opens()
    assert session.commands(OTHER_START, "d.1", campaign=OTHER_CAMPAIGN).the(InsertMedium).path == OTHER_ISO


def test_a_guest_that_calls_one_upgrade_first_and_then_the_other_changes_discs_now_and_then(
    session: Node,
) -> None:
    starts_two(session)
    acks(session, "d.1")
    exchanges = 0
    for number in range(100):
        for one, first in ((CAMPAIGN, OTHER_CAMPAIGN), (OTHER_CAMPAIGN, CAMPAIGN)):
            word = wire.Progress("busy", ids.upgrade_id(first, VM, 1))
            session.now += 0.1
            inserted = session.reports(word, f"g.{number}.{one}", **of(one)).of(InsertMedium)
            session.broker_answers()
            exchanges += len(inserted)
            session.happens(*(MediumDone(VM, effect.number) for effect in inserted))
    assert 1 <= exchanges <= Limits().looks_burst


def test_a_command_that_comes_again_before_it_was_handed_over_takes_the_place_of_the_first(
    session: Node,
) -> None:
    """Each start of a VM whose drive is slow would keep one of the deliveries that the whole node may have."""
    number = session.commands(START, "c.1").the(InsertMedium).number
    assert session.commands(OTHER_START, "d.1", campaign=OTHER_CAMPAIGN).effects == []
    for repeated in range(2, 10):
        assert session.commands(OTHER_START, f"d.{repeated}", campaign=OTHER_CAMPAIGN).effects == [
            AckDelivery(session.tag - 1)
        ]
    session.happens(MediumDone(VM, number))
    carried = [frame.message.message_id for frame in session.frames() if isinstance(frame, wire.Carry)]
    assert carried == ["c.1", "d.9"]


def test_a_successor_that_the_agent_refused_gets_no_disc(session: Node) -> None:
    starts_two(session)
    session.says(wire.Ack(session=session.session, message_id="d.1", refused="busy"))
    assert session.reports(RESULT).broker_answers().the(EjectMedium).campaign_id == CAMPAIGN


def test_a_successor_that_ended_first_gets_no_disc_and_leaves_none(session: Node) -> None:
    """The playbook may have put its disc there."""
    starts_two(session)
    session.reports(RESULT, "g.2", **of_other_campaign())
    assert session.broker_answers().the(EjectMedium).campaign_id == OTHER_CAMPAIGN
    session.medium_is_done()
    assert session.reports(RESULT).broker_answers().the(EjectMedium).campaign_id == CAMPAIGN


def test_a_successor_that_ended_after_the_deadline_of_the_first_leaves_no_disc(session: Node) -> None:
    """Its disc came in by the playbook, so the relay never put it there."""
    starts_two(session)
    session.now = START.deadline
    session.reports(RESULT, "g.2", **of_other_campaign())
    assert session.broker_answers().the(EjectMedium).campaign_id == OTHER_CAMPAIGN


def test_a_start_that_the_agent_put_behind_another_gives_the_drive_back_to_that(session: Node) -> None:
    """A relay that was restarted, or to which the VM migrated, hears the waiting upgrade's start first."""
    assert session.commands(OTHER_START, "d.1", campaign=OTHER_CAMPAIGN).the(InsertMedium).path == OTHER_ISO
    session.medium_is_done()
    current = ids.upgrade_id(CAMPAIGN, VM, 1)
    session.reports(wire.Progress("busy", current), "g.2", **of_other_campaign()).broker_answers()
    assert session.commands(START, "c.2").the(InsertMedium).path == ISO
    session.medium_is_done()
    assert session.reports(RESULT, "g.3").broker_answers().the(InsertMedium).path == OTHER_ISO


def test_a_start_that_waited_for_such_a_drive_gets_it_when_the_agent_says_so(session: Node) -> None:
    session.commands(OTHER_START, "d.1", campaign=OTHER_CAMPAIGN).medium_is_done()
    session.commands(START, "c.2")
    assert session.of(InsertMedium) == []
    current = ids.upgrade_id(CAMPAIGN, VM, 1)
    session.reports(wire.Progress("busy", current), "g.2", **of_other_campaign())
    assert session.the(InsertMedium).path == ISO
    session.medium_is_done().reports(RESULT, "g.3").broker_answers()
    assert session.the(InsertMedium).path == OTHER_ISO


def test_an_upgrade_past_its_deadline_keeps_the_drive_from_nobody(session: Node) -> None:
    session.starts()
    session.now = START.deadline
    later = replace(OTHER_START, deadline=session.now + 60)
    assert session.commands(later, "d.1", campaign=OTHER_CAMPAIGN).the(InsertMedium).path == OTHER_ISO


@pytest.mark.parametrize(("generation", "counter"), [("new", 9), ("g", 2)])
def test_an_agent_that_lost_its_journal_keeps_the_drive_from_nobody(
    session: Node, generation: str, counter: int
) -> None:
    session.starts().says(wire.Hello(nonce="n", generation=generation, counter=counter))
    [welcome] = (frame for frame in session.frames() if isinstance(frame, wire.Welcome))
    session.session = welcome.session
    assert session.commands(OTHER_START, "d.1", campaign=OTHER_CAMPAIGN).the(InsertMedium).path == OTHER_ISO


def test_a_start_that_the_agent_refused_keeps_the_drive_from_nobody(session: Node) -> None:
    session.commands(START).medium_is_done()
    session.says(wire.Ack(session=session.session, message_id="c.1", refused="forgotten"))
    assert session.commands(OTHER_START, "d.1", campaign=OTHER_CAMPAIGN).the(InsertMedium).path == OTHER_ISO


def test_an_old_coordinators_start_does_not_cost_the_upgrade_its_disc(session: Node) -> None:
    session.starts().commands(START, "c.2").medium_is_done()
    session.says(wire.Ack(session=session.session, message_id="c.2", refused="stale_claim"))
    assert session.commands(OTHER_START, "d.1", campaign=OTHER_CAMPAIGN).of(InsertMedium) == []


def test_a_late_result_of_an_earlier_attempt_leaves_the_disc_of_this_one(session: Node) -> None:
    session.starts()
    session.commands(START, "c.2", attempt=2).medium_is_done()
    assert session.reports(RESULT).broker_answers().of(EjectMedium) == []


def test_a_result_of_an_upgrade_that_began_before_the_relay_frees_the_drive(session: Node) -> None:
    assert session.reports(RESULT).broker_answers().the(EjectMedium).campaign_id == CAMPAIGN


def test_a_result_that_is_said_again_and_again_with_the_tray_locked_costs_no_more_than_once(
    session: Node,
) -> None:
    """It comes while the disc is being ejected, so that another try seems to be wanted each time."""
    session.starts()
    session.reports(RESULT).broker_answers()
    logs = tries = 0
    while session.of(EjectMedium):
        tries += 1
        number = session.the(EjectMedium).number
        session.reports(RESULT, f"g.{tries}").broker_answers()
        assert session.of(EjectMedium) == []
        session.happens(MediumDone(VM, number, Reason.TRAY_LOCKED, "locked"))
        logs += len(session.of(Log))
        for wake in session.of(Wake):
            session.now += wake.after_s
            session.happens(wake.event)
    assert tries == logs == Limits().eject_tries
    session.now += 3600.0
    session.reports(RESULT, "g.0").broker_answers()
    assert session.of(EjectMedium) == [], (
        "the log says that it stays until it is ejected by hand or by cleanup"
    )


def test_a_guest_that_says_results_without_end_has_its_drive_looked_at_now_and_then(session: Node) -> None:
    looks = 0
    for number in range(200):
        session.now += 0.1
        looks += len(session.reports(RESULT, f"g.{number}").broker_answers().of(EjectMedium))
        if session.of(EjectMedium):
            session.medium_is_done()
    assert looks == Limits().looks_burst


def test_of_two_discs_that_may_be_there_each_is_taken_out_whatever_becomes_of_the_other(
    session: Node,
) -> None:
    """The relay began anew, and does not know which of the two is in the drive; libvirt cannot be reached at first."""
    number = session.reports(RESULT).broker_answers().the(EjectMedium).number
    session.reports(RESULT, "g.2", **of_other_campaign()).broker_answers()
    session.happens(MediumDone(VM, number, Reason.MEDIA_ERROR, "libvirt cannot be reached"))
    assert session.the(EjectMedium).campaign_id == OTHER_CAMPAIGN
    wake = session.the(Wake)
    session.medium_is_done()
    session.now += wake.after_s
    assert session.happens(wake.event).the(EjectMedium).campaign_id == CAMPAIGN


def test_a_disc_that_waits_to_be_ejected_is_not_forgotten_over_the_end_of_the_next_upgrade(
    session: Node,
) -> None:
    session.starts().reports(RESULT).broker_answers().medium_is_done(Reason.TRAY_LOCKED, "mounted")
    wake = session.the(Wake)
    insertion = session.commands(OTHER_START, "c.2", campaign=OTHER_CAMPAIGN).the(InsertMedium)
    session.reports(RESULT, "g.2", **of_other_campaign()).broker_answers()
    session.happens(MediumDone(VM, insertion.number, Reason.TRAY_LOCKED, "mounted"))
    assert session.the(EjectMedium).campaign_id == OTHER_CAMPAIGN
    session.medium_is_done()
    session.now += wake.after_s
    assert session.happens(wake.event).the(EjectMedium).campaign_id == CAMPAIGN


def test_a_disc_that_got_half_in_leaves_together_with_the_one_of_before(session: Node) -> None:
    starts_two(session)
    number = session.reports(RESULT).broker_answers().the(InsertMedium).number
    session.reports(RESULT, "g.2", **of_other_campaign()).broker_answers()
    session.happens(MediumDone(VM, number, Reason.MEDIA_ERROR, "the definition keeps the other disc"))
    assert session.the(EjectMedium).campaign_id == CAMPAIGN
    assert session.medium_is_done().the(EjectMedium).campaign_id == OTHER_CAMPAIGN


def test_the_disc_of_before_leaves_also_if_its_successor_ended_before_it_was_known_to_have_none(
    session: Node,
) -> None:
    session.starts()
    session.commands(OTHER_START, "c.2", campaign=OTHER_CAMPAIGN)
    session.says(wire.Ack(session=session.session, message_id="c.2")).broker_answers()
    session.reports(RESULT).broker_answers()
    insertion = session.the(InsertMedium)
    other_names = {
        "campaign_id": OTHER_CAMPAIGN,
        "upgrade_id": ids.upgrade_id(OTHER_CAMPAIGN, VM, 1),
    }
    session.reports(RESULT, "g.2", **other_names).broker_answers()
    session.happens(MediumDone(VM, insertion.number, Reason.NO_MEDIA, "it is not here"))
    assert session.the(EjectMedium).campaign_id == CAMPAIGN
