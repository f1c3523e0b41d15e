# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of a test's own, a campaign that goes on beside the test, and what can be done to both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from lab import campaigns, commands, inside, runs
from lab.cast import Guest
from lab.progress import Progress
from lab.runs import Run

TARGET = "2.0.0"


@contextlib.contextmanager
def on_stage(guests: Sequence[Guest]) -> Iterator[None]:
    """Run ``guests`` in place of the lab's own."""
    progress = Progress()
    commands.guests_stop(progress)
    commands.guests_start(progress, guests)
    commands.guests_wait(progress, guests)
    try:
        yield
    finally:
        runs.end_all()
        commands.guests_stop(progress)
        commands.guests_start(progress)


def begin(name: str, guests: Sequence[Guest], deadline_s: int, target: str = TARGET, **variables: Any) -> Run:
    """Begin to upgrade ``guests``; the run's output is in the log ``name``."""
    names = [guest.name for guest in guests]
    return Run(name, target_version=target, upgrade_vms=names, upgrade_deadline_s=deadline_s, **variables)


def results(campaign_id: str) -> dict[str, dict[str, Any]]:
    """The results of a campaign by the VM's name; they add up to its selection."""
    summary = campaigns.summary(campaign_id)
    assert summary["selected"] == sum(summary["counts"].values()) == len(summary["results"])
    return {result["name"]: result for result in summary["results"]}


def installs(guest: Guest, node: str) -> int:
    """How often an installer finished in the guest, which is on ``node`` now."""
    return inside.installed(node, guest.name)[1]


def begun(guest: Guest, node: str) -> int:
    """How often an installer was begun in the guest, which is on ``node`` now."""
    return inside.begun(node, guest.name)
