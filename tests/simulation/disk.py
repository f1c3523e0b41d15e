# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's disk: the agent's files, the installed component, and its own count of the installs.

What a disk holds is one value, so that a snapshot, a revert and a clone are copies of it: every copy has a history of its own from
then on, and counts its own installs.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field

from simulation.files import Files


@dataclass(frozen=True)
class Ending:
    """What the installer's runner left on the disk."""

    exit_code: int
    timed_out: bool
    duration_s: float


@dataclass
class Disk:
    """What is on a disk.

    :ivar installs: the upgrade IDs whose installer was run, in order, as often as it was: the truth that agents are measured by.
    :ivar results: the outcomes that the agent recorded or said, by upgrade ID.
    :ivar claims: the highest (epoch, nonce) of each campaign that the agent obeyed and recorded.
    """

    version: str
    files: Files = field(default_factory=Files)
    installs: tuple[str, ...] = ()
    results: dict[str, str] = field(default_factory=dict)
    claims: dict[str, tuple[int, str]] = field(default_factory=dict)
    copies: frozenset[str] = frozenset()
    endings: dict[str, Ending] = field(default_factory=dict)

    def duplicate(self) -> Disk:
        """A disk with the same content, as far as that is safe."""
        twin = copy(self)
        twin.files = self.files.duplicate()
        twin.results, twin.claims, twin.endings = dict(self.results), dict(self.claims), dict(self.endings)
        return twin
