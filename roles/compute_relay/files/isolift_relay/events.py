# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay core's vocabulary: what happens (events) and what the core wants done about it (effects).

A VM is named by its domain's UUID everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Union

from .media import Reason

# Events


@dataclass(frozen=True)
class DomainUp:
    """A domain with the agent's port runs here; ``path`` is the host's end of the port."""

    vm: str
    name: str
    path: str


@dataclass(frozen=True)
class DomainDown:
    """The domain stopped, moved away or lost its port."""

    vm: str


@dataclass(frozen=True)
class ChannelUp:
    """The channel's socket is connected."""

    vm: str


@dataclass(frozen=True)
class ChannelDown:
    """The channel's socket is no longer connected; it is being connected again."""

    vm: str


@dataclass(frozen=True)
class Line:
    """The guest sent a line; its newline is cut off."""

    vm: str
    data: bytes


@dataclass(frozen=True)
class LineTooLong:
    """The guest sent more than a frame may have without a newline; it was thrown away."""

    vm: str


@dataclass(frozen=True)
class BrokerUp:
    """A new session with the broker: the queue is empty and nothing is bound."""


@dataclass(frozen=True)
class BrokerDown:
    """The broker's session is over: whatever was not confirmed never will be."""


@dataclass(frozen=True)
class Delivery:
    """A command arrived on the queue. ``tag`` acknowledges it."""

    tag: int
    body: bytes


class Outcome(Enum):
    """What became of a publication."""

    CONFIRMED = "confirmed"  # the journal has it
    GONE = "gone"  # there is no such journal: the campaign was deleted
    REFUSED = "refused"  # not now


@dataclass(frozen=True)
class Published:
    """The broker answered the publication ``token``."""

    token: int
    outcome: Outcome


@dataclass(frozen=True)
class MediumDone:
    """The VM's operation ``number`` is over. ``reason`` is None where it succeeded."""

    vm: str
    number: int
    reason: Reason | None = None
    detail: str = ""


@dataclass(frozen=True)
class EjectDue:
    """Time for the next try, after ``tries``, to eject a campaign's disc."""

    vm: str
    campaign_id: str
    tries: int


@dataclass(frozen=True)
class DriveDue:
    """The upgrade that has the VM's drive may be past its deadline, and another one waits for the drive."""

    vm: str


@dataclass(frozen=True)
class KnockDue:
    """Time to ask the VM's agent for a new session."""

    vm: str


Event = Union[
    DomainUp,
    DomainDown,
    ChannelUp,
    ChannelDown,
    Line,
    LineTooLong,
    BrokerUp,
    BrokerDown,
    Delivery,
    Published,
    MediumDone,
    EjectDue,
    DriveDue,
    KnockDue,
]

# Effects


@dataclass(frozen=True)
class OpenChannel:
    """Connect to the socket, and again whenever it breaks."""

    vm: str
    path: str


@dataclass(frozen=True)
class CloseChannel:
    """Leave the socket, without a further event."""

    vm: str


@dataclass(frozen=True)
class Write:
    """Send bytes to the guest."""

    vm: str
    data: bytes


@dataclass(frozen=True)
class Bind:
    """Route the VM's commands to this relay."""

    vm: str


@dataclass(frozen=True)
class Unbind:
    """Route the VM's commands here no more."""

    vm: str


@dataclass(frozen=True)
class Publish:
    """Publish persistently and mandatorily; answer with `Published`."""

    token: int
    exchange: str
    key: str
    body: bytes


@dataclass(frozen=True)
class Announce:
    """Publish transiently to a fanout exchange, where perhaps nobody listens."""

    exchange: str
    body: bytes


@dataclass(frozen=True)
class AckDelivery:
    """The broker may forget the delivery."""

    tag: int


@dataclass(frozen=True)
class InsertMedium:
    """Make sure that the ISO is in the VM's drive; answer with `MediumDone`."""

    vm: str
    number: int
    path: str


@dataclass(frozen=True)
class EjectMedium:
    """Take the campaign's ISO out of the VM's drive; answer with `MediumDone`."""

    vm: str
    number: int
    campaign_id: str


@dataclass(frozen=True)
class Wake:
    """Bring the event back after so many seconds."""

    after_s: float
    event: EjectDue | DriveDue | KnockDue


class Level(Enum):
    """How much a log line matters; the numbers are those of module logging."""

    INFO = 20
    WARNING = 30


@dataclass(frozen=True)
class Log:
    """A line for the node's administrator."""

    level: Level
    text: str


Effect = Union[
    OpenChannel,
    CloseChannel,
    Write,
    Bind,
    Unbind,
    Publish,
    Announce,
    AckDelivery,
    InsertMedium,
    EjectMedium,
    Wake,
    Log,
]
