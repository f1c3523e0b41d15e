# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The matrix of faults as data: which part is killed, at which message, on which side of what it does there."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .intercept import Stop


class Part(enum.Enum):
    """What is killed, always with SIGKILL."""

    CONTROLLER = "controller"  # ansible-playbook and every process below it
    RELAY = "relay"  # the main process of its unit
    AGENT = "agent"  # the process in the guest
    BROKER = "broker"  # the Erlang machine


class Moment(enum.Enum):
    """The message at which it is killed; the values are words of the wire."""

    START = "start"
    REQUEST = "request"
    NOTIFICATION = "notification"
    CONFIRMATION = "confirmation"
    RESULT = "result"


class Side(enum.Enum):
    """Which side of the deed the kill is on. The first two are the agent's alone."""

    BEFORE_FSYNC = "before the fsync"
    AFTER_FSYNC = "after the fsync"
    BEFORE_SEND = "before the send"
    AFTER_SEND = "after the send"


DOWN = (Moment.START, Moment.NOTIFICATION)
"""What the controller sends; the rest comes from the agent."""


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix."""

    part: Part
    moment: Moment
    side: Side

    def __str__(self) -> str:
        return f"{self.part.value} at {self.moment.value}, {self.side.value}"


def cells_of(part: Part) -> tuple[Cell, ...]:
    """The cells in which ``part`` is killed."""
    sides = tuple(Side) if part is Part.AGENT else (Side.BEFORE_SEND, Side.AFTER_SEND)
    return tuple(Cell(part, moment, side) for moment in Moment for side in sides)


ALL = tuple(cell for part in Part for cell in cells_of(part))


def stop_of(cell: Cell) -> tuple[Stop, str]:
    """Where a cell's connection is stopped, and at which type of message. Not for the agent's cells.

    The controller's: at a command before and after the broker has it. At a report before it hears of it, and after: at what it
    would do next (the decision about a request, the campaign's end), or at its acknowledgement where it does nothing.

    The relay's: at a command before it gets it and after it handed it over; at a report as the controller at a command. The broker's:
    before it gets the message, and after it confirmed it.
    """
    before = cell.side is Side.BEFORE_SEND
    publishing = Stop.PUBLISHING if before else Stop.PUBLISHED
    delivering = Stop.DELIVERING if before else Stop.DELIVERED
    word = cell.moment.value
    if cell.part is Part.BROKER:
        return publishing, word
    if cell.part is Part.RELAY:
        return (delivering if cell.moment in DOWN else publishing), word
    if cell.moment in DOWN:
        return publishing, word
    if not before and cell.moment is Moment.REQUEST:
        return Stop.PUBLISHING, "notified"
    if not before and cell.moment is Moment.RESULT:
        return Stop.PUBLISHING, "closed"
    return delivering, word
