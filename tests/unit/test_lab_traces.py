# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab is not taken for gone while something of it is there; tried on a directory in which no lab ever ran."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import cli, network, paths, traces
from lab.errors import LabError


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The directory of a lab of the test's own."""
    for name in ("CACHE", "LOCK", "INVENTORY", "HOSTS", "RUN", "MACHINES", "BRIDGE_OWNER"):
        below = getattr(paths, name).relative_to(paths.REPOSITORY / ".cache")
        monkeypatch.setattr(paths, name, tmp_path / below)
    monkeypatch.setattr(traces, "_PATIENCE_S", 0.0)
    return tmp_path / "lab"


@pytest.fixture
def reader(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that was given a file of the lab and goes on."""
    place.mkdir()
    file = place / "run" / "shared" / "log"
    with subprocess.Popen(["tail", "-F", "-q", file], stderr=subprocess.DEVNULL) as process:
        yield process
        process.kill()


def test_a_lab_of_which_nothing_is_there_is_down(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["down"]) == 0
    assert "nothing of it runs" in capsys.readouterr().out


def test_a_process_that_is_left_is_named(
    reader: subprocess.Popen[bytes], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["down"]) == 1
    assert f"  - process {reader.pid}: tail -F -q {place}/run/shared/log\n" in capsys.readouterr().err


def test_a_process_that_ends_in_time_is_waited_for(
    reader: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_last() -> list[str]:
        reader.kill()
        reader.wait()
        return []

    monkeypatch.setattr(traces, "_PATIENCE_S", 30.0)
    monkeypatch.setattr(traces, "_links", lambda *_names: find_last())
    assert cli.main(["down"]) == 0


def test_a_script_that_speaks_of_the_lab_is_nothing_of_it(place: Path) -> None:
    script = f"read line < {place}/lock; read line"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL):
        traces.require_none([])


def test_files_are_left_until_they_are_removed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "run").mkdir(parents=True)
    assert traces.of_lab()["file"] == [str(place / "run")]
    assert cli.main(["down"]) == 0
    assert not (place / "run").exists()


def test_the_bridge_counts_where_it_was_the_labs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "link_exists", lambda name: name == network.BRIDGE)
    traces.require_none([])
    with pytest.raises(LabError, match=f"  - link {network.BRIDGE}$"):
        traces.require_none([], [network.BRIDGE])


def test_the_network_link_of_a_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "link_exists", lambda name: name == "vb-strange")
    traces.require_none(["other"])
    with pytest.raises(LabError, match="  - link vb-strange$"):
        traces.require_none(["other", "strange"])
