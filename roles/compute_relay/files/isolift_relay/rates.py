# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounds on what one guest may cause, and the bucket that measures rates."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds. Rates are per VM; a burst is what may come at once after a pause."""

    messages_per_s: float = 20.0
    messages_burst: float = 100.0
    bytes_per_s: float = 128.0 * 1024
    bytes_burst: float = 512.0 * 1024
    bytes_per_day: float = 16.0 * 1024 * 1024
    hellos_per_s: float = 0.5
    hellos_burst: float = 5.0
    logs_per_s: float = 1.0 / 60
    logs_burst: float = 5.0
    knock_interval_s: float = 2.0
    """Least time between two knocks at one VM."""
    unconfirmed: int = 1024
    """Publications of the whole relay that the broker did not answer yet."""
    unconfirmed_per_vm: int = 32
    handed_per_vm: int = 64
    """Commands of one VM that its agent did not acknowledge yet; the oldest are forgotten."""
    refusals: int = 5
    """Refusals reported for one upgrade."""
    refused_upgrades: int = 64
    """Upgrades of one VM whose refusals are counted; the oldest are forgotten."""
    looks_per_s: float = 1.0 / 60
    looks_burst: float = 64.0
    """Changes of a drive that only the agent's word calls for: looks for a disc whose start this run of the relay did not see (an agent
    keeps as many results), and exchanges because another upgrade is first."""
    taken_per_vm: int = 8
    """Upgrades of one VM that its agent took and that are not over; an agent has two. The oldest are forgotten."""
    eject_tries: int = 6
    eject_pause_s: float = 5.0
    """Pause before the second try to eject; it doubles with every further one."""
    prefetch: int = 64
    """Messages with commands, of up to 64 KiB each, that the whole relay did not hand over yet."""


class Bucket:
    """A token bucket: ``rate`` tokens a second flow in, at most ``burst`` are kept, and it starts full."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at: float | None = None

    def take(self, amount: float, now: float) -> bool:
        """Takes ``amount`` tokens if there are so many. A clock that was set back adds none."""
        self._fill(now)
        if amount > self._level:
            return False
        self._level -= amount
        return True

    def charge(self, amount: float, now: float) -> float:
        """Takes ``amount`` tokens even if there are not so many; the seconds until none is owed any more."""
        self._fill(now)
        self._level -= amount
        return max(0.0, -self._level / self._rate)

    def _fill(self, now: float) -> None:
        if self._at is not None and now > self._at:
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
