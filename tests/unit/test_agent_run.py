# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent as a process: whole upgrades over a terminal, kills in between, questions, noise on the line, idleness."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
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
from unit.agent_support import OTHER_UPGRADE, OTHER_VM, UPGRADE

from isolift_agent import process, runner
from isolift_agent.wire import (
    Ack,
    Cancel,
    Confirmation,
    Knock,
    Progress,
    Request,
    Result,
    encode_frame,
)
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


def test_upgrade(guest: Guest, relay: Relay) -> None:
    guest.version_file.write_text("1.0.0\n")
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.command(start_of(guest))
        request = relay.message(Request)
        assert request.installed_version == "1.0.0" and request.facts["agent_version"]
        relay.command(permit())
        result = relay.message(Result)
        assert (result.outcome, result.version_before, result.version_after) == (
            "succeeded",
            "1.0.0",
            "2.0.0",
        )
        assert result.unmounted and not guest.mounted()
        assert [item.TYPE for item in (m.payload for m in relay.messages)] == [
            "request",
            "confirmation",
            "progress",
            "result",
        ]
        numbers = [int(message.message_id.partition(".")[2]) for message in relay.messages]
        assert numbers == sorted(set(numbers))
        assert {message.upgrade_id for message in relay.messages} == {UPGRADE}
        wait_until(
            lambda: not list((guest.root / "work").iterdir()), what="a clean directory", timeout=WAIT_S
        )
        assert agent.stop() == 0


def test_nothing_is_sent_twice_after_it_was_acknowledged(guest: Guest, relay: Relay) -> None:
    guest.version_file.write_text("2.0.0\n")
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.command(start_of(guest))
        assert relay.message(Result).outcome == "up_to_date"
        relay.until(lambda: "unacknowledged: 0" in agent.call("status").stdout, "the acknowledgement")
        agent.kill()
    relay.session = ""
    with RunningAgent(guest):
        relay.welcomed()
        relay.silence(0.3)
        assert len(relay.payloads(Result)) == 1


def test_unacknowledged_messages_are_sent_again_in_order(guest: Guest, relay: Relay) -> None:
    relay.acknowledges = False
    with RunningAgent(guest):
        relay.welcomed()
        relay.command(start_of(guest))
        relay.command(permit())
        relay.message(Result)
        first = relay.messages
        relay.messages = []
        relay.acknowledges = True
        relay.knock()
        relay.message(Result)
        assert relay.messages == first


def test_every_command_that_comes_three_times_counts_once(guest: Guest, relay: Relay) -> None:
    let_install(guest)
    with RunningAgent(guest):
        relay.welcomed()
        for payload, awaited in (
            (start_of(guest, script=waiting_script(guest)), Request),
            (permit(), Result),
        ):
            frame = relay.carry(payload)
            for _unused in range(3):
                relay.send(frame)
            relay.message(awaited)
        relay.send(relay.carry(Cancel()))
        relay.until(lambda: len(relay.acks) == 7, "an acknowledgement of each")
    assert runs(guest) == 1 and not any(ack.refused for ack in relay.acks)
    assert len({m.message_id for m in relay.messages if isinstance(m.payload, Result)}) == 1


def test_command_of_an_earlier_session_is_not_followed(guest: Guest, relay: Relay) -> None:
    with RunningAgent(guest) as agent:
        relay.welcomed()
        stale = relay.carry(start_of(guest))
        relay.knock()
        relay.welcomed()
        hellos = len(relay.hellos)
        relay.send(stale)
        relay.until(
            lambda: len(relay.hellos) > hellos, "a hello, because the relay seems to know of another session"
        )
        assert not relay.acks and agent.state() == ""


def test_agent_killed_while_the_installer_runs(guest: Guest, relay: Relay) -> None:
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.command(start_of(guest, script=waiting_script(guest)))
        relay.message(Request)
        relay.command(permit())
        relay.until(lambda: runs(guest), "the installer")
        agent.kill()
    relay.session = ""
    with RunningAgent(guest) as agent:
        relay.welcomed()
        start = start_of(guest, script=waiting_script(guest))
        relay.command(start)
        relay.command(permit(2))
        assert agent.state() == "installing"
        let_install(guest)
        result = relay.message(Result)
        assert (result.outcome, result.exit_code) == ("succeeded", 0)
        relay.command(start)
        relay.command(permit(3))
        relay.silence(0.3)
    assert runs(guest) == 1
    assert len({message.message_id for message in relay.messages if isinstance(message.payload, Result)}) == 1


def test_agent_stopped_while_the_installer_runs_leaves_it_alone(guest: Guest, relay: Relay) -> None:
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.command(start_of(guest, script=waiting_script(guest)))
        relay.message(Request)
        relay.command(permit())
        relay.until(lambda: runner.read_beginning(guest.root / "work" / UPGRADE), "the installer")
        beginning = runner.read_beginning(guest.root / "work" / UPGRADE)
        began = time.monotonic()
        assert agent.stop() == 0
        assert time.monotonic() - began < 3
    assert beginning and process.alive(beginning.installer)
    let_install(guest)
    assert process.wait_gone(beginning.installer, WAIT_S)
    relay.session = ""
    with RunningAgent(guest):
        assert relay.message(Result).outcome == "succeeded"


def test_guest_that_lost_power_while_installing(guest: Guest, relay: Relay) -> None:
    """The agent, the runner and the installer all die at once; the version decides."""
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.command(start_of(guest, script=waiting_script(guest)))
        relay.message(Request)
        relay.command(permit())
        relay.until(lambda: runner.read_beginning(guest.root / "work" / UPGRADE), "the installer")
        beginning = runner.read_beginning(guest.root / "work" / UPGRADE)
        assert beginning
        status = Path(f"/proc/{beginning.installer.pid}/stat").read_text()
        agent.kill()
        os.kill(int(status.rpartition(")")[2].split()[1]), signal.SIGKILL)
        os.killpg(beginning.installer.pid, signal.SIGKILL)
    relay.session = ""
    with RunningAgent(guest):
        result = relay.message(Result)
        assert (result.outcome, result.stage, result.exit_code) == ("interrupted", "install", -1)
    assert runs(guest) == 1


@pytest.mark.parametrize("seed", range(4))
def test_agent_killed_again_and_again(guest: Guest, relay: Relay, seed: int) -> None:
    """Whenever it dies: one result in the end, and never a second installation."""
    moments = random.Random(seed)
    start = start_of(guest, script=waiting_script(guest))
    let_install(guest)
    for round_number in range(1, 40):
        relay.session = ""
        with RunningAgent(guest):
            relay.welcomed()
            relay.send(relay.carry(start))
            relay.send(relay.carry(permit(round_number)))
            relay.silence(moments.uniform(0.0, 0.4))
        if relay.payloads(Result):
            break
    results = {m.message_id: m.payload for m in relay.messages if isinstance(m.payload, Result)}
    assert len(results) == 1
    (result,) = results.values()
    assert isinstance(result, Result)
    if result.outcome == "succeeded":
        assert runs(guest) == 1
    else:
        assert result.outcome == "interrupted" and runs(guest) <= 1


def test_user_answers_by_command(guest: Guest, relay: Relay) -> None:
    with RunningAgent(guest) as agent:
        relay.welcomed()
        assert agent.call("answer", "confirm").returncode == 1
        relay.command(start_of(guest, consent="ask"))
        relay.message(Request)
        relay.command(permit())
        relay.until(lambda: agent.state() == "asking", "the question")
        answered = agent.call("answer", "decline")
        assert (answered.returncode, UPGRADE in answered.stdout) == (0, True)
        assert relay.message(Result).outcome == "declined"
        assert relay.message(Confirmation) == Confirmation(1, "decline", "user")
    assert not guest.version_file.exists()


@pytest.mark.parametrize(("status", "outcome"), [(0, "succeeded"), (1, "declined")])
def test_prompt_command_answers(guest: Guest, relay: Relay, status: int, outcome: str) -> None:
    seen = guest.root / "seen"
    guest.prompt = ["/bin/sh", "-c", f"env | grep ^ISOLIFT_ | sort > {seen}; exit {status}"]
    with RunningAgent(guest):
        relay.welcomed()
        start = start_of(guest, consent="ask")
        relay.command(start)
        relay.message(Request)
        relay.command(permit())
        assert relay.message(Result).outcome == outcome
    assert seen.read_text().splitlines() == [
        "ISOLIFT_COMPONENT=guest-tools",
        f"ISOLIFT_DEADLINE={int(start.deadline)}",
        "ISOLIFT_PROMPT=Upgrade now?",
        "ISOLIFT_VERSION=2.0.0",
    ]


def without_unicode(guest: Guest) -> RunningAgent:
    """The agent in a guest whose locale is not UTF-8."""
    return RunningAgent(guest, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")


@pytest.mark.parametrize(("text", "shown"), [("one\0two", "one two"), ("größer → 2", "gr??er ? 2")])
def test_prompt_shows_what_an_environment_can_hold(guest: Guest, relay: Relay, text: str, shown: str) -> None:
    seen = guest.root / "seen"
    guest.prompt = ["/bin/sh", "-c", f"printenv ISOLIFT_PROMPT > {seen}"]
    with without_unicode(guest):
        relay.welcomed()
        relay.command(replace(start_of(guest, consent="ask"), prompt=text))
        relay.message(Request)
        relay.command(permit())
        assert relay.message(Result).outcome == "succeeded"
    assert seen.read_text().rstrip() == shown


def test_prompt_command_that_the_locale_cannot_name_leaves_the_question_open(
    guest: Guest, relay: Relay
) -> None:
    guest.prompt = ["/bin/sh", "-c", "exit 0", "größer"]
    with without_unicode(guest) as agent:
        relay.welcomed()
        relay.command(start_of(guest, consent="ask"))
        relay.message(Request)
        relay.command(permit())
        relay.until(lambda: "cannot run the prompt command" in agent.log.read_text(), "the refusal")
        assert agent.call("answer", "confirm").returncode == 0
        assert relay.message(Result).outcome == "succeeded"


def test_prompt_without_an_answer_leaves_the_question_open(guest: Guest, relay: Relay) -> None:
    guest.prompt = ["/bin/sh", "-c", "exit 5"]
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.command(start_of(guest, consent="ask"))
        relay.message(Request)
        relay.command(permit())
        relay.until(lambda: "gave no answer" in agent.log.read_text(), "the end of the prompt")
        assert agent.state() == "asking"
        assert agent.call("answer", "confirm").returncode == 0
        assert relay.message(Result).outcome == "succeeded"


def test_prompt_is_taken_away_when_the_upgrade_is_cancelled(guest: Guest, relay: Relay) -> None:
    pid_file = guest.root / "prompt.pid"
    guest.prompt = [
        "/bin/sh",
        "-c",
        f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 300",
    ]
    with RunningAgent(guest):
        relay.welcomed()
        relay.command(start_of(guest, consent="ask"))
        relay.message(Request)
        relay.command(permit())
        relay.until(pid_file.exists, "the prompt")
        asking = process.identify(int(pid_file.read_text()))
        assert asking
        relay.command(Cancel())
        assert relay.message(Result).outcome == "cancelled"
        assert process.wait_gone(asking, WAIT_S)


def test_prompt_that_does_not_heed_the_end_of_the_question_is_killed(guest: Guest, relay: Relay) -> None:
    pids = guest.root / "prompt.pids"
    guest.prompt = ["/bin/sh", "-c", f"trap '' TERM; echo $$ >> {pids}; sleep 300; sleep 300"]
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.command(start_of(guest, consent="ask"))
        relay.message(Request)
        relay.command(permit())
        relay.until(lambda: _pids(pids), "the prompt")
        (asking,) = _pids(pids)
        relay.command(Cancel())
        assert relay.message(Result).outcome == "cancelled", "nobody waits for the prompt's end"
        assert agent.state() == ""
        relay.until(lambda: process.identify(asking) is None, "the end of the prompt")


def test_prompt_of_an_agent_that_was_killed_is_taken_away(guest: Guest, relay: Relay) -> None:
    pids = guest.root / "prompt.pids"
    guest.prompt = ["/bin/sh", "-c", f"echo $$ >> {pids}; exec sleep 300"]
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.command(start_of(guest, consent="ask"))
        relay.message(Request)
        relay.command(permit())
        relay.until(lambda: (guest.root / "state/prompt.json").exists() and _pids(pids), "the prompt")
        (orphan,) = _pids(pids)
        agent.kill()
    relay.session = ""
    with RunningAgent(guest):
        relay.welcomed()
        relay.until(lambda: len(_pids(pids)) == 2, "the second prompt")
        relay.until(lambda: process.identify(orphan) is None, "the end of the first prompt")
        assert process.identify(_pids(pids)[1])
        relay.command(Cancel())


def _pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_question_is_closed_at_the_deadline(guest: Guest, relay: Relay) -> None:
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.command(start_of(guest, consent="ask", seconds=2))
        relay.message(Request)
        relay.command(permit())
        relay.until(lambda: agent.state() == "asking", "the question")
        relay.until(lambda: agent.state() == "", "the deadline")
        assert not relay.payloads(Result)
        assert agent.call("answer", "confirm").returncode == 1


def test_waiting_upgrade_has_its_turn(guest: Guest, relay: Relay) -> None:
    with RunningAgent(guest):
        relay.welcomed()
        start = start_of(guest)
        relay.command(start)
        relay.message(Request)
        relay.command(start, upgrade_id=OTHER_UPGRADE)
        assert relay.message(Progress) == Progress("busy", UPGRADE)
        relay.command(permit())
        relay.message(Result)
        relay.until(lambda: len(relay.payloads(Result)) == 2, "the second result")
        assert [m.upgrade_id for m in relay.messages if m.payload.TYPE == "result"] == [
            UPGRADE,
            OTHER_UPGRADE,
        ]
        assert relay.message(Result).outcome == "up_to_date"


def test_clone_begins_anew(guest: Guest, relay: Relay) -> None:
    relay.acknowledges = False
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.command(start_of(guest))
        relay.message(Request)
        agent.kill()
    relay.session, relay.vm, relay.messages = "", OTHER_VM, []
    before = relay.hellos[-1]
    with RunningAgent(guest):
        relay.until(lambda: len(relay.hellos) >= 3, "a hello of the new generation")
        after = relay.hellos[-1]
        assert (after.vm, after.counter) == (OTHER_VM, 1)
        assert after.generation != before.generation
        relay.silence(0.3)
        assert not relay.messages, "nothing of the original is sent"
    assert (guest.root / "state/journal.jsonl.1").exists()


def test_noise_on_the_line(guest: Guest, relay: Relay) -> None:
    with RunningAgent(guest) as agent:
        relay.welcomed()
        hellos = len(relay.hellos)
        relay.send_raw(b"\xff\x00garbage{}[]\n" + b'{"type":"carry"}\n' + b"x" * 200_000 + b"\n")
        half = encode_frame(Ack(session=relay.session, message_id="m"))
        relay.send_raw(half[: len(half) // 2])
        relay.knock()
        relay.until(lambda: len(relay.hellos) > hellos, "a hello in spite of the noise")
        relay.command(start_of(guest))
        relay.message(Request)
        assert agent.process.poll() is None
        assert agent.log.read_text().count("dropped a line") >= 2


def test_other_messages_than_commands_are_dropped(guest: Guest, relay: Relay) -> None:
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.send(relay.carry(Result("succeeded")))
        relay.until(lambda: "unknown_type" in agent.log.read_text(), "the complaint")
        assert not relay.acks


@pytest.mark.parametrize("room", [0, 1000, 2000, 3000, 4000, 5000, 6000, 8000, 100_000])
def test_disk_that_takes_no_more_than_some_bytes(guest: Guest, relay: Relay, room: int) -> None:
    """Wherever the journal comes to its end: what is not installed is not said to be, and the other way round."""
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.until(lambda: "vm: -" not in agent.call("status").stdout, "the first records")
        size = (guest.root / "state/journal.jsonl").stat().st_size + room
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        relay.command(start_of(guest, script=waiting_script(guest)))
        let_install(guest)
        relay.until(lambda: relay.payloads(Request) or relay.payloads(Result) or not agent.state(), "a word")
        if relay.payloads(Request) and not relay.payloads(Result):
            relay.command(permit())
        refused = relay.refusal()
        if not refused:
            relay.until(lambda: not agent.state(), "the end of the upgrade")
            # What the journal may belie is said when it can be written again.
            resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            relay.knock()
        result = None if refused else relay.message(Result)
    if result and result.outcome == "succeeded":
        assert (runs(guest), result.version_after) == (1, "2.0.0")
    else:
        assert runs(guest) == 0 and not guest.version_file.exists()
        reason = result.code if result else refused.partition(":")[0]
        assert reason in ("journal_unwritable", "not_started")
    assert room or not relay.payloads(Request), "without any room not even the start is taken"
    assert room < 100_000 or runs(guest)


def test_disc_left_mounted_and_copy_left_behind_are_tidied(guest: Guest, relay: Relay) -> None:
    start_of(guest)
    (guest.root / "media").mkdir()
    leftover = guest.root / "work" / OTHER_UPGRADE
    leftover.mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(guest.drive), str(guest.root / "media")], check=True, timeout=10)
    with RunningAgent(guest):
        relay.until(lambda: not guest.mounted(), "the unmounting")
        relay.until(lambda: not leftover.exists(), "the removal")


def test_port_that_comes_later(guest: Guest, relay: Relay) -> None:
    guest.port = str(guest.root / "port")
    with RunningAgent(guest) as agent:
        relay.until(lambda: "cannot open the port" in agent.log.read_text(), "the complaint")
        os.symlink(relay.path, guest.port)
        relay.welcomed()
        assert "port: open" in agent.call("status").stdout


def test_status_and_version(guest: Guest, relay: Relay) -> None:
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.command(start_of(guest))
        relay.message(Request)
        status = agent.call("status")
        assert status.returncode == 0
        assert "session: open" in status.stdout and f"upgrade_id={UPGRADE} state=requested" in status.stdout
    assert agent.call("status").returncode == 2
    assert _run_agent("--version").stdout.strip()


def test_second_agent_is_refused(guest: Guest, relay: Relay) -> None:
    with RunningAgent(guest) as agent:
        second = agent.call("run")
        assert second.returncode == 2 and "another agent" in second.stderr
        assert agent.state() == ""


def test_ready_is_told_to_systemd(guest: Guest) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(guest.root / "notify"))
        notify.settimeout(WAIT_S)
        with RunningAgent(guest, NOTIFY_SOCKET=str(guest.root / "notify")):
            assert notify.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"prot": "/dev/x"}', "unknown key 'prot'"),
        ('{"port": "relative"}', "port: expected an absolute path"),
        ('{"media": []}', "media: expected a list"),
        ('{"prompt": "zenity"}', "prompt: expected a list"),
        ("[]", "expected a JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_bad_configuration(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "agent.json").write_text(text)
    done = _run_agent("run", "--config", str(tmp_path / "agent.json"))
    assert done.returncode == 2 and complaint in done.stderr and "agent.json" in done.stderr


def test_missing_configuration(tmp_path: Path) -> None:
    done = _run_agent("status", "--config", str(tmp_path / "absent.json"))
    assert done.returncode == 2 and "cannot read" in done.stderr


def _run_agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "isolift_agent", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(runner.__file__).parent.parent)}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False)


def test_control_socket_serves_anybody_but_no_flood(guest: Guest, relay: Relay) -> None:
    with RunningAgent(guest) as agent:
        path = guest.config.control_socket
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        idle = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _unused in range(20)]
        try:
            for client in idle:
                client.connect(str(path))
            assert agent.call("status").returncode == 0
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as rude:
                rude.settimeout(WAIT_S)
                rude.connect(str(path))
                rude.sendall(b"x" * 5000)
                assert _closed(rude)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as odd:
                odd.settimeout(WAIT_S)
                odd.connect(str(path))
                odd.sendall(b"format c:\n")
                assert json.loads(odd.recv(1000)) == {"ok": False, "error": "unknown request"}
        finally:
            for client in idle:
                client.close()
        assert agent.state() == ""


def _closed(client: socket.socket) -> bool:
    try:
        return client.recv(100) == b""
    except ConnectionResetError:
        return True


def test_idle_agent_sleeps(guest: Guest, relay: Relay) -> None:
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.send(Knock())
        relay.until(lambda: len(relay.hellos) == 2, "the second hello")
        relay.until(partial(_rests, agent.process.pid, relay), "rest")
        before = _switches(agent.process.pid)
        relay.silence(2.0)
        assert _switches(agent.process.pid) == before


def test_agent_whose_host_is_gone_sleeps_too(guest: Guest, relay: Relay) -> None:
    with RunningAgent(guest) as agent:
        relay.welcomed()
        relay.leave()
        wait_until(lambda: _sleeps(agent, 0.3), what="rest", timeout=20.0)
        assert _sleeps(agent, 2.0)


def _sleeps(agent: RunningAgent, seconds: float) -> bool:
    """Whether the agent goes on for that time without being woken."""
    before = _switches(agent.process.pid)
    with pytest.raises(subprocess.TimeoutExpired):
        agent.process.wait(seconds)
    return _switches(agent.process.pid) == before


REST_S = 0.5
SOON_WORN = f"import sys; from isolift_agent import __main__, agent; agent.RENEW_S = {REST_S}; sys.exit(__main__.main())"


def test_agent_at_rest_begins_anew_after_its_work_and_only_then(guest: Guest, relay: Relay) -> None:
    guest.version_file.write_text("1.0.0\n")
    with RunningAgent(guest, [sys.executable, "-c", SOON_WORN]) as agent:
        relay.welcomed()
        relay.silence(3 * REST_S)
        assert len(relay.hellos) == 1, "it did not work yet"
        relay.command(start_of(guest, consent="ask"))
        relay.message(Request)
        relay.command(permit())
        relay.until(lambda: agent.state() == "asking", "the question")
        assert _has_openssl(agent.process.pid)
        relay.silence(3 * REST_S)
        assert len(relay.hellos) == 1, "its user is being asked"
        relay.acknowledges = False
        assert agent.call("answer", "confirm").returncode == 0
        assert relay.message(Result).outcome == "succeeded"
        relay.silence(3 * REST_S)
        assert len(relay.hellos) == 1, "its result is not acknowledged"
        relay.acknowledges = True
        relay.knock()
        relay.until(lambda: len(relay.hellos) == 3, "a knock's hello and one of its own")
        assert not _has_openssl(agent.process.pid)
        assert len({hello.generation for hello in relay.hellos}) == 1
        relay.silence(3 * REST_S)
        assert len(relay.hellos) == 3, "it did not work since"
        assert agent.stop() == 0


def test_agent_that_finds_what_it_cannot_remove_does_not_begin_anew_for_that(
    guest: Guest, relay: Relay
) -> None:
    foreign = guest.root / "work" / "lost+found"
    foreign.mkdir(parents=True)
    with RunningAgent(guest, [sys.executable, "-c", SOON_WORN]):
        relay.welcomed()
        relay.silence(4 * REST_S)
        assert len(relay.hellos) == 1
    assert foreign.exists()


def _has_openssl(pid: int) -> bool:
    return "libcrypto" in Path(f"/proc/{pid}/maps").read_text()


def _rests(pid: int, relay: Relay) -> bool:
    before = _switches(pid)
    relay.silence(0.3)
    return _switches(pid) == before


def _switches(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)
