# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the callback shows while a campaign runs."""

from __future__ import annotations

import pytest
from unit.campaign_rig import REQUEST, TARGET, Rig

from ansible_collections.isolift.vm.plugins.callback.upgrade_results import CallbackModule, Live
from ansible_collections.isolift.vm.plugins.module_utils.wire import Result

SUCCEEDED = Result("succeeded", version_before="1.0.0", version_after=TARGET)


@pytest.mark.parametrize(
    ("live", "vms", "mode"),
    [
        ("auto", 20, "all"),
        ("auto", 21, "outcomes"),
        ("auto", 200, "outcomes"),
        ("auto", 201, "summary"),
        ("all", 10_000, "all"),
        ("summary", 1, "summary"),
    ],
)
def test_a_large_campaign_is_not_followed_vm_by_vm_unless_asked_for(live: str, vms: int, mode: str) -> None:
    assert CallbackModule.mode(live, vms) == mode


def shown(mode: str) -> list[str]:
    """What is shown of a VM that asks for its upgrade and succeeds, each change told twice."""
    lines: list[str] = []
    live = Live(mode, lines.append)
    rig = Rig(2)
    for report in (REQUEST, SUCCEEDED):
        rig.agent(report, vm=0)
        changed = {rig.upgrade(0).vm}
        live.changed(rig.campaign, changed)
        live.changed(rig.campaign, changed)
    return lines


def test_every_change_is_shown_once() -> None:
    first, last = shown("all")
    assert "requested" in first and "succeeded" in last


def test_outcomes_alone_are_shown_once() -> None:
    (only,) = shown("outcomes")
    assert "succeeded" in only and "desk-0" in only
