# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of the lab comes, is reached, and goes without a trace, whatever became of the command that started it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import cgroups, keys, mounts, paths, ssh
from lab.machine import Machine
from lab.waiting import wait_until

NAME = "transient"
LAB = [sys.executable, str(paths.SOURCES / "lab.py")]


def lab(*arguments: str) -> str:
    done = subprocess.run([*LAB, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def traces() -> dict[str, list[str]]:
    """Everything on this machine that bears the name of the host, by kind."""
    links = json.loads(subprocess.run(["ip", "-j", "link"], capture_output=True, check=True).stdout)
    commands = [command_of(process) for process in Path("/proc").glob("[0-9]*")]
    groups = [path for point in cgroups.hierarchies() for path in point.glob(f"*{NAME}*")]
    files = [path for folder in (paths.RUN, paths.MACHINES, paths.HOSTS) for path in folder.glob(f"*{NAME}*")]
    files += Path("/run/systemd/nspawn").glob(f"**/{NAME}*")
    return {
        "processes": [command for command in commands if f"/{NAME}/root" in command],
        "mounts": [str(point) for point in mounts.mounts_below(paths.MACHINES / NAME)],
        "links": [link["ifname"] for link in links if NAME in link["ifname"]],
        "cgroups": [str(path) for path in groups],
        "files": [str(path) for path in files],
    }


def command_of(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture
def clean_afterwards() -> Iterator[None]:
    yield
    lab("host", "down", NAME)


def known() -> Machine:
    return {machine.node.name: machine for machine in Machine.known()}[NAME]


@pytest.mark.usefixtures("clean_afterwards")
def test_a_host_comes_up_once_and_goes_without_a_trace() -> None:
    lab("host", "up", NAME)
    assert "already up" in lab("host", "up", NAME)
    node = known().node
    assert set(json.loads((paths.HOSTS / f"{NAME}.yml").read_text())["all"]["hosts"]) == {NAME}
    options = ssh.options(paths.RUN / f"known_hosts.{NAME}")
    command = ["ssh", "-F", "none", "-i", str(keys.SSH_KEY), *options, f"root@{node.address}", "hostname"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == NAME
    assert all(traces().values())
    lab("host", "down", NAME)
    assert not any(traces().values()), traces()


@pytest.mark.usefixtures("clean_afterwards")
def test_a_host_whose_start_was_killed_goes_without_a_trace() -> None:
    starting = subprocess.Popen([*LAB, "host", "up", NAME], stdout=subprocess.DEVNULL)
    wait_until(lambda: bool(traces()["links"]), what="the host's network link", timeout=120, every=0.01)
    starting.kill()
    starting.wait()
    lab("host", "down", NAME)
    assert not any(traces().values()), traces()
