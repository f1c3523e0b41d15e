# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent's journal on a real disk: torn, damaged, full, shared, long."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.agent_support import CAMPAIGN, START, UPGRADE, VM, Core, inspected

from isolift_agent import journal as journal_module
from isolift_agent.journal import (
    ARCHIVES_LIMIT,
    COMPACT_ABOVE,
    Journal,
    JournalCorrupt,
    JournalError,
    JournalInUse,
    Record,
)
from isolift_agent.memory import BadRecords, Memory, changes, restore
from isolift_agent.store import Store


def whole() -> Record:
    """What a compacted journal holds in these tests."""
    return {"whole": True}


def written(directory: Path, *records: Record) -> Path:
    """A journal with these records; its file."""
    journal = Journal(directory)
    journal.open()
    for record in records:
        journal.append(record, whole)
    journal.close()
    return journal.path


def read(directory: Path) -> list[Record]:
    """The records of a journal."""
    journal = Journal(directory)
    try:
        return journal.open()
    finally:
        journal.close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 64 KiB."""
    mount_point = tmp_path / "tiny"
    mount_point.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount_point)], check=True, timeout=10
    )
    yield mount_point
    subprocess.run(["umount", str(mount_point)], check=True, timeout=10)


def fill(directory: Path) -> Path:
    """Use every byte of a filesystem; the file that does."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"x" * 1024)
    return ballast


def begun(directory: Path) -> Core:
    """An agent whose journal knows of an upgrade, and which is gone."""
    store = Store(directory)
    core = Core(store.memory)
    core.welcome()
    core.command(START)
    store.keep(core.memory)
    store.close()
    return core


def fail_syncs(monkeypatch: pytest.MonkeyPatch, code: int, times: int) -> list[int]:
    """The next so many files cannot be synced; those that were tried."""
    tried: list[int] = []
    sync = os.fsync

    def failing(file: int) -> None:
        tried.append(file)
        if len(tried) <= times:
            raise OSError(code, os.strerror(code))
        sync(file)

    monkeypatch.setattr(os, "fsync", failing)
    return tried


def set_aside(directory: Path) -> list[Path]:
    return list(directory.glob("journal.jsonl.*"))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written(tmp_path / "new", {"a": 1}, {"b": "zwei"})
    assert read(tmp_path / "new") == [{"a": 1}, {"b": "zwei"}]


def test_records_are_counted_across_openings(tmp_path: Path) -> None:
    written(tmp_path, {"a": 1}, {"a": 2})
    journal = Journal(tmp_path)
    journal.open()
    journal.append({"a": 3}, whole)
    assert journal.count == 3
    journal.close()


def test_any_torn_last_line_is_dropped(tmp_path: Path) -> None:
    path = written(tmp_path, {"a": 1}, {"b": 2})
    data = path.read_bytes()
    second = data.index(b"\n") + 1
    for length in range(second, len(data)):
        path.write_bytes(data[:length])
        assert read(tmp_path) == [{"a": 1}]


def test_last_line_of_which_the_disk_kept_only_zeros_is_dropped(tmp_path: Path) -> None:
    path = written(tmp_path, {"a": 1}, {"b": 2})
    data = path.read_bytes()
    second = data.index(b"\n") + 1
    path.write_bytes(data[:second] + bytes(len(data) - second))
    assert read(tmp_path) == [{"a": 1}]


def test_writing_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    path = written(tmp_path, {"a": 1}, {"b": 2})
    path.write_bytes(path.read_bytes()[:-5])
    written(tmp_path, {"c": 3})
    assert read(tmp_path) == [{"a": 1}, {"c": 3}]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_changed_byte_before_the_last_line_goes_unnoticed(data: st.DataObject) -> None:
    records = [{"a": "one"}, {"b": "two"}, {"c": "three"}]
    with tempfile.TemporaryDirectory() as directory:
        path = written(Path(directory), *records)
        content = bytearray(path.read_bytes())
        last_line = content[:-1].rindex(b"\n")
        content[data.draw(st.integers(0, last_line - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        try:
            assert read(Path(directory)) == records, "only what JSON does not care about may change"
        except JournalCorrupt as error:
            assert "line" in str(error)


def test_damaged_journal_is_set_aside_and_begins_a_new_generation(tmp_path: Path) -> None:
    first = Store(tmp_path)
    generation = first.memory.generation
    first.keep(Core(first.memory).memory)
    core = Core(first.memory)
    core.welcome(vm=VM)
    first.keep(core.memory)
    core.command(START)
    first.keep(core.memory)
    first.close()
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(VM.encode(), b"X" * len(VM), 1))

    second = Store(tmp_path)
    assert second.memory.generation != generation
    assert second.memory == Memory(generation=second.memory.generation) and second.count == 1
    assert (tmp_path / "journal.jsonl.1").exists()
    second.close()


def test_a_line_nested_too_deeply_to_be_read_is_damage(tmp_path: Path) -> None:
    path = written(tmp_path, {"a": 1})
    path.write_bytes(b"[" * 200_000 + b"\n" + path.read_bytes())
    with pytest.raises(JournalCorrupt, match="line 1"):
        read(tmp_path)


def test_records_of_something_else_are_set_aside(tmp_path: Path) -> None:
    written(tmp_path, {"recipe": "pancakes"})
    with pytest.raises(BadRecords, match="generation"):
        restore([{"recipe": "pancakes"}])
    store = Store(tmp_path)
    assert store.memory == Memory(generation=store.memory.generation)
    store.close()
    assert "pancakes" in (tmp_path / "journal.jsonl.1").read_text()


def test_memory_is_what_it_was_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    core = Core(store.memory)
    core.welcome()
    core.command(START)
    store.keep(core.memory)
    core.do(inspected())
    store.keep(core.memory)
    store.close()
    again = Store(tmp_path)
    assert again.memory.current == core.memory.current and again.memory.outbox == core.memory.outbox
    assert again.memory.claims == {CAMPAIGN: (1, "")} and again.memory.vm == VM
    assert again.memory.current and again.memory.current.upgrade_id == UPGRADE
    again.close()


def test_what_a_newer_agent_added_is_ignored() -> None:
    core = Core()
    core.command(START)
    record = changes(None, core.memory)
    newer = {**record, "current": {**record["current"], "mood": "good"}, "colour": "blue"}
    assert restore([newer]) == restore([record])


def test_set_aside_journals_are_few(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    for number in range(ARCHIVES_LIMIT + 4):
        journal.renew({"number": number})
    journal.close()
    kept = sorted(tmp_path.glob("journal.jsonl.*"))
    assert len(kept) == ARCHIVES_LIMIT
    assert json.loads(kept[-1].read_text())["set"] == {"number": ARCHIVES_LIMIT + 2}


def test_long_journal_is_rewritten_and_counts_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    block = {"text": "x" * (COMPACT_ABOVE // 4)}
    for _unused in range(4):
        journal.append(block, whole)
    assert journal.path.stat().st_size < COMPACT_ABOVE // 4
    journal.append({"last": 1}, whole)
    journal.close()
    assert read(tmp_path) == [{"whole": True}, {"last": 1}] and journal.count == 5


def test_second_agent_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    with pytest.raises(JournalInUse, match="another agent"):
        Journal(tmp_path).open()
    journal.close()


def test_full_disk_refuses_and_keeps_what_was_safe(tiny_disk: Path) -> None:
    journal = Journal(tiny_disk)
    journal.open()
    journal.append({"a": 1}, whole)
    ballast = fill(tiny_disk)
    with pytest.raises(JournalError, match="No space left"):
        journal.append({"text": "x" * 8192}, whole)
    assert journal.count == 1
    ballast.unlink()
    journal.append({"b": 2}, whole)
    journal.close()
    assert read(tiny_disk) == [{"a": 1}, {"b": 2}]


def test_rewriting_on_a_full_disk_refuses_and_keeps_what_was_safe(tiny_disk: Path) -> None:
    journal = Journal(tiny_disk)
    journal.open()
    journal.append({"a": 1}, whole)
    fill(tiny_disk)
    with pytest.raises(JournalError, match="No space left"):
        journal.renew({"text": "x" * 8192})
    journal.close()
    ballast = tiny_disk / "ballast"
    ballast.unlink()
    assert not list(tiny_disk.glob(".*.new"))


def disk_fails(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> None:
    """Let a function fail as on a bad disk."""

    def fails(*_arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(module, name, fails)


def test_rewriting_that_fails_when_the_file_has_its_name_is_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    journal.open()
    block = {"text": "x" * (COMPACT_ABOVE * 3 // 4)}
    journal.append(block, whole)
    with monkeypatch.context() as patch:
        disk_fails(patch, journal_module, "sync_directory")
        with pytest.raises(JournalError, match="Input/output error"):
            journal.append(block, whole)
    journal.append({"last": 1}, whole)
    journal.close()
    assert read(tmp_path) == [{"whole": True}, {"last": 1}] and journal.count == 3


def test_record_that_is_in_the_file_although_writing_it_failed_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk said that it has not got it; what the agent went on with is what counts."""
    store = Store(tmp_path)
    core = Core(store.memory)
    core.welcome()
    store.keep(core.memory)
    before = core.memory
    core.command(START)
    with monkeypatch.context() as patch:
        disk_fails(patch, os, "fsync")
        with pytest.raises(JournalError, match="Input/output error"):
            store.keep(core.memory)
    store.keep_unrecorded(before)
    store.keep(before)
    store.close()
    again = Store(tmp_path)
    assert again.memory == before
    again.close()


def test_write_that_the_system_cuts_short_is_undone(tmp_path: Path) -> None:
    """A file size limit lets the first part of a line through and refuses the rest, as a full disk may."""
    script = """
import resource, signal, sys
from pathlib import Path
from isolift_agent.journal import Journal, JournalError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]))
journal.open()
journal.append({"a": 1}, dict)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    journal.append({"text": "x" * 500}, dict)
except JournalError:
    sys.exit(7)
"""
    source = Path(sys.modules["isolift_agent"].__path__[0]).parent
    environment = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, timeout=30, check=False
    )
    assert done.returncode == 7
    assert (tmp_path / "journal.jsonl").stat().st_size == 100
    assert read(tmp_path) == [{"a": 1}]


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file" / "state")
    with pytest.raises(JournalError, match="Not a directory"):
        store.keep(Core(store.memory).memory)


@pytest.mark.parametrize(("code", "times"), [(errno.EIO, 1), (errno.EROFS, 99)])
def test_journal_that_cannot_be_synced_at_the_start_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, times: int
) -> None:
    core = begun(tmp_path)
    failures = fail_syncs(monkeypatch, code, times)
    again = Store(tmp_path)
    assert failures
    assert again.memory == core.memory
    assert not set_aside(tmp_path)


def test_journal_that_cannot_be_made_safe_at_the_start_is_kept_and_ends_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = begun(tmp_path)
    with monkeypatch.context() as disk:
        fail_syncs(disk, errno.EIO, 99)
        with pytest.raises(JournalError, match="cannot read"):
            Store(tmp_path)
    assert Store(tmp_path).memory == core.memory
    assert not set_aside(tmp_path)


def test_read_only_disk_still_tells_what_it_holds(tmp_path: Path) -> None:
    core = begun(tmp_path / "state")
    bound = tmp_path / "bound"
    bound.mkdir()
    subprocess.run(["mount", "--bind", str(tmp_path / "state"), str(bound)], check=True, timeout=10)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(bound)], check=True, timeout=10)
        again = Store(bound)
        assert again.memory.current == core.memory.current
        core.do(inspected())
        with pytest.raises(JournalError, match="Read-only"):
            again.keep(core.memory)
        again.keep_unrecorded(core.memory)
        subprocess.run(["mount", "-o", "remount,bind,rw", str(bound)], check=True, timeout=10)
        again.keep(core.memory)
        again.close()
    finally:
        subprocess.run(["umount", str(bound)], check=True, timeout=10)
    third = Store(tmp_path / "state")
    assert third.memory.current == core.memory.current
    third.close()
