# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two campaigns that want the same VM: it takes one upgrade after the other, and its drive one disc after the other."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e import actors

from lab import campaigns, drives, inside, plays
from lab.cast import CELLS

WANTED = CELLS[0]
NEXT_TARGET = "3.0.0"

pytestmark = pytest.mark.deep


def how_it_ended(campaign_id: str) -> tuple[str, str, str]:
    """The outcome of the VM in a campaign, with the versions before and after."""
    result = actors.results(campaign_id)[WANTED.name]
    return result["state"], result["version_before"], result["version_after"]


def test_a_second_campaign_waits_for_the_installer_of_the_first_and_then_gets_the_drive(iso: Path) -> None:
    plays.build_iso(NEXT_TARGET)
    with actors.on_stage([WANTED]):
        inside.hold_installer(WANTED.node, WANTED.name)
        first = actors.begin("first-of-two", [WANTED], 400)
        inside.await_state(WANTED.node, WANTED.name, "installing")
        second = actors.begin("second-of-two", [WANTED], 400, NEXT_TARGET, upgrade_overlap="queue")
        inside.await_status(WANTED.node, WANTED.name, "state=installing", "state=waiting")
        disc, next_disc = (campaigns.media_path(run.campaign_id()) for run in (first, second))
        assert drives.drive_of(WANTED, WANTED.node) == disc

        inside.set_prompt(WANTED.node, WANTED.name, inside.NO_ANSWER)
        inside.let_installer_go(WANTED.node, WANTED.name)
        first.finish()
        assert how_it_ended(first.campaign_id()) == ("succeeded", "1.0.0", actors.TARGET)

        inside.await_state(WANTED.node, WANTED.name, "asking")
        assert drives.drive_of(WANTED, WANTED.node) == next_disc
        inside.answer(WANTED.node, WANTED.name, "confirm")
        second.finish()
        assert how_it_ended(second.campaign_id()) == ("succeeded", actors.TARGET, NEXT_TARGET)
        assert inside.installed(WANTED.node, WANTED.name) == (NEXT_TARGET, 2)
        assert actors.begun(WANTED, WANTED.node) == 2
        assert drives.discs() == ""
