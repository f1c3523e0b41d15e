# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent and its disc: found, checked, copied, let go; and the versions and facts that it reads."""

from __future__ import annotations

import errno
import os
import select
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread, Timer
from types import SimpleNamespace
from typing import TypeVar

import pytest
from unit.agent_disc import Guest, guest_in
from unit.agent_support import OTHER_UPGRADE, START, UPGRADE, command

from isolift_agent import component, detect, drive, facts, process, tasks
from isolift_agent.component import SPARE_BYTES
from isolift_agent.events import Inspected, Prepared
from isolift_agent.manifest import Manifest, Platform, Probe, parse, render
from isolift_agent.memory import Upgrade
from isolift_agent.wire import Start

Found = TypeVar("Found", Inspected, Prepared)


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    with guest_in(tmp_path) as made:
        monkeypatch.setenv("PATH", made.path)
        yield made


def inspect(guest: Guest, start: Start) -> Inspected:
    """Look at the disc as the agent does; nothing is mounted afterwards."""
    found = tasks.inspect(guest.config, Upgrade(command(start)), lambda: False)
    assert found.unmounted and not guest.mounted()
    return found


def prepare(guest: Guest, start: Start, abandoned: bool = False) -> Prepared:
    """Copy the disc as the agent does; nothing is mounted afterwards."""
    made = tasks.prepare(guest.config, Upgrade(command(start)), lambda: abandoned)
    assert made.unmounted and not guest.mounted()
    return made


def code(found: Inspected | Prepared) -> str:
    """Stage and code of a failure."""
    assert found.failure, found
    return f"{found.failure.stage}/{found.failure.code}"


def test_good_disc(guest: Guest) -> None:
    guest.version_file.write_text("1.0.0\n")
    found = inspect(guest, guest.insert("2.0.0"))
    assert found.failure is None
    assert (found.component, found.disc_version, found.installed_version) == ("guest-tools", "2.0.0", "1.0.0")
    assert found.facts["os_id"] and found.facts["free_bytes"]


def test_nothing_installed(guest: Guest) -> None:
    assert inspect(guest, guest.insert()).installed_version == ""


def test_first_mount_after_an_insert_may_fail(guest: Guest) -> None:
    start = guest.insert()
    (guest.drive / ".fails").touch()
    assert inspect(guest, start).failure is None


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disc that is not there is hardly waited for."""
    monkeypatch.setattr(drive, "WAIT_S", 0.5)


@pytest.mark.usefixtures("impatient")
def test_no_disc(guest: Guest) -> None:
    start = guest.insert()
    guest.drives = ["empty"]
    found = inspect(guest, start)
    assert code(found) == "media/no_disc"
    assert found.failure and "no medium" in found.failure.detail


@pytest.mark.usefixtures("impatient")
def test_disc_that_is_mounted_although_the_command_failed_is_let_go(guest: Guest) -> None:
    start = guest.insert()
    (guest.drive / ".late").touch()
    assert code(inspect(guest, start)) == "media/no_disc"


@pytest.mark.usefixtures("impatient")
def test_disc_of_another_campaign(guest: Guest) -> None:
    start = replace(guest.insert(), manifest_sha256="f" * 64)
    assert code(inspect(guest, start)) == code(prepare(guest, start)) == "media/other_manifest"


@pytest.mark.usefixtures("impatient")
def test_disc_without_manifest(guest: Guest) -> None:
    assert code(inspect(guest, START)) == "media/other_manifest"


@pytest.mark.parametrize("meanwhile", ["nothing", "another disc"])
@pytest.mark.parametrize("work", [inspect, prepare])
def test_disc_that_is_away_for_a_while_is_waited_for(
    guest: Guest, work: Callable[[Guest, Start], Inspected | Prepared], meanwhile: str
) -> None:
    start = guest.insert()
    away = guest.drive.rename(guest.root / "away")
    if meanwhile == "another disc":
        guest.drive.mkdir()
    comes_back = Timer(0.8, lambda: away.rename(guest.drive))
    comes_back.start()
    assert work(guest, start).failure is None
    comes_back.join()


def test_wait_for_a_disc_is_given_up_when_nobody_wants_it_any_more(guest: Guest) -> None:
    start = guest.insert()
    guest.drives = ["empty"]
    unwanted = Event()
    Timer(0.5, unwanted.set).start()
    upgrade = Upgrade(command(start))
    began = time.monotonic()
    assert code(tasks.inspect(guest.config, upgrade, unwanted.is_set)) == "prepare/abandoned"
    assert code(tasks.prepare(guest.config, upgrade, unwanted.is_set)) == "prepare/abandoned"
    assert 0.4 < time.monotonic() - began < 10 < drive.WAIT_S


def test_disc_that_leaves_while_it_is_copied_is_copied_anew(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = guest.insert()
    fails_at_first(monkeypatch, component.COPIES_TRIED - 1, gone(errno.EIO))
    assert prepare(guest, start).failure is None
    assert (copy_of(guest) / "tree/payload/version").read_text() == "2.0.0\n"


def test_disc_that_leaves_again_and_again(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    start = guest.insert()
    fails_at_first(monkeypatch, component.COPIES_TRIED, gone(errno.ENOMEDIUM))
    assert code(prepare(guest, start)) == "media/disc_lost"


def gone(number: int) -> OSError:
    """What reading from a disc that left its drive fails with."""
    return OSError(number, os.strerror(number))


def fails_at_first(monkeypatch: pytest.MonkeyPatch, times: int, error: Exception) -> None:
    """Let the first attempts to open a file of the payload fail."""
    failures = [error] * times
    really = os.open

    def opened(path: Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if failures and "media/payload" in str(path):
            raise failures.pop()
        return really(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", opened)


def test_unsigned_disc(guest: Guest) -> None:
    start = guest.insert()
    (guest.drive / "isolift/manifest.sig").unlink()
    assert code(inspect(guest, start)) == "verify/unsigned"
    assert code(prepare(guest, start)) == "verify/unsigned"


def test_disc_signed_by_a_stranger(guest: Guest) -> None:
    start = guest.insert(signed_by="stranger")
    assert code(inspect(guest, start)) == "verify/wrong_key"
    assert code(prepare(guest, start)) == "verify/wrong_key"


def test_guest_without_keys_trusts_nobody(guest: Guest) -> None:
    (guest.root / "keys/release.pem").unlink()
    assert code(inspect(guest, guest.insert())) == "verify/no_keys"


def test_broken_key_is_named(guest: Guest) -> None:
    (guest.root / "keys/typo.pem").write_text("BEGIN something")
    found = inspect(guest, guest.insert())
    assert code(found) == "verify/bad_key" and found.failure and "typo" in found.failure.detail


def test_signed_nonsense(guest: Guest) -> None:
    assert code(inspect(guest, guest.label(b"{}", "2.0.0"))) == "verify/bad_manifest"


def test_component_for_another_kind_of_guest(guest: Guest) -> None:
    guest.insert()
    manifest = parse((guest.drive / "isolift/manifest.json").read_bytes())
    (platform,) = manifest.platforms
    for other in (replace(platform, match={"arch": ("vax",)}), _for_windows(platform)):
        start = guest.label(render(replace(manifest, platforms=(other,))), "2.0.0")
        assert code(inspect(guest, start)) == "verify/no_platform"


def _for_windows(platform: Platform) -> Platform:
    return replace(platform, os="windows", detect=Probe(command=("C:\\x.exe",)))


def test_version_that_cannot_be_read(guest: Guest) -> None:
    guest.version_file.mkdir()
    assert code(inspect(guest, guest.insert())) == "detect/detect_failed"


def test_mount_point_that_cannot_be_made(guest: Guest) -> None:
    (guest.root / "media").write_text("in the way")
    assert code(inspect(guest, guest.insert())) == "media/media_error"


# The private copy.


def copy_of(guest: Guest) -> Path:
    """The upgrade's directory."""
    return guest.root / "work" / UPGRADE


def test_private_copy(guest: Guest) -> None:
    made = prepare(guest, guest.insert())
    assert made.failure is None
    assert stat.S_IMODE(copy_of(guest).stat().st_mode) == 0o700
    tree = copy_of(guest) / "tree"
    assert (tree / "payload/version").read_text() == "2.0.0\n"
    assert stat.S_IMODE((tree / "payload/install.sh").stat().st_mode) == 0o700
    assert stat.S_IMODE((tree / "payload/version").stat().st_mode) == 0o600


def test_private_copy_begins_anew(guest: Guest) -> None:
    copy_of(guest).mkdir(parents=True)
    (copy_of(guest) / "finished.json").write_text('{"exit_code": 0}')
    assert prepare(guest, guest.insert()).failure is None
    assert not (copy_of(guest) / "finished.json").exists()


def test_whole_copy_is_not_made_twice(guest: Guest) -> None:
    """The permit ran out while it was made: a copy that takes longer than that would never be whole in time."""
    start = guest.insert()
    assert prepare(guest, start).failure is None
    guest.drives = ["empty"]
    assert prepare(guest, start).failure is None


def test_copy_that_is_not_whole_is_made_anew(guest: Guest) -> None:
    start = guest.insert()
    assert prepare(guest, start).failure is None
    version = copy_of(guest) / "tree/payload/version"
    version.write_text("2.0")
    assert prepare(guest, start).failure is None
    assert version.read_text() == "2.0.0\n"


@pytest.mark.parametrize("data", [b"2.0.1\n", b"2.0.0", b"2.0.0\n\n", b""])
def test_changed_file(guest: Guest, data: bytes) -> None:
    start = guest.insert()
    (guest.drive / "payload/version").write_bytes(data)
    if data.startswith(b"2.0.0\n"):
        assert prepare(guest, start).failure is None, "no more is copied than the manifest promises"
        assert (copy_of(guest) / "tree/payload/version").read_bytes() == b"2.0.0\n"
    else:
        assert code(prepare(guest, start)) == "verify/file_differs"


def test_absent_file(guest: Guest) -> None:
    start = guest.insert()
    (guest.drive / "payload/version").unlink()
    assert code(prepare(guest, start)) == "verify/file_absent"


def test_link_on_the_disc_is_not_followed(guest: Guest) -> None:
    start = guest.insert()
    (guest.drive / "payload/version").unlink()
    (guest.root / "secret").write_text("2.0.0\n")
    (guest.drive / "payload/version").symlink_to(guest.root / "secret")
    assert code(prepare(guest, start)) == "prepare/copy_failed"


def in_time(work: Callable[[Guest, Start], Found], guest: Guest, start: Start) -> Found:
    """What something comes to that must not wait for a pipe's other end."""
    results: list[Found] = []
    thread = Thread(target=lambda: results.append(work(guest, start)), daemon=True)
    thread.start()
    thread.join(20.0)
    assert results, "it waits for ever"
    return results[0]


def replace_by(kind: str, path: Path) -> None:
    """Put something else in the place of a file."""
    path.unlink()
    if kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["directory", "pipe"])
@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig"])
def test_disc_with_something_else_in_place_of_a_file_is_let_go(guest: Guest, kind: str, name: str) -> None:
    start = guest.insert()
    replace_by(kind, guest.drive / "isolift" / name)
    assert code(in_time(inspect, guest, start)) == "media/no_disc"
    (guest.drive / "isolift" / name).rename(guest.root / "odd")
    assert inspect(guest, guest.insert()).failure is None, "the next disc is none the worse for it"


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_something_else_in_place_of_a_file_is_not_copied(guest: Guest, kind: str) -> None:
    start = guest.insert()
    replace_by(kind, guest.drive / "payload/version")
    found = in_time(prepare, guest, start)
    assert (code(found), found.unmounted) == ("prepare/copy_failed", True)


def test_file_whose_name_the_locale_cannot_write_is_not_copied(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = guest.insert()
    unwritable = UnicodeEncodeError("ascii", "\xe9", 0, 1, "ordinal not in range(128)")
    fails_at_first(monkeypatch, 1, unwritable)
    found = prepare(guest, start)
    assert (code(found), found.unmounted) == ("prepare/copy_failed", True)


def test_file_that_nobody_signed_is_not_copied(guest: Guest) -> None:
    start = guest.insert()
    (guest.drive / "payload/extra.sh").write_text("rm -rf /")
    assert prepare(guest, start).failure is None
    assert not (copy_of(guest) / "tree/payload/extra.sh").exists()


def test_too_little_space(guest: Guest) -> None:
    start = guest.insert()
    work = guest.root / "work"
    work.mkdir()
    size = SPARE_BYTES // 2
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(work)], check=True, timeout=10, env={}
    )
    try:
        assert code(inspect(guest, start)) == "prepare/no_space"
        assert code(prepare(guest, start)) == "prepare/no_space"
        assert list(work.iterdir()) == []
    finally:
        subprocess.run(["umount", str(work)], check=True, timeout=10)


@pytest.mark.parametrize("work", [inspect, prepare])
def test_part_of_a_copy_takes_no_space_from_the_next(
    guest: Guest, work: Callable[[Guest, Start], Inspected | Prepared]
) -> None:
    """The guest lost its power while it copied."""
    start = guest.insert()
    place = guest.root / "work"
    place.mkdir(exist_ok=True)
    size = SPARE_BYTES + SPARE_BYTES // 2
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True, timeout=10, env={}
    )
    try:
        (copy_of(guest) / "tree").mkdir(parents=True)
        (copy_of(guest) / "tree/part").write_bytes(bytes(SPARE_BYTES))
        assert work(guest, start).failure is None
    finally:
        subprocess.run(["umount", str(place)], check=True, timeout=10)


def test_abandoned_copy(guest: Guest) -> None:
    assert code(prepare(guest, guest.insert(), abandoned=True)) == "prepare/abandoned"


def test_cleaning_keeps_only_what_is_wanted(guest: Guest) -> None:
    prepare(guest, guest.insert())
    for name in (OTHER_UPGRADE, "not ours"):
        (guest.root / "work" / name).mkdir()
    tasks.clean(guest.config, keep=UPGRADE)
    assert sorted(path.name for path in (guest.root / "work").iterdir()) == [UPGRADE, "not ours"]
    tasks.clean(guest.config, keep="")
    assert [path.name for path in (guest.root / "work").iterdir()] == ["not ours"]


def bound(source: Path, target: Path) -> Path:
    """Mount one directory at another, as an installer might."""
    target.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", str(source), str(target)], check=True, timeout=10, env={})
    return target


def test_cleaning_removes_nothing_that_an_installer_left_mounted(guest: Guest) -> None:
    prepare(guest, guest.insert())
    precious = guest.root / "precious"
    (precious / "below").mkdir(parents=True)
    (precious / "file").touch()
    tree = guest.root / "work" / UPGRADE / "tree"
    inner = bound(precious, bound(precious, tree / "a root") / "below")
    assert (inner / "file").exists()
    tasks.clean(guest.config, keep="")
    assert (precious / "file").exists()
    assert list((guest.root / "work").iterdir()) == []


def test_directory_that_cannot_be_removed_keeps_no_other_and_nothing_mounted_in_it_is_lost(
    guest: Guest,
) -> None:
    prepare(guest, guest.insert())
    other = guest.root / "work" / OTHER_UPGRADE
    (guest.root / "precious").mkdir()
    (guest.root / "precious/file").touch()
    for directory in (other, guest.root / "work" / UPGRADE):
        directory.mkdir(exist_ok=True)
    held = bound(guest.root / "precious", other / "root")
    with (held / "file").open():
        tasks.clean(guest.config, keep="")
        assert (held / "file").exists()
        assert list((guest.root / "work").iterdir()) == [other]
    tasks.clean(guest.config, keep="")
    assert list((guest.root / "work").iterdir()) == [] and (guest.root / "precious/file").exists()


def test_disc_that_is_in_use_cannot_be_unmounted_and_that_is_said(guest: Guest) -> None:
    start = guest.insert()
    bound(guest.drive, guest.root / "media")
    with (guest.root / "media/payload/version").open():
        found = tasks.inspect(guest.config, Upgrade(command(start)), lambda: False)
    assert code(found) == "media/mount_stuck" and not found.unmounted
    assert inspect(guest, start).failure is None


# Versions.


def test_version_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "version").write_bytes(b"\xffgarbage\nversion 3.1\n")
    assert detect.read_version(Probe(file=str(tmp_path / "version"), regex=r"^version (\S+)$")) == "3.1"
    assert detect.read_version(Probe(file=str(tmp_path / "absent"))) == ""
    assert detect.read_version(Probe(file=str(tmp_path / "version/below"))) == ""


def test_version_from_a_command() -> None:
    assert detect.read_version(Probe(command=("/bin/echo", "tool 4.5"), regex=r"tool (\S+)")) == "4.5"
    assert (
        detect.read_version(Probe(command=("/bin/sh", "-c", "echo tool 4.6 >&2; exit 3"), regex=r"(4\S+)"))
        == "4.6"
    )
    assert detect.read_version(Probe(command=("/no/such/command",))) == ""
    assert detect.read_version(Probe(command=("/bin/echo", "x" * 500))) == "x" * 64


def test_command_that_prints_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "TIMEOUT_S", 0.5)
    with pytest.raises(detect.DetectError, match="detect_timeout"):
        detect.read_version(Probe(command=("/bin/sh", "-c", "while :; do echo 1.0; done")))


def test_command_whose_child_keeps_the_pipe() -> None:
    began = time.monotonic()
    probe = Probe(command=("/bin/sh", "-c", "sleep 20 & echo $! 7.0"), regex=r"\d+ (\S+)")
    assert detect.read_version(probe) == "7.0"
    assert time.monotonic() - began < 10


def test_last_words_of_a_command_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come, and the command ends, while nobody looks: this thread was not scheduled."""

    class Late:
        def __init__(self) -> None:
            self._real, self._looked = select.poll(), False

        def register(self, *arguments: int) -> None:
            self._real.register(*arguments)

        def poll(self, timeout_ms: float) -> list[tuple[int, int]]:
            if self._looked or not timeout_ms:
                return self._real.poll(timeout_ms)
            self._looked = True
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # the command has ended
            return []

    monkeypatch.setattr(process, "select", SimpleNamespace(poll=Late, POLLIN=select.POLLIN))
    assert detect.read_version(Probe(command=("/bin/sh", "-c", "sleep 0.1; echo 5.0"))) == "5.0"


def test_command_that_cannot_be_run(tmp_path: Path) -> None:
    with pytest.raises(detect.DetectError, match="detect_failed"):
        detect.read_version(Probe(command=(str(tmp_path),)))


def fake(directory: Path, name: str, script: str) -> None:
    """A command of our own."""
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_version_from_the_real_package_database() -> None:
    expected = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", "bash"], capture_output=True, check=True, timeout=30
    )
    assert detect.read_version(Probe(package="bash")) == expected.stdout.decode()
    assert detect.read_version(Probe(package="no-such-package")) == ""


def test_package_that_was_removed_but_left_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, "dpkg-query", "echo config-files 1.0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert detect.read_version(Probe(package="tool")) == ""


def test_version_from_rpm_where_there_is_no_dpkg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "rpm", '[ "$4" = tool ] && echo 5.6-1 || exit 1')
    monkeypatch.setenv("PATH", str(tmp_path))
    assert detect.read_version(Probe(package="tool")) == "5.6-1"
    assert detect.read_version(Probe(package="other")) == ""


def test_file_whose_name_the_locale_cannot_write() -> None:
    with pytest.raises(detect.DetectError, match="detect_failed: .*surrogates"):
        detect.read_version(Probe(file="/\ud800"))


def test_guest_without_package_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(detect.DetectError, match="neither dpkg nor rpm"):
        detect.read_version(Probe(package="tool"))


# Facts and processes.


def test_facts_of_this_machine(tmp_path: Path) -> None:
    found = facts.gather(tmp_path / "not" / "there" / "yet")
    assert set(found) == {
        "os_id",
        "os_version",
        "kernel",
        "arch",
        "free_bytes",
        "sessions",
        "uptime_s",
        "memory_bytes",
        "agent_version",
    }
    assert found["kernel"] == os.uname().release
    free = os.statvfs(tmp_path)
    assert abs(int(found["free_bytes"]) - free.f_bavail * free.f_frsize) < 2**30


def test_sessions_by_logind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "1": "UID=0\nCLASS=user\n",
        "2": "CLASS=greeter\n",
        "3": "CLASS=user\nTTY=x\n",
        "3.ref": "",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(facts, "_LOGIND", tmp_path)
    assert facts.gather(tmp_path)["sessions"] == 2


def test_sessions_by_utmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [kind.to_bytes(2, "little") + bytes(382) for kind in (2, 7, 8, 7)]
    (tmp_path / "utmp").write_bytes(b"".join(records))
    monkeypatch.setattr(facts, "_LOGIND", tmp_path / "absent")
    monkeypatch.setattr(facts, "_UTMP", tmp_path / "utmp")
    assert facts.gather(tmp_path)["sessions"] == 2
    monkeypatch.setattr(facts, "_UTMP", tmp_path / "absent")
    assert facts.gather(tmp_path)["sessions"] == 0


def test_os_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "os-release").write_text('# comment\nID=debian\nVERSION_ID="13"\nodd line\n')
    monkeypatch.setattr(facts, "_OS_RELEASE", (tmp_path / "absent", tmp_path / "os-release"))
    assert facts.platform() == {"id": "debian", "version_id": "13", "arch": os.uname().machine}
    monkeypatch.setattr(facts, "_OS_RELEASE", (tmp_path / "absent",))
    assert facts.platform()["id"] == ""


def test_process_is_recognised_by_more_than_its_number() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        identity = process.identify(child.pid)
        assert identity and process.alive(identity)
        assert not process.alive(replace(identity, start_time=identity.start_time + 1))
        assert not process.alive(replace(identity, boot_id="another"))
        child.kill()
        assert process.wait_gone(identity, 5.0), "a zombie runs no more"
    assert process.identify(child.pid) is None


def test_manifest_type_is_the_shared_one() -> None:
    assert Manifest.__module__ == "isolift_agent.manifest"
