# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent upgrades itself: an installer that replaces its file and ends it. With systemd: see the role's scenario."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.agent_disc import Guest, guest_in
from unit.agent_host import WAIT_S, Relay, RunningAgent, permit, runs, start_of

from isolift_agent import __version__, process
from isolift_agent.wire import Request, Result

FILES = Path(__file__).resolve().parents[2] / "roles/guest_agent/files"
NEW_VERSION = "9.9.9"

REPLACE = """
echo run >> {root}/runs
cp {root}/new.pyz {root}/.agent.pyz.new && mv {root}/.agent.pyz.new {root}/agent.pyz
kill -{signal} $(cat {root}/agent.pid)
while kill -0 $(cat {root}/agent.pid) 2> /dev/null; do sleep 0.05; done
{then}
cp payload/version "$1"
echo replaced
"""
BEGIN = """
setsid {python} {root}/agent.pyz run --config {root}/agent.json < /dev/null >> {root}/agent.log 2>&1 &
echo $! > {root}/agent.pid
while ! {python} {root}/agent.pyz status --config {root}/agent.json | grep 'session: open'; do sleep 0.1; done
"""


@pytest.fixture
def relay() -> Iterator[Relay]:
    made = Relay()
    yield made
    made.close()


@pytest.fixture
def guest(tmp_path: Path, relay: Relay) -> Iterator[Guest]:
    with guest_in(tmp_path) as made:
        made.port = relay.path
        build(FILES / "isolift_agent", made.root / "agent.pyz")
        newer = shutil.copytree(FILES / "isolift_agent", tmp_path / "newer/isolift_agent")
        source = (newer / "__init__.py").read_text()
        assert __version__ in source
        (newer / "__init__.py").write_text(source.replace(__version__, NEW_VERSION))
        build(newer, made.root / "new.pyz")
        yield made


def build(package: Path, zipapp: Path) -> None:
    """Build an agent as the role does."""
    builder = FILES / "build_zipapp.py"
    subprocess.run([sys.executable, builder, package, zipapp], check=True, timeout=WAIT_S)


def installed(guest: Guest) -> RunningAgent:
    """The agent from its one file; its process is written down."""
    agent = RunningAgent(guest, [sys.executable, str(guest.root / "agent.pyz")], PYTHONPATH="")
    (guest.root / "agent.pid").write_text(str(agent.process.pid))
    return agent


def replacing(guest: Guest, relay: Relay, script: str, number: int) -> None:
    """Bring the upgrade of the agent to the point where its installer begins."""
    filled = script.format(root=guest.root, python=sys.executable, signal=number, then="")
    relay.welcomed()
    relay.command(start_of(guest, script=filled))
    relay.message(Request)
    relay.command(permit())
    relay.until(lambda: runs(guest), "the installer")


def check(guest: Guest, relay: Relay) -> None:
    """The new agent reports, once, what the old one began."""
    result = relay.message(Result)
    assert (result.outcome, result.exit_code, result.version_after) == ("succeeded", 0, "2.0.0")
    assert result.log_tail.endswith("replaced\n")
    relay.silence(0.3)
    assert len({m.message_id for m in relay.messages if isinstance(m.payload, Result)}) == 1
    assert [hello.agent_version for hello in (relay.hellos[0], relay.hellos[-1])] == [
        __version__,
        NEW_VERSION,
    ]
    assert runs(guest) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_installer_starts_the_new_agent_and_then_goes_on(
    guest: Guest, relay: Relay, number: signal.Signals
) -> None:
    with installed(guest) as old:
        replacing(guest, relay, REPLACE.replace("{then}", BEGIN), number)
        reap(relay, old)
        relay.session = ""
        try:
            check(guest, relay)
        finally:
            stop(int((guest.root / "agent.pid").read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_somebody_else_starts_the_new_agent_after_the_installer(
    guest: Guest, relay: Relay, number: signal.Signals
) -> None:
    with installed(guest) as old:
        replacing(guest, relay, REPLACE, number)
        reap(relay, old)
    relay.until(guest.version_file.exists, "the end of the installer")
    relay.session = ""
    with installed(guest):
        check(guest, relay)


def reap(relay: Relay, agent: RunningAgent) -> None:
    """Take note that the old agent ended; its installer waits for that."""
    relay.until(lambda: agent.process.poll() is not None, "the end of the old agent")


def stop(pid: int) -> None:
    """End the agent that an installer started."""
    running = process.identify(pid)
    assert running
    os.kill(pid, signal.SIGTERM)
    assert process.wait_gone(running, WAIT_S)


def test_agent_whose_file_was_replaced_goes_on_until_it_is_restarted(guest: Guest, relay: Relay) -> None:
    """What it has not imported yet comes from another file than what it has: the process ends, and the next one goes on."""
    with installed(guest) as old:
        relay.welcomed()
        shutil.copy(guest.root / "new.pyz", guest.root / ".agent.pyz.new")
        (guest.root / ".agent.pyz.new").rename(guest.root / "agent.pyz")
        relay.command(start_of(guest))
        relay.until(lambda: relay.payloads(Request) or old.process.poll() is not None, "a request or the end")
        old.kill()
    relay.session, relay.messages = "", []
    with installed(guest):
        relay.welcomed()
        relay.command(start_of(guest))
        relay.message(Request)
        relay.command(permit())
        assert relay.message(Result).outcome == "succeeded"
