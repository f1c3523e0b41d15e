# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent as a process when its guest fails it: full and read-only disks, snapshots, reboots, an empty drive."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from unit.agent_disc import Guest, guest_in
from unit.agent_host import (
    WAIT_S,
    Relay,
    RunningAgent,
    let_install,
    permit,
    runs,
    start_of,
    waiting_script,
)
from unit.agent_support import OTHER_UPGRADE, UPGRADE

from isolift_agent import process, runner
from isolift_agent.wire import Cancel, Progress, Request, Result, Start
from lab.waiting import wait_until


@pytest.fixture
def relay() -> Iterator[Relay]:
    made = Relay()
    yield made
    made.close()


@pytest.fixture
def guest(tmp_path: Path, relay: Relay) -> Iterator[Guest]:
    with guest_in(tmp_path) as made:
        made.port = relay.path
        yield made


def outcomes(relay: Relay) -> dict[str, tuple[str, str]]:
    """Outcome and code of each different result by its message ID."""
    results = {m.message_id: m.payload for m in relay.messages if isinstance(m.payload, Result)}
    return {key: (result.outcome, result.code) for key, result in results.items()}


# The disk of the journal.


@pytest.fixture
def small_disk(guest: Guest) -> Iterator[Path]:
    """A filesystem of 128 KiB for the agent's journal."""
    path = guest.root / "state"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(path)], check=True, timeout=10)
    yield path
    subprocess.run(["umount", str(path)], check=True, timeout=10)


def fill(directory: Path) -> Path:
    """Use every byte of a filesystem; the file that does."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(1024))
    return ballast


def use_up_page(relay: Relay, journal: Path) -> None:
    """Make the journal grow until its last page has no room for another start; a full filesystem would still take that."""
    page = os.sysconf("SC_PAGE_SIZE")
    for number in range(200):
        if page - journal.stat().st_size % page < 500:
            return
        sent = len(relay.payloads(Result))
        relay.command(Cancel(), upgrade_id=f"{number:08}-0000-8000-8000-000000000000")
        relay.until(lambda: len(relay.payloads(Result)) > sent, "the result of a cancel")  # noqa: B023
        relay.silence(0.1)  # its acknowledgement is recorded, too
    raise AssertionError("the page never came to its end")


def test_full_disk_refuses_before_anything_is_touched_and_recovers(
    guest: Guest, relay: Relay, small_disk: Path
) -> None:
    with RunningAgent(guest) as agent:
        relay.welcomed()
        use_up_page(relay, small_disk / "journal.jsonl")
        start = start_of(guest, script=waiting_script(guest))
        let_install(guest)
        ballast = fill(small_disk)
        relay.command(start)
        relay.until(lambda: ("failed", "journal_unwritable") in outcomes(relay).values(), "the refusal")
        assert not (guest.root / "media").exists() and not (guest.root / "work").exists()
        ballast.unlink()
        relay.until(lambda: "is written again" in agent.log.read_text(), "a journal that works")
        upgrade(relay, start, OTHER_UPGRADE)
    assert runs(guest) == 1


def upgrade(relay: Relay, start: Start, upgrade_id: str) -> None:
    """A whole upgrade that succeeds."""
    relay.command(start, upgrade_id=upgrade_id)
    relay.message(Request)
    relay.command(permit(), upgrade_id=upgrade_id)
    relay.until(lambda: ("succeeded", "") in outcomes(relay).values(), "the success")


def test_installer_that_fills_the_disk_of_the_journal_is_reported_truthfully_by_the_next_agent_too(
    guest: Guest, relay: Relay, small_disk: Path
) -> None:
    """Its log alone is longer than what the last page of the journal takes."""
    ballast = small_disk / "ballast"
    script = f'seq 1 2000; cat /dev/zero > {ballast}; echo run >> {guest.root}/runs; cp payload/version "$1"'
    relay.acknowledges = False
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.command(start_of(guest, script=script))
        relay.message(Request)
        relay.command(permit())
        relay.message(Result)
        tree = guest.root / "work" / UPGRADE / "tree"
        relay.until(lambda: not tree.exists(), "the removal of the copy")
        agent.kill()
    relay.session = ""
    with RunningAgent(guest) as agent:
        relay.until(lambda: len(outcomes(relay)) == 2, "the same result from the journal that lacks it")
        ballast.unlink()
        relay.acknowledges = True
        relay.knock()
        relay.until(lambda: "is written again" in agent.log.read_text(), "a journal that works")
        relay.until(lambda: not list((guest.root / "work").iterdir()), "a clean directory")
    assert set(outcomes(relay).values()) == {("succeeded", "")} and runs(guest) == 1


def test_read_only_disk_refuses_and_recovers(guest: Guest, relay: Relay) -> None:
    state = str(guest.root / "state")
    with RunningAgent(guest):
        relay.welcomed()
        start = start_of(guest)
        with read_only(state):
            relay.command(start)
            relay.until(lambda: ("failed", "journal_unwritable") in outcomes(relay).values(), "the refusal")
            assert not (guest.root / "work").exists()
        upgrade(relay, start, OTHER_UPGRADE)


@contextmanager
def read_only(path: str) -> Iterator[None]:
    """A directory that takes no writes for a while; what was open stays so."""
    for options in (("--bind", path, path), ("-o", "remount,bind,ro", path)):
        subprocess.run(["mount", *options], check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True, timeout=10)


@pytest.mark.parametrize(("answer", "outcome"), [("confirm", "failed"), ("decline", "declined")])
@pytest.mark.parametrize("end", ["killed", "room again"])
def test_result_that_the_next_agent_could_belie_waits_for_the_journal(
    guest: Guest, relay: Relay, answer: str, outcome: str, end: str
) -> None:
    """The journal holds a permit that is still valid: an agent that begins with it would install."""
    let_install(guest)
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.command(start_of(guest, script=waiting_script(guest), consent="ask"))
        relay.message(Request)
        relay.command(permit())
        relay.until(lambda: agent.state() == "asking", "the question")
        relay.silence(0.2)  # all that was said is acknowledged, and that is recorded
        size = (guest.root / "state/journal.jsonl").stat().st_size
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        assert agent.call("answer", answer).returncode == 0
        assert agent.state() == ""
        relay.knock()
        relay.welcomed()
        relay.silence(0.3)
        assert not relay.payloads(Result) and runs(guest) == 0
        if end == "room again":
            resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            relay.message(Result)
        else:
            agent.kill()
            relay.session = ""
            with RunningAgent(guest) as second:
                relay.welcomed()  # until it was told the time it knows of no valid permit
                relay.until(lambda: second.state() == "asking", "the question again")
                assert second.call("answer", "confirm").returncode == 0
                relay.message(Result)
    expected = outcome if end == "room again" else "succeeded"
    assert {found for found, _code in outcomes(relay).values()} == {expected}
    assert runs(guest) == (expected == "succeeded")


# The disk is set back.


def numbers(relay: Relay) -> list[int]:
    """The numbers of the messages that came."""
    return [int(message.message_id.partition(".")[2]) for message in relay.messages]


def test_snapshot_reverted_after_newer_messages_were_sent(guest: Guest, relay: Relay) -> None:
    state, snapshot = guest.root / "state", guest.root / "snapshot"
    start = start_of(guest)
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.command(start)
        relay.message(Request)
        agent.kill()
    shutil.copytree(state, snapshot)
    relay.session = ""
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.command(permit())
        relay.message(Result)
        agent.kill()
    before, counted = max(numbers(relay)), relay.hellos[-1].counter
    revert(guest, snapshot)
    relay.session, relay.messages = "", []
    with RunningAgent(guest):
        relay.welcomed()
        assert relay.hellos[-1].generation == relay.hellos[0].generation
        assert relay.hellos[-1].counter <= counted
        relay.command(start)
        relay.until(lambda: fresh(relay, before), "a request that is newer than all that was sent")


def fresh(relay: Relay, before: int) -> bool:
    """Whether a request came whose number is higher than another."""
    requests = [message for message in relay.messages if isinstance(message.payload, Request)]
    return any(int(message.message_id.partition(".")[2]) > before for message in requests)


def revert(guest: Guest, snapshot: Path) -> None:
    """Set the guest's disk back."""
    shutil.rmtree(guest.root / "state")
    shutil.copytree(snapshot, guest.root / "state")
    shutil.rmtree(guest.root / "work", ignore_errors=True)
    guest.version_file.unlink(missing_ok=True)


def test_upgrade_that_a_reverted_agent_does_not_know_is_new_to_it(guest: Guest, relay: Relay) -> None:
    snapshot = guest.root / "snapshot"
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.until(lambda: "vm: -" not in agent.call("status").stdout, "the first records")
        agent.kill()
    shutil.copytree(guest.root / "state", snapshot)
    relay.session = ""
    start = start_of(guest)
    with RunningAgent(guest) as agent:
        relay.welcomed()
        upgrade(relay, start, UPGRADE)
        agent.kill()
    revert(guest, snapshot)
    before = max(numbers(relay))
    relay.session, relay.messages = "", []
    with RunningAgent(guest):
        relay.welcomed()
        relay.command(permit(9))
        assert relay.refusal().startswith("unknown_upgrade")
        relay.command(start)
        relay.until(lambda: fresh(relay, before), "a request as for any new upgrade")


# The guest goes down.


def installing(guest: Guest, relay: Relay, agent: RunningAgent) -> process.Identity:
    """An upgrade whose installer waits; which process that is."""
    relay.welcomed()
    relay.command(start_of(guest, script=waiting_script(guest)))
    relay.message(Request)
    relay.command(permit())
    directory = guest.root / "work" / UPGRADE
    relay.until(lambda: runs(guest) and runner.read_beginning(directory), "the installer")
    beginning = runner.read_beginning(directory)
    assert beginning
    return beginning.installer


def parent(pid: int) -> int:
    """The parent of a process."""
    status = Path(f"/proc/{pid}/stat").read_text()
    return int(status.rpartition(")")[2].split()[1])


def test_reboot_while_installing_is_told_by_the_boot_id(guest: Guest, relay: Relay) -> None:
    """After it another process has the number, and even the start time, of the installer: it is neither waited for nor ended."""
    with RunningAgent(guest) as agent:
        alike = installing(guest, relay, agent)
        agent.kill()
    os.kill(parent(alike.pid), signal.SIGKILL)
    relay.session = ""
    try:
        with RunningAgent(guest, rebooted(guest)):
            result = relay.message(Result)
            assert (result.outcome, result.code) == ("interrupted", "interrupted")
        assert process.alive(alike) and runs(guest) == 1
    finally:
        let_install(guest)
        assert process.wait_gone(alike, WAIT_S)


def rebooted(guest: Guest) -> list[str]:
    """The agent's program in a guest whose boot ID is another one."""
    (guest.root / "boot_id").write_text("11111111-2222-4333-8444-555555555555\n")
    mount = shutil.which("mount")  # not the one of the guest
    script = f'{mount} --bind {guest.root}/boot_id /proc/sys/kernel/random/boot_id && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-m", "isolift_agent"]


def test_second_campaign_waits_until_the_first_has_installed(guest: Guest, relay: Relay) -> None:
    with RunningAgent(guest) as agent:
        installing(guest, relay, agent)
        relay.command(start_of(guest, script=waiting_script(guest)), upgrade_id=OTHER_UPGRADE)
        relay.until(lambda: Progress("busy", UPGRADE) in relay.payloads(Progress), "busy")
        agent.kill()
        relay.session = ""
        with RunningAgent(guest) as agent:
            relay.welcomed()
            assert agent.state() == "installing"
            let_install(guest)
            relay.until(lambda: len(outcomes(relay)) == 2, "both results")
    named = [m.upgrade_id for m in relay.messages if isinstance(m.payload, Result)]
    assert named == [UPGRADE, OTHER_UPGRADE] and runs(guest) == 1
    assert [outcome for outcome, _code in outcomes(relay).values()] == ["succeeded", "up_to_date"]


# The drive is empty for a while.


def test_disc_that_a_migration_took_away_is_waited_for(guest: Guest, relay: Relay) -> None:
    away = guest.root / "away"
    with RunningAgent(guest) as agent:
        relay.welcomed()
        start = start_of(guest)
        guest.drive.rename(away)
        relay.command(start)
        relay.until(lambda: agent.state() == "inspecting", "the inspection")
        away.rename(guest.drive)
        relay.message(Request)
        guest.drive.rename(away)
        relay.command(permit())
        relay.until(lambda: agent.state() == "verifying", "the verification")
        relay.command(start)
        assert agent.state() == "verifying", "a start that is sent again is acknowledged only"
        away.rename(guest.drive)
        assert relay.message(Result).outcome == "succeeded"


@pytest.mark.parametrize("end", ["cancel", "deadline"])
def test_wait_for_the_disc_ends_by(guest: Guest, relay: Relay, end: str) -> None:
    with RunningAgent(guest) as agent:
        relay.welcomed()
        start = start_of(guest, seconds=2 if end == "deadline" else 600)
        guest.drive.rename(guest.root / "away")
        relay.command(start)
        relay.until(lambda: agent.state() == "inspecting", "the inspection")
        if end == "cancel":
            relay.command(Cancel())
            assert relay.message(Result).outcome == "cancelled"
        wait_until(lambda: agent.state() == "", what="the end", timeout=WAIT_S)
        relay.silence(0.1)
        assert len(relay.payloads(Result)) == (1 if end == "cancel" else 0)
