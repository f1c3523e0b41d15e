# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of one VM's channel, what moves it between them, and what the relay remembers of the VM.

`TRANSITIONS` is the whole of it: `Vm.step` is the only place that changes a state, and what the table does not hold
cannot happen.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Union

from .rates import Bucket, Limits
from .wire import Message


class State(Enum):
    """How far the relay is with a VM's agent."""

    ABSENT = "absent"  # no domain with the agent's port runs here
    CONNECTING = "connecting"  # the socket is not connected, or not yet
    CONNECTED = "connected"  # connected, but the broker is away: what arrives is thrown away
    KNOCKED = "knocked"  # the relay asked for a hello: all else is thrown away
    OPEN = "open"  # a session: reports go up, commands go down


class Kind(Enum):
    """What moves a channel."""

    DOMAIN_UP = "domain up"
    DOMAIN_DOWN = "domain down"
    CHANNEL_UP = "channel up"
    CHANNEL_DOWN = "channel down"
    KNOCK = "knock"
    HELLO = "hello"
    BROKER_DOWN = "broker down"


TRANSITIONS: dict[tuple[State, Kind], State] = {
    (State.ABSENT, Kind.DOMAIN_UP): State.CONNECTING,
    (State.CONNECTING, Kind.CHANNEL_UP): State.CONNECTED,
    (State.CONNECTING, Kind.CHANNEL_DOWN): State.CONNECTING,
    (State.CONNECTING, Kind.BROKER_DOWN): State.CONNECTING,
    (State.CONNECTING, Kind.DOMAIN_DOWN): State.ABSENT,
    (State.CONNECTED, Kind.KNOCK): State.KNOCKED,
    (State.CONNECTED, Kind.BROKER_DOWN): State.CONNECTED,
    (State.CONNECTED, Kind.CHANNEL_DOWN): State.CONNECTING,
    (State.CONNECTED, Kind.DOMAIN_DOWN): State.ABSENT,
    (State.KNOCKED, Kind.KNOCK): State.KNOCKED,
    (State.KNOCKED, Kind.HELLO): State.OPEN,
    (State.KNOCKED, Kind.BROKER_DOWN): State.CONNECTED,
    (State.KNOCKED, Kind.CHANNEL_DOWN): State.CONNECTING,
    (State.KNOCKED, Kind.DOMAIN_DOWN): State.ABSENT,
    (State.OPEN, Kind.HELLO): State.OPEN,  # the agent restarted, or was asked to: a new session
    (State.OPEN, Kind.KNOCK): State.OPEN,  # the session holds until the next hello
    (State.OPEN, Kind.BROKER_DOWN): State.CONNECTED,
    (State.OPEN, Kind.CHANNEL_DOWN): State.CONNECTING,
    (State.OPEN, Kind.DOMAIN_DOWN): State.ABSENT,
}


class IllegalTransition(Exception):
    """An event that the state does not know: a mistake in the relay, not in its input."""


@dataclass(frozen=True)
class Command:
    """A command that came from the broker and is not yet handed over. ``tag`` is None once the broker forgot it."""

    tag: int | None
    message: Message


@dataclass(frozen=True)
class Ejection:
    """Wish to take the disc of a campaign out, because its upgrade is over, and to put that of ``successor`` in.

    ``due`` is false while a retry waits.
    """

    campaign_id: str
    successor: Message | None = None
    tries: int = 0
    due: bool = True


Operation = Union[Command, Ejection]


@dataclass
class Vm:
    """What the relay remembers of one running domain."""

    uuid: str
    name: str
    path: str
    limits: Limits
    state: State = State.ABSENT
    session: str = ""
    journal: tuple[str, int] = ("", 0)  # generation and counter of the agent's journal at its last hello
    garbage: int = 0  # lines thrown away since the last hello
    knocked_at: float = float("-inf")
    knock_due: bool = False
    operation: Operation | None = None  # what is being done to the drive
    operation_number: int = 0
    ejections: dict[str, Ejection] = field(default_factory=dict)  # what is to be done to it next, by campaign
    given_up: str = ""  # campaign whose disc did not come out in all tries
    tenant: Message | None = None  # the start of the upgrade that it belongs to
    successor: Message | None = None  # the start that the agent put behind the tenant's
    taken: dict[str, Message] = field(default_factory=dict)  # the starts that the agent took, by upgrade ID
    drive_due_at: float = float("inf")  # when it is looked whether the tenant is past its deadline
    waiting: deque[Command] = field(default_factory=deque)  # behind the operation
    handed: OrderedDict[str, Message] = field(
        default_factory=OrderedDict
    )  # commands that the agent did not acknowledge
    unconfirmed: set[str] = field(
        default_factory=set
    )  # reports that the broker did not confirm, by message ID
    started: Message | None = None  # the start that was handed over last
    refusals: OrderedDict[str, int] = field(default_factory=OrderedDict)  # reported ones, by upgrade ID
    finished: str = ""  # upgrade ID of the last result that is safe

    def __post_init__(self) -> None:
        limits = self.limits
        self.messages = Bucket(limits.messages_per_s, limits.messages_burst)
        self.bytes = Bucket(limits.bytes_per_s, limits.bytes_burst)
        self.daily = Bucket(limits.bytes_per_day / 86400.0, limits.bytes_per_day)
        self.hellos = Bucket(limits.hellos_per_s, limits.hellos_burst)
        self.logs = Bucket(limits.logs_per_s, limits.logs_burst)
        self.looks = Bucket(limits.looks_per_s, limits.looks_burst)

    def step(self, kind: Kind) -> None:
        """Moves the state.

        :raises IllegalTransition: the table does not know it; nothing was changed.
        """
        try:
            self.state = TRANSITIONS[self.state, kind]
        except KeyError:
            raise IllegalTransition(f"{self.name}: {kind.value} while {self.state.value}") from None

    def admits(self, size: int, elapsed: float) -> bool:
        """Whether the guest may send ``size`` bytes more; they are charged if so."""
        return (
            self.messages.take(1, elapsed)
            and self.bytes.take(size, elapsed)
            and self.daily.take(size, elapsed)
        )

    def may_report_refusal(self, upgrade_id: str) -> bool:
        """Whether one more refusal may be reported for the upgrade; it is counted if so."""
        count = self.refusals.get(upgrade_id, 0)
        if count >= self.limits.refusals:
            return False
        self.refusals[upgrade_id] = count + 1
        while len(self.refusals) > self.limits.refused_upgrades:
            self.refusals.popitem(last=False)
        return True
