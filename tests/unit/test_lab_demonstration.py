# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demonstration succeeds only if every VM ended as it should; here on made-up campaigns, with the lab left out."""

from __future__ import annotations

from typing import Any

import pytest

from lab import campaigns, commands, demonstration, inside, plays
from lab.cast import GUESTS
from lab.demonstration import TARGET
from lab.errors import LabError

UPGRADED, DECLINING, POWERED_OFF = "desk-01", "desk-03", "desk-08"


class Performance:
    """What the two campaigns come to and what the guests have installed: as it should be, until a test changes it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = {guest.name: guest.ending.value for guest in GUESTS}
        again = {name: "up_to_date" if state == "succeeded" else state for name, state in first.items()}
        self.states = [first, again]
        before = {guest.name: (guest.version, 0) for guest in GUESTS}
        after = {name: (TARGET, 1) if first[name] == "succeeded" else before[name] for name in first}
        self.installed = [before, after, dict(after)]
        self.status = plays.SOME_FAILED
        self.told: list[str] = []
        self._campaigns = 0
        monkeypatch.setattr(demonstration, "end_cleanly", lambda: None)
        monkeypatch.setattr(commands, "nodes_are_up", lambda: False)
        for step in ("up", "down", "guests_stop"):
            monkeypatch.setattr(commands, step, self._tell(step))
        monkeypatch.setattr(plays, "build_iso", lambda _version: None)
        monkeypatch.setattr(plays, "ansible", self._upgrade)
        monkeypatch.setattr(campaigns, "newest", lambda _count: ["the campaign"])
        monkeypatch.setattr(campaigns, "summary", lambda _campaign: self._summary())
        monkeypatch.setattr(inside, "installed", lambda _node, name: self.installed[self._campaigns][name])

    def _tell(self, step: str) -> Any:
        return lambda _progress, **_options: self.told.append(step)

    def _upgrade(self, _playbook: str, **_options: Any) -> plays.Run:
        self._campaigns += 1
        return plays.Run(self.status, "")

    def _summary(self) -> dict[str, Any]:
        states = self.states[self._campaigns - 1]
        counts = {state: list(states.values()).count(state) for state in states.values()}
        results = [{"name": name, "state": state} for name, state in states.items()]
        return {"selected": len(states), "counts": counts, "failures": counts["failed"], "results": results}


@pytest.fixture
def performance(monkeypatch: pytest.MonkeyPatch) -> Performance:
    return Performance(monkeypatch)


def test_it_closes_with_the_sum_if_all_ended_as_they_should(
    performance: Performance, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demonstration.main() == 0
    said = capsys.readouterr()
    assert said.out.endswith(
        "DEMO OK: 8 selected = 2 succeeded + 1 up_to_date + 1 declined + 1 failed + 2 ineligible + 1 unreachable\n"
    )
    assert not said.err
    assert performance.told == ["up", "down"]


def assert_failed(capsys: pytest.CaptureFixture[str], complaint: str) -> None:
    assert demonstration.main() == 1
    said = capsys.readouterr()
    assert complaint in said.err
    assert "DEMO OK" not in said.out


@pytest.mark.parametrize("campaign", [0, 1])
def test_a_vm_that_ended_otherwise_is_named(
    performance: Performance, capsys: pytest.CaptureFixture[str], campaign: int
) -> None:
    performance.states[campaign][DECLINING] = "succeeded"
    assert_failed(capsys, f"{DECLINING} is succeeded, not declined")
    assert performance.told == ["up", "down"]


def test_a_vm_that_is_missing_is_named(performance: Performance, capsys: pytest.CaptureFixture[str]) -> None:
    del performance.states[0][POWERED_OFF]
    assert_failed(capsys, f"{POWERED_OFF} is missing, not unreachable")


def test_a_vm_that_nobody_expected_is_named(
    performance: Performance, capsys: pytest.CaptureFixture[str]
) -> None:
    performance.states[0]["stranger"] = "up_to_date"
    assert_failed(capsys, "'stranger'")


@pytest.mark.parametrize(
    ("name", "found"), [(UPGRADED, ("1.0.0", 1)), (UPGRADED, (TARGET, 2)), (DECLINING, (TARGET, 1))]
)
def test_a_guest_that_has_something_else_installed_than_it_reported_is_named(
    performance: Performance, capsys: pytest.CaptureFixture[str], name: str, found: tuple[str, int]
) -> None:
    performance.installed[1][name] = found
    assert_failed(capsys, f"{name} has {found} (version, installs), not")


def test_a_second_run_that_installs_again_is_noticed(
    performance: Performance, capsys: pytest.CaptureFixture[str]
) -> None:
    performance.installed[2][UPGRADED] = (TARGET, 2)
    assert_failed(capsys, "the second run changed what is installed")


def test_a_playbook_that_hides_a_failure_is_noticed(
    performance: Performance, capsys: pytest.CaptureFixture[str]
) -> None:
    performance.status = 0
    assert_failed(capsys, "the upgrade failed with status 0")


def test_a_lab_that_was_up_stays_up_with_fresh_guests(
    performance: Performance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "nodes_are_up", lambda: True)
    assert demonstration.main() == 0
    assert performance.told == ["guests_stop", "up"]


@pytest.mark.usefixtures("performance")
def test_a_lab_that_cannot_be_taken_down_makes_it_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def down(_progress: object) -> None:
        raise LabError("node1 does not end")

    monkeypatch.setattr(commands, "down", down)
    assert_failed(capsys, "demo: node1 does not end")
