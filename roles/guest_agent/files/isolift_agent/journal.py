# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal on the guest's disk: numbered records, one JSON object a line, safe on the disk when `append` returns.

A write that was cut short leaves a bad last line, which nothing depended on: it is dropped. A bad line before the last one means
that the disk lost what it had promised: the file is set aside and nothing in it counts.
"""

from __future__ import annotations

import binascii
import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any, Callable, Mapping

from . import log

Record = Mapping[str, Any]

COMPACT_ABOVE = 256 * 1024
"""Bytes beyond which the file is rewritten as one record."""

ARCHIVES_LIMIT = 3
"""Most set-aside files that are kept."""

_NAME = "journal.jsonl"


class JournalError(Exception):
    """The journal cannot be written; the detail says which file and why."""


class JournalCorrupt(Exception):
    """The journal holds a bad line that is not its last one; the detail says which."""


class JournalInUse(Exception):
    """Another process holds the journal."""


class Journal:
    """The records of one directory. ``count`` is the number of the last record, however often the file was rewritten."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / _NAME
        self.count = 0
        self._lock = -1
        self._size = 0
        self._replaced = False  # perhaps: a rewriting failed after the file had its name

    def open(self) -> list[Record]:
        """Take the journal and read its records. One that cannot be written is read all the same.

        :raises JournalInUse: another process has it.
        :raises JournalCorrupt: a line is bad; see `renew`.
        :raises JournalError: the file cannot be read at present, or is not safe.
        """
        try:
            self._take()
        except JournalError as error:
            log.error(str(error))
        return self._load()

    def append(self, record: Record, whole: Callable[[], Record]) -> None:
        """Add a record and wait until it is safe. A long file is rewritten as the one record that ``whole`` gives.

        :raises JournalError: the record is not safe; what was safe before still is.
        :raises JournalCorrupt: the file had to be read again, and a line is bad; see `renew`.
        """
        self._take()
        if self._replaced:
            self._load()
        line = _line(self.count + 1, record)
        if self._size + len(line) > COMPACT_ABOVE and self._size > 0:
            line = _line(self.count + 1, whole())
            self._replace(line)
            self._size = len(line)
        else:
            self._extend(line)
            self._size += len(line)
        self.count += 1

    def renew(self, record: Record) -> None:
        """Set the file aside and begin a new one with ``record``.

        :raises JournalError: that was not possible.
        """
        self._take()
        try:
            if self.path.exists():
                self._set_aside()
        except OSError as error:
            raise JournalError(f"cannot set {self.path} aside: {error.strerror}") from error
        line = _line(1, record)
        self._replace(line)
        self.count, self._size = 1, len(line)

    def close(self) -> None:
        """Let go of the journal."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _load(self) -> list[Record]:
        """What the file holds; it is safe then, for an agent that was killed may have written and not synced it."""
        data = b""
        try:
            if self.path.exists():
                data = self.path.read_bytes()
                self._make_safe(data)
        except OSError as error:
            raise JournalError(f"cannot read {self.path}: {error.strerror}") from error
        records, self.count, self._size = _read(data)
        self._replaced = False
        return records

    def _make_safe(self, data: bytes) -> None:
        """``data`` was read from the file. Linux tells the next who syncs a file that writing it back failed, and forgets what it could
        not write: it is written again.

        :raises OSError: it is not safe.
        """
        try:
            _sync(self.path, 0)
        except OSError as error:
            if error.errno != errno.EROFS:  # a disk that became read-only can be read all the same
                write_file(self.path, data)

    def _take(self) -> None:
        """Make sure that the directory is there and nobody else writes in it."""
        if self._lock >= 0:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(f"cannot use {self.path.parent}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise JournalInUse(f"another agent uses {self.path.parent}; stop it first") from error
        self._lock = lock

    def _extend(self, line: bytes) -> None:
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(file).st_size < self._size:
                    raise JournalError(f"{self.path} became shorter than what was written; restart the agent")
                os.ftruncate(file, self._size)  # what an earlier failed write left behind
                _write_all(file, line, self._size)
                os.fsync(file)
            finally:
                os.close(file)
            if self._size == 0:
                sync_directory(self.path.parent)
        except OSError as error:
            raise JournalError(f"cannot write {self.path}: {error.strerror}") from error

    def _replace(self, line: bytes) -> None:
        try:
            write_file(self.path, line)
        except OSError as error:
            self._replaced = True
            raise JournalError(f"cannot rewrite {self.path}: {error.strerror}") from error
        self._replaced = False

    def _set_aside(self) -> None:
        taken = sorted(int(path.suffix[1:]) for path in self._archives())
        number = taken[-1] + 1 if taken else 1
        os.replace(self.path, self.path.with_name(f"{_NAME}.{number}"))
        log.warning(f"the journal was set aside as {self.path}.{number}")
        for old in taken[: max(0, len(taken) + 1 - ARCHIVES_LIMIT)]:
            self.path.with_name(f"{_NAME}.{old}").unlink()

    def _archives(self) -> list[Path]:
        return [path for path in self.path.parent.glob(f"{_NAME}.*") if path.suffix[1:].isdecimal()]


def write_file(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``, whole or not at all, and wait until it is safe.

    :raises OSError: it is not safe. It is there all the same, or what was there before is.
    """
    temporary = path.with_name(f".{path.name}.new")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            _write_all(file, data, 0)
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink()
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are safe.

    :raises OSError: the directory cannot be read, or the disk fails.
    """
    _sync(path, os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _write_all(file: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written


def _line(number: int, record: Record) -> bytes:
    body = _body(number, record)
    return json.dumps({"n": number, "crc": binascii.crc32(body), "set": record}).encode("ascii") + b"\n"


def _body(number: int, record: Record) -> bytes:
    return json.dumps([number, record], sort_keys=True).encode("ascii")


def _read(data: bytes) -> tuple[list[Record], int, int]:
    """(records, number of the last one, length in bytes) of what is good in ``data``."""
    records: list[Record] = []
    number = length = 0
    lines = data.splitlines(keepends=True)
    for index, line in enumerate(lines):
        try:
            found, record = _parse(line, number)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if index < len(lines) - 1:
                raise JournalCorrupt(f"line {index + 1}: {error}") from error
            log.warning("the journal's last line was cut short and is dropped")
            break
        number, length = found, length + len(line)
        records.append(record)
    return records, number, length


def _parse(line: bytes, before: int) -> tuple[int, dict[str, Any]]:
    body = json.loads(line)
    number, record = body["n"], body["set"]
    if not line.endswith(b"\n") or not isinstance(number, int) or not isinstance(record, dict):
        raise ValueError("not a whole record")
    if before and number != before + 1:
        raise ValueError(f"record {number} follows record {before}")
    if binascii.crc32(_body(number, record)) != body["crc"]:
        raise ValueError("the checksum does not match")
    return number, record
