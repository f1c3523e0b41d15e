# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of one upgrade as the controller sees them, and every move between them.

`TRANSITIONS` is the whole truth: a pair that is not in it does not move the upgrade. Messages may be lost, repeated or late,
so a guest that is heard to be further on is believed to be there; nothing moves an upgrade out of a final state.
"""

from __future__ import annotations

from enum import Enum
from typing import Mapping


class State(str, Enum):
    """Where an upgrade is. The values are the words of the documentation, the reports and the results."""

    PENDING = "pending"  # selected; its agent has not acknowledged the start
    STARTED = "started"  # the agent has the start
    REQUESTED = "requested"  # the agent asked for the upgrade and nobody judged it yet
    HELD = "held"  # a condition is not met; judged again with fresh facts
    NOTIFIED = "notified"  # a permit is journaled
    CONFIRMED = "confirmed"  # the user, or the policy, said yes; the agent verifies the disc
    INSTALLING = "installing"  # the installer was, or may have been, started

    SUCCEEDED = "succeeded"
    UP_TO_DATE = "up_to_date"
    FAILED = "failed"
    DECLINED = "declined"
    EXPIRED = "expired"
    INELIGIBLE = "ineligible"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


FINAL: frozenset[State] = frozenset(
    {
        State.SUCCEEDED,
        State.UP_TO_DATE,
        State.FAILED,
        State.DECLINED,
        State.EXPIRED,
        State.INELIGIBLE,
        State.UNREACHABLE,
        State.TIMED_OUT,
        State.CANCELLED,
        State.INTERRUPTED,
    }
)
"""States that nothing leaves: the outcomes."""

GUEST_OUTCOMES: frozenset[State] = frozenset(
    {State.SUCCEEDED, State.UP_TO_DATE, State.FAILED, State.DECLINED, State.CANCELLED, State.INTERRUPTED}
)
"""Outcomes that an agent's result may name; any other word there is a failure of the agent."""


class Event(str, Enum):
    """What a journal record means to the upgrade it belongs to."""

    START_DELIVERED = "start delivered"
    REQUEST = "request"
    HELD = "held"
    NOTIFIED = "notified"
    CONFIRMED = "confirm"
    INSTALLING = "installing"


_BEFORE_PERMIT = (State.PENDING, State.STARTED, State.REQUESTED, State.HELD)
_BEFORE_INSTALL = (*_BEFORE_PERMIT, State.NOTIFIED, State.CONFIRMED)

TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.PENDING, Event.START_DELIVERED): State.STARTED,
    **{(state, Event.REQUEST): State.REQUESTED for state in _BEFORE_INSTALL},
    (State.REQUESTED, Event.HELD): State.HELD,
    (State.REQUESTED, Event.NOTIFIED): State.NOTIFIED,
    (State.HELD, Event.NOTIFIED): State.NOTIFIED,
    (State.NOTIFIED, Event.NOTIFIED): State.NOTIFIED,
    (State.NOTIFIED, Event.CONFIRMED): State.CONFIRMED,
    **{(state, Event.INSTALLING): State.INSTALLING for state in _BEFORE_INSTALL},
}
"""(state, event) → next state. Besides these, a final record (a result, or an ending by the coordinator) moves every state that
is not final to the outcome it names."""

LIMITED: Mapping[State, tuple[str, str]] = {
    State.STARTED: ("request_s", "request"),
    State.CONFIRMED: ("verify_s", "verify"),
    State.INSTALLING: ("install_s", "install"),
}
"""States in which only the agent can go on, with the policy's limit for each and the stage in which it times out. Past the limit
an agent that answers but does not go on ends as timed_out; one that does not answer has until the campaign's deadline."""

DEADLINE_OUTCOME: Mapping[State, tuple[State, str]] = {
    State.PENDING: (State.UNREACHABLE, "start"),
    State.STARTED: (State.TIMED_OUT, "request"),
    State.REQUESTED: (State.TIMED_OUT, "notification"),
    State.HELD: (State.INELIGIBLE, "conditions"),
    State.NOTIFIED: (State.EXPIRED, "confirmation"),
    State.CONFIRMED: (State.TIMED_OUT, "install"),
    State.INSTALLING: (State.TIMED_OUT, "install"),
}
"""What the campaign's deadline makes of an upgrade that is still on its way: (outcome, stage)."""

OUTCOME_ORDER: tuple[State, ...] = tuple(state for state in State if state in FINAL)
"""The order in which outcomes are reported."""
