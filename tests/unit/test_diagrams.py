# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state diagrams in the documentation are those of the code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import isolift_agent.states
import isolift_relay.sessions
from ansible_collections.isolift.vm.plugins.module_utils import states

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "states.md"
SCRIPT = ROOT / "docs" / "diagrams.py"

Transitions = Mapping[tuple[Any, Any], Enum]


def diagrams(*arguments: str, script: Path = SCRIPT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def copy_of_the_checkout(root: Path) -> Path:
    """A checkout in ``root`` whose page can be changed; its script."""
    (root / "docs").mkdir()
    for name in ("plugins", "roles"):
        (root / name).symlink_to(ROOT / name)
    for file in (SCRIPT, PAGE):
        (root / "docs" / file.name).write_bytes(file.read_bytes())
    return root / "docs" / SCRIPT.name


def test_the_page_is_what_the_tables_say() -> None:
    checked = diagrams("--check")
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("change", ["    pending --> succeeded : wish\n", ""])
def test_a_page_that_drifted_is_noticed_and_can_be_written_anew(tmp_path: Path, change: str) -> None:
    script = copy_of_the_checkout(tmp_path)
    page = script.with_name(PAGE.name)
    page.write_text(page.read_text() + change if change else "")
    checked = diagrams("--check", script=script)
    assert checked.returncode == 1
    assert "run: python docs/diagrams.py" in checked.stderr
    assert diagrams(script=script).returncode == 0
    assert page.read_bytes() == PAGE.read_bytes()


def test_a_page_that_is_missing_is_noticed(tmp_path: Path) -> None:
    script = copy_of_the_checkout(tmp_path)
    script.with_name(PAGE.name).unlink()
    assert diagrams("--check", script=script).returncode == 1


@pytest.mark.parametrize(
    ("title", "transitions"),
    [
        ("as the controller sees it", states.TRANSITIONS),
        ("as the relay sees it", isolift_relay.sessions.TRANSITIONS),
        ("as the guest agent sees it", isolift_agent.states.TRANSITIONS),
    ],
)
def test_every_move_of_a_table_is_an_arrow_of_its_diagram_and_no_other(
    title: str, transitions: Transitions
) -> None:
    section = PAGE.read_text().split(title)[1].split("\n## ")[0]
    arrows = [line.strip() for line in section.splitlines() if " --> " in line and "[*]" not in line]
    drawn = {
        (ends.split(" --> ")[0], label, ends.split(" --> ")[1])
        for ends, labels in (arrow.split(" : ") for arrow in arrows)
        for label in labels.split(" / ")
    }
    assert drawn == {(start.value, event.value, end.value) for (start, event), end in transitions.items()}
