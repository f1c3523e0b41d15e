# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stage runner: nothing that went wrong may end up as a pass."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import run

from lab.waiting import wait_until

PASSED = '<testcase name="a"/>'
FAILED = '<testcase name="b"><failure message="no"/></testcase>'
BROKEN = '<testcase name="c"><error message="no"/></testcase>'
SKIPPED = '<testcase name="d"><skipped message="later"/></testcase>'
NOT_APPLICABLE = f'<testcase name="e"><skipped>{run.NOT_APPLICABLE}</skipped></testcase>'


def write_report(folder: Path, *cases: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.xml").write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")


def python_check(code: str, reports: Path | None = None, time_limit: float = 30.0) -> run.Check:
    return run.Check("trial", (sys.executable, "-c", code), reports, time_limit)


def reporting(reports: Path, *cases: str, status: int = 0) -> run.Check:
    """A check that writes these cases into its report and ends with this status."""
    text = f"<testsuite>{''.join(cases)}</testsuite>"
    code = f"open({str(reports / 'report.xml')!r}, 'w').write({text!r}); raise SystemExit({status})"
    return python_check(code, reports)


def test_failures_errors_and_skips_of_a_report_all_count_as_failed(tmp_path: Path) -> None:
    write_report(tmp_path, PASSED, PASSED, FAILED, BROKEN, SKIPPED)
    assert run.count_reports(tmp_path) == run.Count(passed=2, failed=3)


def test_a_test_without_anything_to_look_at_is_not_counted(tmp_path: Path) -> None:
    write_report(tmp_path, PASSED, NOT_APPLICABLE)
    assert run.count_reports(tmp_path) == run.Count(passed=1)


def test_a_check_without_a_report_is_one_test() -> None:
    assert run.run_check(python_check("")) == run.Count(passed=1)
    assert run.run_check(python_check("raise SystemExit(3)")) == run.Count(failed=1)


def test_a_check_that_reports_is_counted_by_its_report(tmp_path: Path) -> None:
    assert run.run_check(reporting(tmp_path / "reports", PASSED, PASSED)) == run.Count(passed=2)
    assert run.run_check(reporting(tmp_path / "reports", PASSED, FAILED, status=1)) == run.Count(1, 1)


def test_a_check_that_fails_outside_of_its_tests_has_failed(tmp_path: Path) -> None:
    assert run.run_check(reporting(tmp_path / "reports", PASSED, status=1)) == run.Count(1, 1)


def test_a_check_that_ran_no_test_has_failed(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    write_report(reports, PASSED)  # of an earlier run
    assert run.run_check(python_check("", reports)) == run.Count(failed=1)
    assert run.run_check(reporting(reports, NOT_APPLICABLE)) == run.Count(failed=1)


def test_a_report_that_was_cut_off_has_failed(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    code = f"open({str(reports / 'report.xml')!r}, 'w').write('<testsuite><testcase')"
    assert run.run_check(python_check(code, reports)) == run.Count(failed=1)


def test_a_check_that_hangs_is_ended_and_has_failed() -> None:
    began = time.monotonic()
    assert run.run_check(python_check("import signal; signal.pause()", time_limit=0.5)) == run.Count(failed=1)
    assert time.monotonic() - began < 30


def test_a_stage_without_checks_has_failed() -> None:
    assert run.run_stage(run.Stage("empty", ())) == run.Count(failed=1)


def test_what_a_stage_prints_at_its_end_can_be_read_by_whoever_started_it() -> None:
    rows = [run.Row("unit", run.Count(12, 1), 3.5), run.Row("lint", run.Count(5, 0), 20.0)]
    assert run.rows_of(f"== unit\n...\n\n{rows[0]}\nother\n{rows[1]}\n") == rows


def test_a_stage_beside_the_others_of_which_nothing_is_told_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "REPORTS", tmp_path)
    stages = [run.Stage("no such", (), beside=True), run.Stage("whole", (python_check(""),))]
    assert run.run_stages(stages) == run.Count(passed=1, failed=1)
    assert "no such stage" in capsys.readouterr().out


def test_all_stages_run_although_one_fails_and_the_sum_is_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    stages = [run.Stage("one", (python_check("raise SystemExit(1)"),)), run.Stage("two", (python_check(""),))]
    assert run.run_stages(stages) == run.Count(passed=1, failed=1)
    assert "two" in capsys.readouterr().out
    assert str(run.Count(3, 4)) == "3 passed, 4 failed"


def test_a_signal_ends_the_command_too(tmp_path: Path) -> None:
    note = tmp_path / "note"
    command = f"""
import pathlib, signal
note = pathlib.Path({str(note)!r})
try:
    note.touch()
    signal.pause()
except KeyboardInterrupt:
    note.write_text("interrupted")
"""
    runner = (
        f"import sys, run\nwith run.interruptible(): run.run_command([sys.executable, '-c', {command!r}], 60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(run.ROOT / "tests")}
    with subprocess.Popen(
        [sys.executable, "-c", runner], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        wait_until(note.exists, what="the command to run", timeout=30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) != 0
    assert note.read_text() == "interrupted"


class FakeLab:
    """Stands in for the lab's command: remembers what it was told, and can fail to start."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, starts: bool) -> None:
        self.actions: list[str] = []
        self._starts = starts
        monkeypatch.setattr(run.Lab, "_run", staticmethod(self._run))

    def _run(self, action: str) -> bool:
        self.actions.append(action)
        return self._starts or action != "up"


def test_a_stage_fails_without_being_run_where_the_lab_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab = FakeLab(monkeypatch, starts=False)
    stage = run.Stage("in the lab", (python_check(""), python_check("")), needs_lab=True)
    assert run.run_stages([stage]) == run.Count(failed=1)
    assert lab.actions == ["up", "down"]


def test_the_lab_is_left_alone_by_stages_that_do_not_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = FakeLab(monkeypatch, starts=True)
    assert run.run_stages([run.Stage("outside", (python_check(""),))]) == run.Count(passed=1)
    assert lab.actions == []


def test_the_lab_is_stopped_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_check: run.Check) -> run.Count:
        raise run.Interrupted("SIGINT")

    lab = FakeLab(monkeypatch, starts=True)
    monkeypatch.setattr(run, "run_check", interrupt)
    with pytest.raises(run.Interrupted):
        run.run_stages([run.Stage("in the lab", (python_check(""),), needs_lab=True)])
    assert lab.actions == ["up", "down"]
