# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent's installer as real processes: its ending, its time limit, its log, and the deaths of those who watch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from unit.agent_disc import INSTALL, Guest, guest_in
from unit.agent_support import UPGRADE, command

from isolift_agent import facts, installer, process, runner, tasks
from isolift_agent.events import Installed
from isolift_agent.manifest import parse, render
from isolift_agent.memory import Upgrade
from isolift_agent.wire import LOG_TAIL_LIMIT
from lab import waiting

WAIT_S = 20.0


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    with guest_in(tmp_path) as made:
        monkeypatch.setenv("PATH", made.path)
        yield made


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, not for ever."""
    waiting.wait_until(lambda: bool(condition()), what=what, timeout=WAIT_S, every=0.02)


def prepared(guest: Guest, script: str) -> Upgrade:
    """An upgrade whose private copy is ready to be installed."""
    upgrade = Upgrade(command(guest.insert(script=script)))
    assert tasks.prepare(guest.config, upgrade, lambda: False).failure is None
    return upgrade


def install(guest: Guest, script: str) -> Installed:
    """Install, and wait for the end."""
    return tasks.install(guest.config, prepared(guest, script))


def directory(guest: Guest) -> Path:
    """The upgrade's directory."""
    return guest.root / "work" / UPGRADE


def lock(guest: Guest) -> Path:
    """The lock of the guest's installers."""
    return guest.root / "state" / installer.LOCK


def started(guest: Guest) -> process.Identity:
    """The installer that runs, as soon as it does."""
    wait_until(lambda: runner.read_beginning(directory(guest)), "the start of the installer")
    beginning = runner.read_beginning(directory(guest))
    assert beginning
    return beginning.installer


def begun(guest: Guest) -> process.Identity:
    """The installer that runs, once it has printed something: until then its runner still holds it back."""
    installing = started(guest)
    wait_until(lambda: runner.log_tail(directory(guest)), "the installer's first words")
    return installing


def runner_of(installer_pid: int) -> int:
    """The process that watches an installer."""
    stat = Path(f"/proc/{installer_pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def in_background(work: Callable[[], Installed]) -> Callable[[], Installed]:
    """Begin something; the function returned waits for what it comes to."""
    results: list[Installed] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()

    def wait() -> Installed:
        thread.join(WAIT_S)
        assert results, "it did not end"
        return results[0]

    return wait


def test_installation(guest: Guest) -> None:
    script = 'echo "in $PWD: $ISOLIFT_COMPONENT $ISOLIFT_VERSION"; cp payload/version "$1"'
    done = install(guest, script)
    assert (done.version, done.exit_code, done.timed_out, done.failure) == ("2.0.0", 0, False, None)
    assert done.log_tail == f"in {directory(guest)}/tree: guest-tools 2.0.0\n"
    assert 0 < done.duration_s < WAIT_S


def test_failing_installer(guest: Guest) -> None:
    done = install(guest, "echo no luck >&2; exit 3")
    assert (done.version, done.exit_code, done.log_tail) == ("", 3, "no luck\n")


def test_installer_killed_by_a_signal(guest: Guest) -> None:
    assert install(guest, "kill -9 $$").exit_code == -9


def test_installer_that_cannot_be_started(guest: Guest) -> None:
    start = guest.insert()
    manifest = (guest.drive / "isolift/manifest.json").read_bytes().replace(b'"/bin/sh"', b'"/no/such/shell"')
    upgrade = Upgrade(command(guest.label(manifest, start.target_version)))
    assert tasks.prepare(guest.config, upgrade, lambda: False).failure is None
    done = tasks.install(guest.config, upgrade)
    assert done.exit_code == runner.CANNOT_RUN and "/no/such/shell" in done.log_tail


def test_installer_that_the_locale_cannot_name(guest: Guest) -> None:
    upgrade = prepared(guest, "true")
    order = runner.Order(("/bin/\ud800",), str(directory(guest) / "tree"), 60, "guest-tools", "2.0.0")
    runner.write_order(directory(guest), order)
    assert runner.main(directory(guest)) == 0
    done = tasks.settle(guest.config, upgrade)
    assert done.exit_code == runner.CANNOT_RUN and "surrogates" in done.log_tail


def test_installer_is_shielded_from_the_agents_environment(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    done = install(
        guest, "env | grep -E 'NOTIFY|PYTHONPATH'; ls -l /proc/self/fd | grep -c installer.lock; true"
    )
    assert done.log_tail == "0\n"


def test_time_limit_ends_the_whole_group(guest: Guest) -> None:
    guest.timeout_s = 1
    pids = guest.root / "pids"
    done = install(guest, f"trap '' TERM; sleep 300 & echo $! $$ > {pids}; while :; do sleep 300; done")
    assert done.timed_out and done.exit_code
    for pid in pids.read_text().split():
        wait_until(partial(_gone, int(pid)), "the end of the group")


def _gone(pid: int) -> bool:
    return process.identify(pid) is None


def test_log_keeps_its_end(guest: Guest) -> None:
    done = install(guest, "seq 1 20000; printf 'end \\377 of log'")
    assert len(done.log_tail) == LOG_TAIL_LIMIT and done.log_tail.endswith("20000\nend \ufffd of log")


def test_log_does_not_fill_the_disk(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    flag, quiet, gate = guest.root / "enough", guest.root / "quiet", guest.root / "gate"
    os.mkfifo(gate)
    flood = f"while [ ! -e {flag} ]; do yes 'a line of log' | head -c 10000; done"
    script = f"{flood}; : > {quiet}; read word < {gate}; echo the end"
    wait = in_background(lambda: tasks.install(guest.config, prepared(guest, script)))
    started(guest)
    log = directory(guest) / "log"
    longest = 0

    def was_shortened() -> bool:
        nonlocal longest
        size = log.stat().st_size
        longest = max(longest, size)
        return runner.LOG_LIMIT < longest and size < longest

    wait_until(was_shortened, "a log that is cut when it has become long")
    flag.touch()
    wait_until(quiet.exists, "the end of the flood")
    # What is printed while the log is being cut may be lost, so the end waits until that is over.
    wait_until(lambda: runner.LOG_KEPT <= log.stat().st_size <= runner.LOG_LIMIT, "the last cut")
    gate.write_text("go\n")
    assert wait().log_tail.endswith("the end\n")


def test_daemon_that_the_installer_leaves_behind_is_not_waited_for(guest: Guest) -> None:
    pid_file = guest.root / "pid"
    done = install(guest, f'sleep 300 & echo $! > {pid_file}; cp payload/version "$1"')
    pid = int(pid_file.read_text())
    try:
        assert (done.exit_code, done.version) == (0, "2.0.0")
        assert process.identify(pid), "it is left alone"
    finally:
        os.kill(pid, signal.SIGKILL)


def test_installer_that_fills_the_disk_is_still_reported(guest: Guest) -> None:
    work = guest.root / "work"
    work.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(work)], check=True, timeout=10, env={}
    )
    try:
        done = install(guest, "cat /dev/zero > payload/ballast; echo $?; exit 9")
        assert done.exit_code == 9
    finally:
        subprocess.run(["umount", str(work)], check=True, timeout=10)


def test_two_installers_never_run_at_once(guest: Guest) -> None:
    flag = guest.root / "flag"
    upgrade = prepared(guest, f"while [ ! -e {flag} ]; do sleep 0.05; done")
    wait = in_background(lambda: tasks.install(guest.config, upgrade))
    started(guest)
    second = tasks.install(guest.config, upgrade)
    assert second.failure and second.failure.code == "installer_running"
    assert installer.running(lock(guest))
    tasks.clean(guest.config, keep="")
    assert directory(guest).exists(), "nothing is removed under a running installer"
    flag.touch()
    assert wait().exit_code == 0
    assert not installer.running(lock(guest))


# After a restart of the agent: another process settles what the first one began.


def begin_elsewhere(guest: Guest, upgrade: Upgrade) -> subprocess.Popen[bytes]:
    """An agent that has started the installer, as a process of its own."""
    script = (
        "import sys; from pathlib import Path; from isolift_agent import installer, runner\n"
        "directory, lock, version_file = map(Path, sys.argv[1:])\n"
        "argv = ('/bin/sh', 'payload/install.sh', str(version_file))\n"
        "order = runner.Order(argv, str(directory / 'tree'), 60, 'guest-tools', '2.0.0')\n"
        "installer.start(directory, lock, order).wait()\n"
    )
    source = str(Path(installer.__file__).parent.parent)
    return subprocess.Popen(
        [sys.executable, "-c", script, str(directory(guest)), str(lock(guest)), str(guest.version_file)],
        env={**os.environ, "PYTHONPATH": source},
    )


def test_installer_survives_its_agent_and_is_waited_for(guest: Guest) -> None:
    flag = guest.root / "flag"
    upgrade = prepared(
        guest, f'while [ ! -e {flag} ]; do sleep 0.05; done; cp payload/version "$1"; echo survived'
    )
    agent = begin_elsewhere(guest, upgrade)
    installing = started(guest)
    agent.kill()
    agent.wait(WAIT_S)
    assert process.alive(installing)
    wait = in_background(lambda: tasks.settle(guest.config, upgrade))
    flag.touch()
    done = wait()
    assert (done.version, done.exit_code, done.log_tail) == ("2.0.0", 0, "survived\n")


def test_installer_is_waited_for_on_a_disk_that_became_read_only(guest: Guest) -> None:
    flag, state = guest.root / "flag", str(guest.root / "state")
    upgrade = prepared(guest, f'while [ ! -e {flag} ]; do sleep 0.05; done; cp payload/version "$1"')
    agent = begin_elsewhere(guest, upgrade)
    started(guest)
    agent.kill()
    agent.wait(WAIT_S)
    for options in (("--bind", state, state), ("-o", "remount,bind,ro", state)):
        subprocess.run(["mount", *options], check=True, timeout=10, env={})
    try:
        wait = in_background(lambda: tasks.settle(guest.config, upgrade))
        flag.touch()
        done = wait()
    finally:
        subprocess.run(["umount", state], check=True, timeout=10, env={})
    assert (done.version, done.exit_code, done.failure) == ("2.0.0", 0, None)


def test_installer_that_ended_meanwhile_is_reported(guest: Guest) -> None:
    upgrade = prepared(guest, "echo meanwhile; exit 4")
    tasks.install(guest.config, upgrade)
    done = tasks.settle(guest.config, upgrade)
    assert (done.exit_code, done.log_tail) == (4, "meanwhile\n")


def test_installer_that_makes_the_guest_another_is_judged_as_the_guest_was(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest.insert(script=INSTALL)
    manifest = parse((guest.drive / "isolift/manifest.json").read_bytes())
    (platform,), here = manifest.platforms, facts.platform()
    platform = replace(platform, match={"arch": (here["arch"],)})
    start = guest.label(render(replace(manifest, platforms=(platform,))), "2.0.0")
    upgrade = Upgrade(command(start))
    assert tasks.prepare(guest.config, upgrade, lambda: False).failure is None
    assert tasks.install(guest.config, upgrade).version == "2.0.0"
    monkeypatch.setattr(facts, "platform", lambda: {**here, "arch": "vax"})
    assert tasks.settle(guest.config, upgrade).version == "2.0.0"
    (directory(guest) / "platform.json").unlink()
    assert tasks.settle(guest.config, upgrade).version is None


def test_guest_that_cannot_be_told_is_settled_all_the_same(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade = prepared(guest, "exit 4")
    tasks.install(guest.config, upgrade)
    (directory(guest) / "platform.json").unlink()
    (directory(guest) / "log").unlink()
    (directory(guest) / "log").mkdir()

    def unreadable() -> dict[str, str]:
        raise IsADirectoryError("/etc/os-release")

    monkeypatch.setattr(facts, "platform", unreadable)
    done = tasks.settle(guest.config, upgrade)
    assert (done.version, done.exit_code, runner.log_tail(directory(guest))) == (None, 4, "")


@pytest.mark.parametrize(
    ("change", "exit_code"), [({"more": 1}, 4), ({"exit_code": None}, None)], ids=["more", "less"]
)
def test_report_of_another_versions_runner(
    guest: Guest, change: dict[str, object], exit_code: int | None
) -> None:
    upgrade = prepared(guest, "exit 4")
    tasks.install(guest.config, upgrade)
    path = directory(guest) / "finished.json"
    body = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({name: value for name, value in body.items() if value is not None}))
    started_path = directory(guest) / "started.json"
    started_path.write_text(json.dumps({"installer": {"pid": 1}, "timeout_s": 1.0}))
    assert tasks.settle(guest.config, upgrade).exit_code == exit_code


def test_log_that_cannot_be_bounded_costs_no_exit_code(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_CHECK_S", 0.05)
    order = runner.Order(("/bin/sh", "-c", "rm log; sleep 0.5; exit 3"), str(guest.root), 60.0, "c", "1")
    (guest.root / "log").touch()
    runner.write_order(guest.root, order)
    assert runner.main(guest.root) == 0
    ending = runner.read_ending(guest.root)
    assert ending and (ending.exit_code, ending.log_tail) == (3, "")


def test_installer_that_lost_its_runner_is_waited_for_but_unseen(guest: Guest) -> None:
    flag = guest.root / "flag"
    script = f'echo begun; while [ ! -e {flag} ]; do sleep 0.05; done; cp payload/version "$1"'
    upgrade = prepared(guest, script)
    agent = begin_elsewhere(guest, upgrade)
    installing = begun(guest)
    agent.kill()
    agent.wait(WAIT_S)
    os.kill(runner_of(installing.pid), signal.SIGKILL)
    wait = in_background(lambda: tasks.settle(guest.config, upgrade))
    assert process.alive(installing)
    flag.touch()
    done = wait()
    assert (done.version, done.exit_code, done.log_tail) == ("2.0.0", None, "begun\n")


def test_installer_that_lost_its_runner_has_no_more_time_than_before(guest: Guest) -> None:
    """Its time limit is counted from its own beginning, whoever watches."""
    upgrade = prepared(guest, "echo begun; exec sleep 300")
    agent = begin_elsewhere(guest, upgrade)
    installing = begun(guest)
    agent.kill()
    agent.wait(WAIT_S)
    os.kill(runner_of(installing.pid), signal.SIGKILL)
    used_up = process.age_s(installing)
    beginning = directory(guest) / "started.json"
    beginning.write_text(json.dumps({"installer": vars(installing), "timeout_s": used_up}))
    assert in_background(lambda: tasks.settle(guest.config, upgrade))().exit_code is None
    assert not process.alive(installing)


def test_age_of_a_process() -> None:
    before = time.monotonic()
    child = subprocess.Popen(["sleep", "300"])
    try:
        identity = process.identify(child.pid)
        assert identity and 0 <= process.age_s(identity) + 0.02
        assert process.age_s(identity) <= time.monotonic() - before + 0.02, "the kernel counts in ticks"
    finally:
        child.kill()
        child.wait()


def test_installer_that_never_began_is_not_run(guest: Guest) -> None:
    upgrade = prepared(guest, 'cp payload/version "$1"')
    done = tasks.settle(guest.config, upgrade)
    assert (done.version, done.exit_code, done.failure) == ("", None, None)
    assert not guest.version_file.exists()


def test_lost_copy_leaves_the_version_unknown(guest: Guest) -> None:
    done = tasks.settle(guest.config, Upgrade(command(guest.insert())))
    assert (done.version, done.exit_code, done.failure) == (None, None, None)


def test_report_that_was_not_written_to_its_end_counts_as_none(guest: Guest) -> None:
    upgrade = prepared(guest, "exit 0")
    tasks.install(guest.config, upgrade)
    (directory(guest) / "finished.json").write_bytes(b'{"exit_code": 0, "ti' + b" " * 100)
    assert tasks.settle(guest.config, upgrade).exit_code is None


OTHER_BOOT = "11111111-2222-4333-8444-555555555555"


def note_beginning(guest: Guest, **changed: object) -> process.Identity:
    """Write down that this very process, or one like it, is the installer."""
    ourselves = process.identify(os.getpid())
    assert ourselves
    noted = {"installer": {**vars(ourselves), **changed}, "timeout_s": 60}
    (directory(guest) / "started.json").write_text(json.dumps(noted))
    return ourselves


@pytest.mark.parametrize("changed", [{"start_time": 1}, {"boot_id": OTHER_BOOT}], ids=["reused", "rebooted"])
def test_other_process_with_the_installers_number_is_not_mistaken_for_it(
    guest: Guest, changed: dict[str, object]
) -> None:
    upgrade = prepared(guest, "true")
    note_beginning(guest, **changed)
    wait = in_background(lambda: tasks.settle(guest.config, upgrade))
    assert wait().exit_code is None, "it is not waited for"


@pytest.mark.parametrize("version", ["", "2.0.0\n"])
@pytest.mark.parametrize("code", [-signal.SIGTERM, -signal.SIGKILL, 128 + signal.SIGTERM])
def test_installer_that_the_shutdown_killed_did_not_come_to_its_end(
    guest: Guest, code: int, version: str
) -> None:
    upgrade = prepared(guest, "true")
    guest.version_file.write_text(version)
    ending = {"exit_code": code, "timed_out": False, "duration_s": 1.0, "log_tail": ""}
    (directory(guest) / "finished.json").write_text(json.dumps(ending))
    note_beginning(guest)
    assert tasks.settle(guest.config, upgrade).exit_code == code, "killed by somebody in this very boot"
    note_beginning(guest, boot_id=OTHER_BOOT)
    done = tasks.settle(guest.config, upgrade)
    assert (done.exit_code, done.version) == (None, version.strip())


def test_installer_does_not_begin_if_its_runner_dies_before_it_is_written_down(guest: Guest) -> None:
    """A runner that is killed when it has started the process, but not yet let it become the installer."""
    upgrade = prepared(guest, 'cp payload/version "$1"')
    script = (
        "import os, signal, sys; from pathlib import Path; from isolift_agent import process, runner\n"
        "process.identify = lambda pid: os.kill(os.getpid(), signal.SIGKILL)\n"
        "runner.main(Path(sys.argv[1]))\n"
    )
    argv = ("/bin/sh", "payload/install.sh", str(guest.version_file))
    runner.write_order(
        directory(guest), runner.Order(argv, str(directory(guest) / "tree"), 60, "guest-tools", "2.0.0")
    )
    source = str(Path(runner.__file__).parent.parent)
    command_line = [sys.executable, "-c", script, str(directory(guest))]
    dead = subprocess.run(command_line, env={**os.environ, "PYTHONPATH": source}, timeout=WAIT_S, check=False)
    assert dead.returncode == -signal.SIGKILL
    assert tasks.settle(guest.config, upgrade).version == "" and not guest.version_file.exists()


def test_installer_reads_nothing_and_keeps_its_words(guest: Guest) -> None:
    done = install(guest, 'cat; echo "$0 $#"; readlink /proc/self/fd/0')
    assert done.log_tail == "payload/install.sh 1\n/dev/null\n"


def test_runner_without_an_order(tmp_path: Path) -> None:
    assert runner.main(tmp_path) == 2
