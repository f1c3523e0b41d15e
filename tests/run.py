# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run stages of the tests, all of them whatever fails, and close with one line: ``N passed, N failed``.

A test is what a JUnit report calls one; a check without a report is one test itself. A skipped test counts as
failed, and a check that ran no test too: what cannot be tested where it should be is a defect.

Stages that do without the lab run beside the others, which mostly wait for its machines.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / ".cache" / "reports"

# ansible-test's word for a test that finds nothing to look at in this collection, such as the one for PowerShell.
NOT_APPLICABLE = "No tests applicable."

BESIDE_NICENESS = 10
"""How much stages that run beside the others stand back: those are the longer ones, and their guests have little patience."""

STOP_GRACE = 90.0
"""Seconds that an interrupted check gets to clean up."""


@dataclass(frozen=True)
class Check:
    """One command of a stage."""

    name: str
    command: tuple[str, ...]
    reports: Path | None = None
    """The directory in which the command leaves JUnit files, if it does."""
    time_limit: float = 600.0
    """Seconds after which the command is ended and counts as failed."""


@dataclass(frozen=True)
class Stage:
    """Checks that are run one after the other and counted together."""

    name: str
    checks: tuple[Check, ...]
    needs_lab: bool = False
    beside: bool = False
    """Whether it may run at the same time as others."""


@dataclass(frozen=True)
class Count:
    """How many tests passed and failed."""

    passed: int = 0
    failed: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.passed + other.passed, self.failed + other.failed)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed"


@dataclass(frozen=True)
class Row:
    """How a stage ended."""

    name: str
    count: Count
    seconds: float

    def __str__(self) -> str:
        return f"== {self.name}: {self.count}, {self.seconds:.1f} s"


_ROW = re.compile(r"^== (\S+): (\d+) passed, (\d+) failed, ([\d.]+) s$", re.MULTILINE)


def rows_of(output: str) -> list[Row]:
    """The rows that a run of this program printed."""
    return [
        Row(name, Count(int(passed), int(failed)), float(seconds))
        for name, passed, failed, seconds in _ROW.findall(output)
    ]


class Interrupted(BaseException):
    """A signal asked this program to stop."""


def pytest_check(folder: str, time_limit: float, mark: str = "", workers: int = 0) -> Check:
    """What pytest finds in ``tests/<folder>``: the tests that bear this mark alone, or those that bear none; all that are deep if it is that.

    :param workers: how many tests run at a time, each in a process of its own; 0 for one after the other in one process.
    """
    wanted = {"": "not deep and not harmless", "harmless": "harmless and not deep"}.get(mark, mark)
    reports = REPORTS / (f"{folder}-{mark}" if mark else folder)
    command = [sys.executable, "-m", "pytest", f"tests/{folder}", "-m", wanted]
    command += ["-n", str(workers)] if workers else []
    report = f"--junit-xml={reports / 'pytest.xml'}"
    return Check(f"pytest tests/{folder} -m '{wanted}'", (*command, report), reports, time_limit)


def molecule_checks() -> tuple[Check, ...]:
    """One check for every scenario."""
    scenarios = sorted(path.parent.name for path in ROOT.glob("extensions/molecule/*/molecule.yml"))
    return tuple(
        Check(f"molecule {name}", ("molecule", "test", "--scenario-name", name)) for name in scenarios
    )


def all_stages() -> tuple[Stage, ...]:
    """All stages in the order in which they run: quick ones first, those that share the lab next, deep ones last."""
    plugins = ".cache/src/ansible_collections/isolift/vm/plugins"
    daemons = (f"roles/{role}/files" for role in ("compute_relay", "guest_agent"))
    mypy = ("mypy", plugins, *daemons, "docs", "extensions", "tests")
    sanity = (sys.executable, "tests/sanity/run.py")
    matrix = (sys.executable, "tests/faults/faults.py")
    simulation = ("make", "simulate", "SEEDS=20000")
    return (
        Stage(
            "lint",
            (
                Check("ruff check", ("ruff", "check")),
                Check("ruff format", ("ruff", "format", "--check")),
                Check("mypy", mypy),
                Check("yamllint", ("yamllint", "--strict", ".")),
                Check("ansible-lint", ("ansible-lint",)),
            ),
            beside=True,
        ),
        Stage("sanity", (Check("ansible-test sanity", sanity, REPORTS / "sanity"),), beside=True),
        Stage("unit", (pytest_check("unit", 900.0),), beside=True),
        Stage("molecule", molecule_checks(), beside=True),
        Stage("integration", (pytest_check("integration", 1500.0),), needs_lab=True),
        Stage(
            "e2e",
            (pytest_check("e2e", 1500.0), pytest_check("e2e", 600.0, "harmless", workers=2)),
            needs_lab=True,
        ),
        Stage("faults-quick", (pytest_check("faults", 900.0),), needs_lab=True),
        Stage("deep-integration", (pytest_check("integration", 1200.0, "deep"),), needs_lab=True),
        Stage("deep-e2e", (pytest_check("e2e", 1800.0, "deep"),), needs_lab=True),
        Stage("deep-faults", (Check("all faults", matrix, time_limit=2400.0),), needs_lab=True),
        Stage("deep-simulate", (Check("20,000 simulated campaigns", simulation, time_limit=1200.0),)),
    )


def run_command(command: Sequence[str], time_limit: float) -> bool:
    """Run ``command`` in the checkout and say whether it succeeded. It never outlives this function."""
    colour = {} if sys.stdout.isatty() else {"NO_COLOR": "1"}
    environment = {**os.environ, **colour}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        weigh_session(process.pid)
        return process.wait(time_limit) == 0
    except subprocess.TimeoutExpired:
        print(f"not done after {time_limit:.0f} s: {' '.join(command)}", flush=True)
        return False
    finally:
        if process.poll() is None:
            end_session(process)


def weigh_session(leader: int) -> None:
    """Give a new session the niceness of this process: where Linux groups processes by session, their own counts only among themselves."""
    group = Path(f"/proc/{leader}/autogroup")
    if group.exists():
        group.write_text(str(os.nice(0)))


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Interrupt all that ``process`` started as a terminal would; kill it if it is still there after a while."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(STOP_GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def count_reports(reports: Path) -> Count:
    """Add up the test cases in the JUnit files of a directory.

    :raises ElementTree.ParseError: a report was not written to its end.
    """
    passed = failed = 0
    for file in sorted(reports.glob("*.xml")):
        for case in ElementTree.parse(file).iter("testcase"):
            skipped = case.find("skipped")
            if skipped is not None and skipped.text == NOT_APPLICABLE:
                continue
            if skipped is not None or case.find("failure") is not None or case.find("error") is not None:
                failed += 1
            else:
                passed += 1
    return Count(passed, failed)


def run_check(check: Check) -> Count:
    """Run one check and count its tests; what went wrong outside of all tests counts as one more failure."""
    print(f"\n-- {check.name}", flush=True)
    if check.reports is None:
        return Count(passed=1) if run_command(check.command, check.time_limit) else Count(failed=1)
    shutil.rmtree(check.reports, ignore_errors=True)
    check.reports.mkdir(parents=True)
    succeeded = run_command(check.command, check.time_limit)
    try:
        count = count_reports(check.reports)
    except ElementTree.ParseError as error:
        print(f"{check.name}: its report cannot be read: {error}", flush=True)
        return Count(failed=1)
    if count == Count():
        print(f"{check.name}: ran no test", flush=True)
        return Count(failed=1)
    return count if succeeded or count.failed else count + Count(failed=1)


def run_stage(stage: Stage) -> Count:
    """Run all checks of a stage. A stage without checks fails."""
    if not stage.checks:
        print("there is nothing to run", flush=True)
        return Count(failed=1)
    return sum(map(run_check, stage.checks), Count())


class Lab:
    """The two compute nodes: started before the first stage that needs them, stopped at the end in any case."""

    def __init__(self) -> None:
        self._started = False

    def start(self) -> bool:
        """Start what is not running of it, and say whether all is."""
        print("\n-- lab up", flush=True)
        self._started = True
        return self._run("up")

    def stop(self) -> bool:
        """Stop it if it was started, and say whether nothing is left of it."""
        if not self._started:
            return True
        print("\n-- lab down", flush=True)
        return self._run("down")

    @staticmethod
    def _run(action: str) -> bool:
        return run_command((sys.executable, "tests/lab/lab.py", action), time_limit=420.0)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into an exception, so that all is cleaned up on the way out."""

    def stop(signum: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise Interrupted(signal.Signals(signum).name)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    yield


class Beside:
    """Stages that run in another process of this program; what it prints is shown when it is over."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._names = [stage.name for stage in stages]
        self._log = REPORTS / "beside.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Beside:
        if self._names:
            print(f"beside all else: {', '.join(self._names)}", flush=True)
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    (sys.executable, __file__, *self._names),
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            os.setpriority(os.PRIO_PROCESS, self._process.pid, BESIDE_NICENESS)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process is not None and self._process.poll() is None:
            end_session(self._process)

    def rows(self) -> list[Row]:
        """Wait for the end; a stage of which nothing is told has failed."""
        if self._process is None:
            return []
        self._process.wait()
        output = self._log.read_text(errors="replace")
        print(output, flush=True)
        told = {row.name: row for row in rows_of(output)}
        return [told.get(name, Row(name, Count(failed=1), 0.0)) for name in self._names]


def run_stages(stages: Sequence[Stage]) -> Count:
    """Run the stages, print a table of them and return the sum of their counts."""
    beside = [stage for stage in stages if stage.beside]
    others = [stage for stage in stages if not stage.beside]
    rows: list[Row] = []
    lab = Lab()
    try:
        with Beside(beside if others else ()) as quiet:
            rows += (run_timed(stage, lab) for stage in others or beside)
            rows[:0] = quiet.rows()
    finally:
        began = time.monotonic()
        if not lab.stop():
            rows.append(Row("lab down", Count(failed=1), time.monotonic() - began))
        print()
        for row in rows:
            print(
                f"{row.name:<16} {row.count.passed:>6} passed {row.count.failed:>4} failed {row.seconds:>8.1f} s"
            )
    return sum((row.count for row in rows), Count())


def run_timed(stage: Stage, lab: Lab) -> Row:
    """Run one stage, with the lab if it needs it, and print how it ended."""
    print(f"\n== {stage.name}", flush=True)
    began = time.monotonic()
    count = Count(failed=1) if stage.needs_lab and not lab.start() else run_stage(stage)
    row = Row(stage.name, count, time.monotonic() - began)
    print(f"\n{row}", flush=True)
    return row


def main() -> int:
    """Run the stages that are named as arguments, in their own order; return the exit status."""
    stages = {stage.name: stage for stage in all_stages()}
    names = sys.argv[1:] or list(stages)
    if unknown := set(names) - set(stages):
        print(f"no such stage: {', '.join(sorted(unknown))}; there are: {', '.join(stages)}", file=sys.stderr)
        return 2
    try:
        with interruptible():
            total = run_stages([stage for name, stage in stages.items() if name in names])
    except Interrupted as reason:
        print(f"stopped by {reason}", file=sys.stderr)
        return 130
    print(total, flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
