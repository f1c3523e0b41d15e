# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can happen to the agent, and what its lifecycle wants done about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

from .memory import Upgrade
from .wire import Facts, Message

# Events.


@dataclass(frozen=True)
class Failure:
    """Why an upgrade cannot go on: ``stage`` and ``code`` are stable words, ``detail`` is for people."""

    stage: str
    code: str
    detail: str = ""


@dataclass(frozen=True)
class Restarted:
    """The agent begins, with what the journal remembers."""


@dataclass(frozen=True)
class Welcomed:
    """A session is open. ``generation`` is a fresh name, used if the journal turns out to be another VM's."""

    vm: str
    generation: str


@dataclass(frozen=True)
class Commanded:
    """A start, notification or cancel came."""

    message: Message


@dataclass(frozen=True)
class Acknowledged:
    """The relay took one of our messages, or (``refused``) never will."""

    message_id: str
    refused: str = ""


@dataclass(frozen=True)
class Inspected:
    """The disc and the installed version were looked at; without ``failure`` all the other fields hold."""

    upgrade_id: str
    unmounted: bool
    failure: Failure | None = None
    component: str = ""
    disc_version: str = ""
    installed_version: str = ""
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """The private copy is there and matches its digests, unless there is a ``failure``."""

    upgrade_id: str
    unmounted: bool
    failure: Failure | None = None


@dataclass(frozen=True)
class Answered:
    """The user said yes or no."""

    upgrade_id: str
    confirmed: bool


@dataclass(frozen=True)
class Installed:
    """The installer ended, or was found gone after a restart.

    ``exit_code`` is None if nobody saw its end; ``version`` is None if it could not be read, and then ``failure`` says why.
    ``timed_out`` says that it was killed at its time limit. ``failure`` alone says that it could not be run.
    """

    upgrade_id: str
    version: str | None
    exit_code: int | None = None
    timed_out: bool = False
    duration_s: float = 0.0
    log_tail: str = ""
    failure: Failure | None = None


@dataclass(frozen=True)
class Ticked:
    """Time has passed."""


@dataclass(frozen=True)
class Unrecorded:
    """The journal could not keep what ``event`` would have changed, so it did not change."""

    event: Event
    detail: str


Event = Union[
    Restarted, Welcomed, Commanded, Acknowledged, Inspected, Prepared, Answered, Installed, Ticked, Unrecorded
]

# Effects, to be done in order after the new memory is safe.


@dataclass(frozen=True)
class Acknowledge:
    """Tell the relay that a command is safe here, or (``refused``) that it will never be taken."""

    message_id: str
    refused: str = ""


@dataclass(frozen=True)
class Transmit:
    """Send a message of the outbox, if a session is open."""

    message: Message


@dataclass(frozen=True)
class Greet:
    """Open a new session: what was said in the last hello holds no more."""


@dataclass(frozen=True)
class Inspect:
    """Find the disc, check it, read the installed version, gather facts, unmount."""

    upgrade: Upgrade


@dataclass(frozen=True)
class Prepare:
    """Copy the disc's files, check the copy, unmount."""

    upgrade: Upgrade


@dataclass(frozen=True)
class Install:
    """Run the installer from the private copy, then read the version."""

    upgrade: Upgrade


@dataclass(frozen=True)
class Settle:
    """After a restart: wait for an installer that still runs, then read the version. Never run one."""

    upgrade: Upgrade


@dataclass(frozen=True)
class Ask:
    """Ask the user."""

    upgrade: Upgrade


@dataclass(frozen=True)
class StopAsking:
    """The question is closed."""


@dataclass(frozen=True)
class Abandon:
    """The running task should end soon; its event is still wanted."""


@dataclass(frozen=True)
class Clean:
    """Unmount, and remove the private copies: no upgrade is in progress any more."""


@dataclass(frozen=True)
class Repeat:
    """Handle another event, as a step of its own."""

    event: Event


Effect = Union[
    Acknowledge, Transmit, Greet, Inspect, Prepare, Install, Settle, Ask, StopAsking, Abandon, Clean, Repeat
]
