# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of the lab comes, is reached, and goes without a trace, whatever became of the command that started it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab import keys, paths, ssh, traces
from lab.machine import Machine
from lab.waiting import wait_until

NAME = "transient"
LAB = [sys.executable, str(paths.SOURCES / "lab.py")]


def lab(*arguments: str) -> str:
    done = subprocess.run([*LAB, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
    assert all(traces.of_host(NAME).values())
    lab("host", "down", NAME)
    assert not any(traces.of_host(NAME).values()), traces.of_host(NAME)


@pytest.mark.usefixtures("clean_afterwards")
def test_a_host_whose_start_was_killed_goes_without_a_trace() -> None:
    starting = subprocess.Popen([*LAB, "host", "up", NAME], stdout=subprocess.DEVNULL)
    wait_until(
        lambda: bool(traces.of_host(NAME)["link"]), what="the host's network link", timeout=120, every=0.01
    )
    starting.kill()
    starting.wait()
    lab("host", "down", NAME)
    assert not any(traces.of_host(NAME).values()), traces.of_host(NAME)
