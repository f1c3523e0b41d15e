# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may go wrong in a run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What may go wrong."""

    OPENING_CRASH = "upgrade_start stopped in mid-opening"
    COORDINATOR_CRASH = "coordinator crashes"
    COORDINATOR_FROZEN = "coordinator freezes and wakes"
    COORDINATOR_CUT_OFF = "coordinator cut off from the broker"
    COORDINATOR_DELAYED = "coordinator's connection stalls"
    SECOND_COORDINATOR = "two coordinators at once"
    SECOND_CAMPAIGN = "two campaigns on one VM"
    CANCEL = "cancel in mid-campaign"
    BROKER_RESTART = "broker restarts"
    CONFIRM_LOST = "confirm lost with its connection"
    PUBLICATION_REFUSED = "publication refused by the broker"
    RECORD_DUPLICATED = "record stored twice"
    COMMAND_LOST = "command lost"
    COMMAND_DUPLICATED = "command delivered twice"
    COMMAND_REORDERED = "command late and out of order"
    PRESENCE_LOST = "presence lost"
    RELAY_CRASH = "relay crashes"
    RELAY_CUT_OFF = "relay cut off from the broker"
    RELAY_DELAYED = "relay's connection stalls"
    LIBVIRT_LOST = "libvirt restarts on a compute node"
    HOST_SKEW = "compute node's clock wrong"
    ISO_MISSING = "ISO missing on a compute node"
    PORT_BYTES_LOST = "bytes lost on the port"
    PORT_HALF_LINE = "half a line left on the port"
    PORT_LATE_BYTES = "bytes late on the port"
    AGENT_CRASH = "agent crashes"
    TORN_WRITE = "agent's journal write torn"
    DISK_FULL = "guest's disk full"
    CLOCK_WRONG = "guest's clock wrong"
    CLOCK_STEP = "guest's clock steps"
    GUEST_RESET = "guest reset"
    DOMAIN_RESTART = "domain off and on"
    DOMAIN_OFF = "domain off for long"
    DOMAIN_PAUSED = "domain paused"
    MIGRATION = "live migration"
    MIGRATION_EMPTY_DRIVE = "live migration that empties the drive"
    SNAPSHOT_REVERT = "snapshot reverted"
    CLONE = "disk cloned to another VM"
    FOREIGN_DISC = "foreign disc in the drive"
    INSTALLER_FAILS = "installer fails"
    INSTALLER_HANGS = "installer hangs"
    INSTALLER_DIES = "installer killed with its runner"
    INSTALLER_KILLS_AGENT = "installer restarts the agent"
    USER_DECLINES = "user declines"
    USER_LATE = "user answers after the permit"
    USER_NEVER = "user never answers"

    @property
    def local(self) -> bool:
        """Whether the part that comes to the point performs the fault itself, in the middle of what it does."""
        return self in _LOCAL


_LOCAL = {
    Kind.OPENING_CRASH,
    Kind.COORDINATOR_CRASH,
    Kind.RELAY_CRASH,
    Kind.AGENT_CRASH,
    Kind.TORN_WRITE,
    Kind.CONFIRM_LOST,
    Kind.PUBLICATION_REFUSED,
    Kind.RECORD_DUPLICATED,
    Kind.COMMAND_LOST,
    Kind.COMMAND_DUPLICATED,
    Kind.COMMAND_REORDERED,
    Kind.PRESENCE_LOST,
    Kind.PORT_BYTES_LOST,
    Kind.PORT_HALF_LINE,
    Kind.PORT_LATE_BYTES,
}


TRANSIENT = frozenset(
    kind
    for kind in Kind
    if kind.name.startswith(("COORDINATOR", "BROKER", "COMMAND", "RELAY", "PORT", "CLOCK"))
) | {
    Kind.OPENING_CRASH,
    Kind.SECOND_COORDINATOR,
    Kind.SECOND_CAMPAIGN,
    Kind.CANCEL,
    Kind.DOMAIN_OFF,
    Kind.CONFIRM_LOST,
    Kind.PUBLICATION_REFUSED,
    Kind.RECORD_DUPLICATED,
    Kind.PRESENCE_LOST,
    Kind.LIBVIRT_LOST,
    Kind.HOST_SKEW,
    Kind.AGENT_CRASH,
    Kind.TORN_WRITE,
    Kind.GUEST_RESET,
    Kind.DOMAIN_RESTART,
    Kind.DOMAIN_PAUSED,
    Kind.MIGRATION,
    Kind.MIGRATION_EMPTY_DRIVE,
    Kind.SNAPSHOT_REVERT,
    Kind.CLONE,
    Kind.DISK_FULL,
    Kind.INSTALLER_FAILS,
    Kind.INSTALLER_HANGS,
    Kind.INSTALLER_DIES,
    Kind.INSTALLER_KILLS_AGENT,
    Kind.USER_DECLINES,
}
"""What passes by itself, or is an answer: after it every upgrade goes on to its own end, long before the deadline."""


_OFFSETS = {Kind.CLOCK_WRONG, Kind.CLOCK_STEP, Kind.HOST_SKEW}
"""Their seconds are by how much a clock is wrong."""

ROUTELESS_MOST_S = 300.0
"""Most seconds that a broker takes to find its routes."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong: when ``trigger`` comes to its ``nth`` point, or from the beginning (``nth`` 0).

    ``site`` is the part that performs it where it comes to a point next, for the kinds that are local. ``target`` is the number of
    the VM, node or campaign that suffers; ``seconds``, ``share`` (0 to 1) and ``other`` say how badly.
    """

    kind: Kind
    site: str = ""
    trigger: str = ""
    nth: int = 0
    target: int = 0
    seconds: float = 0.0
    share: float = 0.0
    other: int = 0

    @property
    def lasts_s(self) -> float:
        """For how many seconds it goes on."""
        return 0.0 if self.kind in _OFFSETS else self.seconds + self.routeless_s

    @property
    def routeless_s(self) -> float:
        """For how many seconds a broker that was restarted finds no route to its streams."""
        is_slow = self.kind is Kind.BROKER_RESTART and self.other % 2 == 1
        return self.share * ROUTELESS_MOST_S if is_slow else 0.0

    def __str__(self) -> str:
        when = f"at point {self.nth} of {self.trigger}" if self.nth else "from the beginning"
        more = f"target {self.target}, {self.seconds:.1f} s, share {self.share:.2f}, other {self.other}"
        return f"{self.kind.value} ({when}; {more})"
