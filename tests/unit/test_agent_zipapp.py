# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent as it is shipped: one file, the same bytes from the same sources, which runs, and its command line."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from unit.agent_disc import guest_in
from unit.agent_host import WAIT_S, Relay, RunningAgent
from unit.agent_support import NOW

from isolift_agent import __version__, cli
from isolift_agent.wire import Notification, Request, Result

FILES = Path(__file__).resolve().parents[2] / "roles/guest_agent/files"
BUILD = [sys.executable, str(FILES / "build_zipapp.py")]
PACKAGE = FILES / "isolift_agent"
SIZE_LIMIT = 256 * 1024


def build(destination: Path, **environment: str) -> None:
    """Build the zipapp as the role does."""
    subprocess.run(
        [*BUILD, PACKAGE, destination], check=True, timeout=WAIT_S, env={**os.environ, **environment}
    )


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zipapp") / "isolift-agent.pyz"
    build(path)
    return path


def test_same_sources_give_the_same_bytes(zipapp: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.pyz"
    build(again, PYTHONHASHSEED="1", TZ="Asia/Tokyo", SOURCE_DATE_EPOCH="1")
    assert again.read_bytes() == zipapp.read_bytes()


def test_file_is_executable_small_and_holds_no_links(zipapp: Path) -> None:
    assert stat.S_IMODE(zipapp.stat().st_mode) == 0o755
    assert zipapp.stat().st_size < SIZE_LIMIT
    with zipfile.ZipFile(zipapp) as archive:
        assert archive.testzip() is None
        wire = archive.read("isolift_agent/wire.py")
        assert b"class Hello" in wire
        assert not [item.filename for item in archive.infolist() if stat.S_ISLNK(item.external_attr >> 16)]


def test_it_runs_by_itself(zipapp: Path) -> None:
    done = subprocess.run([zipapp, "--version"], capture_output=True, text=True, check=True, timeout=WAIT_S)
    assert done.stdout == f"{__version__}\n"


def test_whole_upgrade(zipapp: Path, tmp_path: Path) -> None:
    relay = Relay()
    with guest_in(tmp_path) as guest:
        guest.port = relay.path
        start = guest.insert()
        with RunningAgent(guest, [sys.executable, str(zipapp)], PYTHONPATH=""):
            relay.welcomed()
            relay.clock = lambda: NOW
            relay.command(start)
            relay.message(Request)
            relay.command(Notification(1, NOW + 60))
            assert relay.message(Result).outcome == "succeeded"
    relay.close()


def test_destination_that_cannot_be_written(tmp_path: Path) -> None:
    done = subprocess.run(
        [*BUILD, PACKAGE, tmp_path / "absent" / "x.pyz"],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 2 and "absent" in done.stderr
    usage = subprocess.run(BUILD, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert usage.returncode == 2 and "usage" in usage.stderr


def test_idle_agent_is_light(zipapp: Path, tmp_path: Path) -> None:
    """An idle agent takes at most 2.2 times the memory of a Python that does nothing."""
    interpreter = "/usr/bin/python3"
    bare = subprocess.run(
        [interpreter, "-c", "print(open('/proc/self/status').read())"],
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT_S,
    )
    relay = Relay()
    with guest_in(tmp_path) as guest:
        guest.port = relay.path
        with RunningAgent(guest, [interpreter, str(zipapp)], PYTHONPATH="") as agent:
            relay.welcomed()
            used = _resident_kib(Path(f"/proc/{agent.process.pid}/status").read_text())
    relay.close()
    assert used <= 2.2 * _resident_kib(bare.stdout)


def _resident_kib(status: str) -> int:
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1])


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["run"], cli.Command("run")),
        (["run", "--config", "/c"], cli.Command("run", "", Path("/c"))),
        (["--config=/c", "status"], cli.Command("status", "", Path("/c"))),
        (["answer", "confirm"], cli.Command("answer", "confirm")),
        (["answer", "--config", "/c", "decline"], cli.Command("answer", "decline", Path("/c"))),
        (["--version"], cli.Command("--version")),
        (["run", "-h"], cli.Command("--help")),
        (["_install", "/var/x"], cli.Command("_install", "/var/x")),
    ],
)
def test_command_line(arguments: list[str], command: cli.Command) -> None:
    assert cli.parse(arguments) == command


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "no command"),
        (["jump"], "unknown command jump"),
        (["run", "fast"], "wrong words after run"),
        (["answer"], "wrong words after answer"),
        (["answer", "maybe"], "wrong words after answer"),
        (["run", "--config"], "--config needs a file"),
        (["run", "--quick"], "unknown option --quick"),
    ],
)
def test_command_line_that_makes_no_sense(arguments: list[str], complaint: str) -> None:
    with pytest.raises(cli.UsageError, match=complaint):
        cli.parse(arguments)
