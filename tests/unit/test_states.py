# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole table of an upgrade's states: each state meets each record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from unit.campaign_rig import BEGIN, CAMPAIGN, SUCCEEDED, TARGET, Rig, rows

from ansible_collections.isolift.vm.plugins.module_utils.ids import upgrade_id
from ansible_collections.isolift.vm.plugins.module_utils.records import Ended, Held, Notified
from ansible_collections.isolift.vm.plugins.module_utils.states import (
    DEADLINE_OUTCOME,
    FINAL,
    GUEST_OUTCOMES,
    OUTCOME_ORDER,
    TRANSITIONS,
    Event,
    State,
)
from ansible_collections.isolift.vm.plugins.module_utils.upgrade import Upgrade
from ansible_collections.isolift.vm.plugins.module_utils.wire import (
    Cancel,
    Confirmation,
    Delivered,
    Notification,
    Payload,
    Presence,
    Progress,
    Refused,
    Request,
    Result,
    Start,
    Undeliverable,
)

UNDER_WAY = [state for state in State if state not in FINAL]
EVERYWHERE = frozenset(UNDER_WAY)
NOWHERE: frozenset[State] = frozenset()
NOTIFIED = frozenset({State.NOTIFIED})


@dataclass(frozen=True)
class Case:
    """A record; what it means; what else it changes in which states, whether or not it moves the upgrade."""

    payload: Payload
    event: Event | None = None
    notes: frozenset[str] = frozenset()
    where: frozenset[State] = NOWHERE
    outcome: State | None = None


MOVED = {"state", "since", "reason", "delivered", "unknown", "ask_from", "due", "tries"}

CASES = {
    "start delivered": Case(
        Delivered("start", "c.1"), Event.START_DELIVERED, frozenset({"answered_at"}), EVERYWHERE
    ),
    "notification delivered": Case(
        Delivered("notification", "c.1"), None, frozenset({"delivered", "reason"}), NOTIFIED
    ),
    "cancel delivered": Case(Delivered("cancel", "c.1")),
    "nonsense delivered": Case(Delivered("\x1b", "c.1")),
    "undeliverable": Case(
        Undeliverable("start", "c.1", "no_agent"), None, frozenset({"reason"}), EVERYWHERE - {State.HELD}
    ),
    "no drive": Case(
        Undeliverable("start", "c.1", "no_drive", "x"),
        None,
        frozenset({"reason", "ineligible", "tries"}),
        EVERYWHERE,
    ),
    "refused": Case(Refused("not_json", "x"), None, frozenset({"reason", "refusals"}), EVERYWHERE),
    "request": Case(
        Request("1.5", facts={"a": 1}),
        Event.REQUEST,
        frozenset({"installed_version", "facts", "busy_with", "requested_at"}),
    ),
    "held": Case(Held("n", "not now"), Event.HELD),
    "notified": Case(Notified("n", 7, BEGIN + 99.0), Event.NOTIFIED, frozenset({"permit", "expires_at"})),
    "confirm": Case(Confirmation(1, "confirm"), Event.CONFIRMED),
    "decline": Case(Confirmation(1, "decline"), None, frozenset({"delivered", "reason"}), NOTIFIED),
    "perhaps": Case(Confirmation(1, "perhaps"), None, frozenset({"delivered", "reason"}), NOTIFIED),
    "installing": Case(Progress("installing"), Event.INSTALLING),
    "busy": Case(Progress("busy", "other"), None, frozenset({"reason", "busy_with"}), EVERYWHERE),
    "unknown stage": Case(Progress("dreaming")),
    "unknown ending": Case(Ended("n", "perhaps", "x")),
    "ending that is none": Case(Ended("n", "held", "x")),
    "start": Case(Start("c", "2", "d", "/m", 1.0, "ask")),
    "notification": Case(Notification(1, 1.0)),
    "cancel": Case(Cancel()),
    "presence": Case(Presence("node1")),
    **{f"result {state.value}": Case(Result(state.value), outcome=state) for state in State},
    "result perhaps": Case(Result("perhaps"), outcome=State.FAILED),
    "success": Case(SUCCEEDED, outcome=State.SUCCEEDED),
    **{f"ended {state.value}": Case(Ended("n", state.value, "x"), outcome=state) for state in FINAL},
}


def upgrade_in(state: State) -> Upgrade:
    (row,) = rows(1)
    upgrade = Upgrade(row, upgrade_id(CAMPAIGN, row.vm, 1), BEGIN)
    upgrade.state = state
    upgrade.reason = "as before"
    upgrade.busy_with = "as before"
    upgrade.tries = 3
    return upgrade


def fields(upgrade: Upgrade) -> dict[str, Any]:
    return {name: getattr(upgrade, name) for name in Upgrade.__slots__}


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before if before[name] != after[name]} - {"heard"}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("state", State)
def test_a_record_moves_an_upgrade_as_the_table_says_and_changes_nothing_else(
    state: State, case: Case
) -> None:
    rig = Rig()
    rig.now = BEGIN + 5.0
    upgrade = upgrade_in(state)
    before = fields(upgrade)
    said = upgrade.apply(rig.message(case.payload, message_id="g.1"), TARGET)
    after = fields(upgrade)
    touched = changed(before, after)
    target = TRANSITIONS.get((state, case.event)) if case.event else None
    if state in FINAL and isinstance(case.payload, (Request, Confirmation)):
        assert touched == {"release"}, "the agent should let go of it"
    elif state is State.INSTALLING and isinstance(case.payload, Request):
        assert touched == {"lost"}, "the agent forgot that it had begun to install"
    elif case.outcome:
        _check_ending(state, case, upgrade, touched)
    elif target:
        assert upgrade.state is target
        assert upgrade.since == rig.now
        assert touched <= MOVED | case.notes
    else:
        assert upgrade.state is state
        assert touched == (case.notes if state in case.where else set())
    assert said is bool(touched)


def _check_ending(state: State, case: Case, upgrade: Upgrade, touched: set[str]) -> None:
    payload = case.payload
    if state in FINAL:
        kept = ""
        if isinstance(payload, Result):
            kept = "result" if payload.outcome == state.value else "late_result"
        assert touched == ({kept} if kept else set())
        assert not kept or getattr(upgrade, kept) is payload
        return
    assert upgrade.final
    assert touched <= MOVED | {"stage", "ended_at", "result", "facts", "release"}
    if isinstance(case.payload, Ended):
        assert (upgrade.state, upgrade.result) == (case.outcome, None)
    else:
        assert upgrade.result is case.payload


@pytest.mark.parametrize("state", State)
def test_a_result_is_believed_only_if_it_names_an_outcome_of_a_guest_and_reads_the_target(
    state: State,
) -> None:
    for version, word in (("", "no"), (TARGET, "the")):
        upgrade = upgrade_in(State.INSTALLING)
        upgrade.apply(Rig().message(Result(state.value, version_after=version)), TARGET)
        if state not in GUEST_OUTCOMES:
            assert (upgrade.state, upgrade.stage) == (State.FAILED, "result"), word
            assert repr(state.value) in upgrade.reason
        elif state in (State.SUCCEEDED, State.UP_TO_DATE) and version != TARGET:
            assert (upgrade.state, upgrade.stage) == (State.FAILED, "verify")
            assert "''" in upgrade.reason
        else:
            assert upgrade.state is state


# The tables themselves.


def test_nothing_leaves_a_final_state() -> None:
    assert not FINAL & {state for state, _event in TRANSITIONS}
    assert set(OUTCOME_ORDER) == FINAL
    assert GUEST_OUTCOMES <= FINAL


def test_moves_lead_among_the_states_that_are_under_way_and_the_deadline_ends_each_of_them() -> None:
    assert not FINAL & set(TRANSITIONS.values())
    assert set(DEADLINE_OUTCOME) == set(UNDER_WAY)
    assert {outcome for outcome, _stage in DEADLINE_OUTCOME.values()} <= FINAL - GUEST_OUTCOMES


def test_every_state_can_be_reached_and_every_event_moves_something() -> None:
    reached = {State.PENDING}
    while more := {target for (state, _unused), target in TRANSITIONS.items() if state in reached} - reached:
        reached |= more
    assert reached == set(UNDER_WAY)
    assert {event for _state, event in TRANSITIONS} == set(Event)


def test_a_permit_is_given_only_to_one_who_asked() -> None:
    entries = {state for (state, _event), target in TRANSITIONS.items() if target is State.NOTIFIED}
    assert entries == {State.REQUESTED, State.HELD, State.NOTIFIED}


def test_once_the_installer_may_run_nothing_but_an_outcome_follows() -> None:
    assert not [event for state, event in TRANSITIONS if state is State.INSTALLING]


def test_an_agent_that_is_heard_installing_is_believed_wherever_it_was_thought_to_be() -> None:
    for state in UNDER_WAY:
        if state is not State.INSTALLING:
            assert TRANSITIONS[state, Event.INSTALLING] is State.INSTALLING
