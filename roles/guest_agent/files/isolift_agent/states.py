# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of one upgrade as the agent sees them, and every move between them.

`TRANSITIONS` is the whole truth: an event whose pair is not in it leaves the upgrade as it is.
"""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    """Where an upgrade is."""

    IDLE = "idle"  # the agent has not heard of it
    WAITING = "waiting"  # another upgrade is in progress; this one is next
    INSPECTING = "inspecting"  # looking for the disc and at the installed version
    REQUESTED = "requested"  # the versions differ; a permit is awaited
    ASKING = "asking"  # a permit is held and the user is being asked
    VERIFYING = "verifying"  # agreed to; the disc's files are copied and checked
    INSTALLING = "installing"  # the installer was, or may have been, started
    CANCELLING = "cancelling"  # given up; over as soon as the running task lets go of the disc
    DONE = "done"  # over; it never runs again


class Kind(str, Enum):
    """What an event means to the upgrade it belongs to."""

    START = "start"
    QUEUE = "start while busy"
    TURN = "the other has ended"
    UNUSABLE = "cannot go on"  # no usable disc, no space, no journal
    SAME = "versions equal"
    DIFFERENT = "versions differ"
    EARLY = "permit while inspecting"
    ASK = "permit, consent needed"
    GO = "permit, consent known"
    LATE = "permit ran out"
    CONFIRM = "confirm in time"
    CONFIRM_LATE = "confirm, permit ran out"
    DECLINE = "decline"
    VERIFIED = "files verified"
    INSTALLED = "installer ended"
    CANCEL = "cancel"
    RELEASED = "task ended"
    EXPIRE = "deadline"
    RESTART = "agent restarted"


TRANSITIONS: dict[tuple[State, Kind], State] = {
    (State.IDLE, Kind.START): State.INSPECTING,
    (State.IDLE, Kind.QUEUE): State.WAITING,
    (State.IDLE, Kind.UNUSABLE): State.DONE,
    (State.IDLE, Kind.CANCEL): State.DONE,
    (State.WAITING, Kind.QUEUE): State.WAITING,
    (State.WAITING, Kind.TURN): State.INSPECTING,
    (State.WAITING, Kind.UNUSABLE): State.DONE,
    (State.WAITING, Kind.CANCEL): State.DONE,
    (State.WAITING, Kind.EXPIRE): State.DONE,
    (State.INSPECTING, Kind.UNUSABLE): State.DONE,
    (State.INSPECTING, Kind.SAME): State.DONE,
    (State.INSPECTING, Kind.DIFFERENT): State.REQUESTED,
    (State.INSPECTING, Kind.EARLY): State.INSPECTING,
    (State.INSPECTING, Kind.ASK): State.ASKING,
    (State.INSPECTING, Kind.GO): State.VERIFYING,
    (State.INSPECTING, Kind.CANCEL): State.CANCELLING,
    (State.INSPECTING, Kind.EXPIRE): State.CANCELLING,
    (State.INSPECTING, Kind.RESTART): State.INSPECTING,
    (State.REQUESTED, Kind.START): State.INSPECTING,
    (State.REQUESTED, Kind.LATE): State.INSPECTING,
    (State.REQUESTED, Kind.ASK): State.ASKING,
    (State.REQUESTED, Kind.GO): State.VERIFYING,
    (State.REQUESTED, Kind.CANCEL): State.DONE,
    (State.REQUESTED, Kind.EXPIRE): State.DONE,
    (State.REQUESTED, Kind.RESTART): State.REQUESTED,
    (State.ASKING, Kind.ASK): State.ASKING,
    (State.ASKING, Kind.CONFIRM): State.VERIFYING,
    (State.ASKING, Kind.CONFIRM_LATE): State.INSPECTING,
    (State.ASKING, Kind.DECLINE): State.DONE,
    (State.ASKING, Kind.UNUSABLE): State.DONE,
    (State.ASKING, Kind.CANCEL): State.DONE,
    (State.ASKING, Kind.EXPIRE): State.DONE,
    (State.ASKING, Kind.RESTART): State.ASKING,
    (State.VERIFYING, Kind.UNUSABLE): State.DONE,
    (State.VERIFYING, Kind.VERIFIED): State.INSTALLING,
    (State.VERIFYING, Kind.LATE): State.INSPECTING,
    (State.VERIFYING, Kind.CANCEL): State.CANCELLING,
    (State.VERIFYING, Kind.EXPIRE): State.CANCELLING,
    (State.VERIFYING, Kind.RESTART): State.INSPECTING,
    (State.INSTALLING, Kind.INSTALLED): State.DONE,
    (State.INSTALLING, Kind.RESTART): State.INSTALLING,
    (State.CANCELLING, Kind.RELEASED): State.DONE,
    (State.CANCELLING, Kind.RESTART): State.DONE,
}
"""(state, what happened) → next state."""
