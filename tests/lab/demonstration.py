# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demonstration: upgrade the lab's real guests by messages and an ISO, prove it, and do it again."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from . import campaigns, commands, inside, plays
from .cast import GUESTS
from .errors import LabError
from .interrupts import end_cleanly
from .progress import Progress

TARGET = "2.0.0"
DEADLINE_S = 40
SECOND_DEADLINE_S = 25
COUNTED = ("succeeded", "up_to_date", "declined", "failed", "ineligible", "unreachable")


def main() -> int:
    """Bring up the lab, run the demonstration, take the lab down; 0 only if every VM ended as it should and nothing is left."""
    end_cleanly()
    try:
        closing = _in_the_lab(Progress())
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    if not closing:
        return 1
    print(closing, flush=True)
    return 0


def _in_the_lab(progress: Progress) -> str:
    """The demonstration's closing line, or nothing if it failed; the lab is as up or as down afterwards as before.

    :raise LabError: the lab cannot be taken down.
    """
    was_up = commands.nodes_are_up()
    try:
        if was_up:
            commands.guests_stop(progress)
        return demonstrate(progress)
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return ""
    finally:
        if not was_up:
            commands.down(progress)


def demonstrate(progress: Progress) -> str:
    """Upgrade fresh guests, prove it, do it again, prove that nothing changed; the closing line, from the first campaign's data.

    :raise LabError: a VM did not end as it should.
    """
    commands.up(progress, nodes_only=False)
    plays.build_iso(TARGET)
    progress.say(f"the ISO of guest-tools {TARGET} is built and signed")
    for guest in GUESTS:
        progress.say(f"  {guest.name} {guest.part}: {guest.ending.value}")
    before = _installed(progress, "before")

    first = _upgrade(progress, DEADLINE_S)
    _expect(first, {guest.name: guest.ending.value for guest in GUESTS})
    after = _installed(progress, "after")
    _expect_versions(before, after)

    progress.say("the same command again: what succeeded is up to date, and nothing is installed twice")
    second = _upgrade(progress, SECOND_DEADLINE_S)
    again = {guest.name: guest.ending.value.replace("succeeded", "up_to_date") for guest in GUESTS}
    _expect(second, again)
    if _installed(progress, "after the second run") != after:
        raise LabError("the second run changed what is installed")

    counts = first["counts"]
    parts = " + ".join(f"{counts.get(outcome, 0)} {outcome}" for outcome in COUNTED)
    return f"DEMO OK: {first['selected']} selected = {parts}"


def _upgrade(progress: Progress, deadline_s: int) -> dict[str, Any]:
    """One run of the playbook, shown as it goes; the campaign's summary from its journal."""
    arguments = f"-e target_version={TARGET} -e upgrade_deadline_s={deadline_s}"
    progress.say(f"ansible-playbook playbooks/upgrade.yml {arguments}   (deadline: {deadline_s} s)")
    variables = {"target_version": TARGET, "upgrade_deadline_s": deadline_s}
    run = plays.ansible("playbooks/upgrade.yml", show=_show, variables=variables)
    summary = campaigns.summary(campaigns.newest(1)[0])
    plays.require(run, "the upgrade", plays.SOME_FAILED if summary["failures"] else 0)
    return summary


def _show(line: str) -> None:
    print(line, flush=True)


def _expect(summary: Mapping[str, Any], endings: Mapping[str, str]) -> None:
    found = {result["name"]: result["state"] for result in summary["results"]}
    wrong = [
        f"{name} is {found.get(name, 'missing')}, not {ending}"
        for name, ending in endings.items()
        if found.get(name) != ending
    ]
    if wrong or len(found) != len(endings):
        raise LabError(f"not every VM ended as it should: {'; '.join(wrong) or sorted(found)}")


def _installed(progress: Progress, when: str) -> dict[str, tuple[str, int]]:
    """By running guest: its version and how often an installer finished there, asked on the guest's console."""
    found = {guest.name: inside.installed(guest.node, guest.name) for guest in GUESTS if guest.is_running}
    shown = ", ".join(
        f"{name} {version} (installed {installs} times)" for name, (version, installs) in found.items()
    )
    progress.say(f"asked on the guests' consoles, {when}: {shown}")
    return found


def _expect_versions(before: Mapping[str, tuple[str, int]], after: Mapping[str, tuple[str, int]]) -> None:
    """Whoever succeeded has the target and one install more; nobody else changed."""
    for guest in GUESTS:
        if guest.is_running:
            succeeded = guest.ending.value == "succeeded"
            wanted = (TARGET, before[guest.name][1] + 1) if succeeded else before[guest.name]
            if after[guest.name] != wanted:
                raise LabError(f"{guest.name} has {after[guest.name]} (version, installs), not {wanted}")


if __name__ == "__main__":
    sys.exit(main())
