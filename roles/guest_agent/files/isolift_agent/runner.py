# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that runs the installer. It outlives the agent, which may be restarted by the very installer.

It keeps a lock for as long as it lives, handed over by the agent that started it, so that any agent can tell whether it
runs. It writes down which process the installer is, and how that process ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Mapping

from . import process
from .bounds import clip_tail
from .journal import write_file
from .wire import LOG_TAIL_LIMIT

LOG_LIMIT = 4 * 1024 * 1024
"""Bytes of the installer's log beyond which its older part is dropped."""

LOG_KEPT = 64 * 1024
"""Bytes of the log that are kept then."""

CANNOT_RUN = 127
"""Exit code of an installer that cannot be started."""

_LOG = "log"
_ORDER = "order.json"
_STARTED = "started.json"
_FINISHED = "finished.json"
_ROOM = {_STARTED: 1024, _FINISHED: 32 * 1024}
"""Bytes reserved for what a runner writes down, so that an installer which fills the disk cannot prevent it."""

_CHECK_S = 0.5
_GATE = 'read -r go && exec "$@" < /dev/null'
"""Becomes the installer when a line comes, and nothing if its runner dies before it has written down which process it is."""


@dataclass(frozen=True)
class Order:
    """What to run: ``argv`` in the directory ``cwd``, for at most ``timeout_s`` seconds."""

    argv: tuple[str, ...]
    cwd: str
    timeout_s: float
    component: str
    version: str


@dataclass(frozen=True)
class Ending:
    """How the installer ended. A negative exit code is the number of the signal that ended it."""

    exit_code: int
    timed_out: bool
    duration_s: float
    log_tail: str


@dataclass(frozen=True)
class Beginning:
    """Which process the installer is, and for how many seconds it may run."""

    installer: process.Identity
    timeout_s: float


def write_order(directory: Path, order: Order) -> None:
    """Leave an order in ``directory`` for a runner, and room for what it will write down.

    :raises OSError: that was not possible.
    """
    for name, size in _ROOM.items():
        write_file(directory / name, b" " * size)
    write_file(directory / _ORDER, json.dumps(vars(order)).encode("utf-8"))


def read_beginning(directory: Path) -> Beginning | None:
    """What the runner of ``directory`` started; None if it started nothing."""
    body = _read(directory / _STARTED)
    try:
        return Beginning(process.Identity(**body["installer"]), body["timeout_s"]) if body else None
    except (TypeError, KeyError):
        return None  # the runner of another version wrote it


def read_ending(directory: Path) -> Ending | None:
    """How the installer of ``directory`` ended; None if its runner did not see it end."""
    body = _read(directory / _FINISHED)
    try:
        return Ending(*(body[item.name] for item in fields(Ending))) if body else None
    except KeyError:
        return None  # the runner of another version wrote it


def log_tail(directory: Path) -> str:
    """The end of what the installer of ``directory`` printed; empty if that cannot be read."""
    try:
        data = _tail(directory / _LOG, LOG_TAIL_LIMIT * 4)
    except OSError:
        return ""
    return clip_tail(data.decode("utf-8", "replace"), LOG_TAIL_LIMIT)


def main(directory: Path) -> int:
    """Carry out the order in ``directory``; the exit status of this process."""
    body = _read(directory / _ORDER)
    if body is None:
        return 2
    order = Order(**{**body, "argv": tuple(body["argv"])})
    began = time.monotonic()
    with (directory / _LOG).open("ab", buffering=0) as log:
        exit_code, timed_out = _run(directory, order, log.fileno())
    ending = Ending(exit_code, timed_out, time.monotonic() - began, log_tail(directory))
    _fill(directory / _FINISHED, vars(ending))
    return 0


def _run(directory: Path, order: Order, log: int) -> tuple[int, bool]:
    """(exit code, whether it was ended at its time limit)"""
    try:
        installer = _start(order, log)
        identity = process.identify(installer.pid)
        if identity:
            _fill(directory / _STARTED, {"installer": vars(identity), "timeout_s": order.timeout_s})
        assert installer.stdin is not None
        with installer.stdin as gate:
            gate.write(b"go\n")
    except (OSError, ValueError) as error:  # ValueError: this guest's locale has no letters for it
        os.write(log, f"cannot run {order.argv!r}: {error}\n".encode("utf-8", "replace"))
        return CANNOT_RUN, False
    return _watch(installer, directory / _LOG, time.monotonic() + order.timeout_s)


def _start(order: Order, log: int) -> subprocess.Popen[bytes]:
    """The process that will be the installer, still behind its gate."""
    return subprocess.Popen(
        ("/bin/sh", "-c", _GATE, "installer", *order.argv),
        cwd=order.cwd,
        env=process.environment(ISOLIFT_COMPONENT=order.component, ISOLIFT_VERSION=order.version),
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _watch(installer: subprocess.Popen[bytes], log: Path, deadline: float) -> tuple[int, bool]:
    while True:
        try:
            return installer.wait(_CHECK_S), False
        except subprocess.TimeoutExpired:
            with suppress(
                OSError
            ):  # the disk is full, or the log is gone: how the installer ends matters more
                _bound(log)
        if time.monotonic() > deadline:
            process.end_group(installer)
            return installer.returncode, True


def _bound(log: Path) -> None:
    """Keep the log from filling the disk. What is written in this very moment may be lost."""
    if log.stat().st_size > LOG_LIMIT:
        kept = _tail(log, LOG_KEPT)
        os.truncate(log, 0)
        with log.open("ab", buffering=0) as file:
            file.write(kept)


def _tail(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read(size)


def _fill(path: Path, body: Mapping[str, Any]) -> None:
    """Write ``body`` into the room that the file holds, and wait until it is safe."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(file, json.dumps(body, ensure_ascii=False).encode("utf-8"), 0)
        os.fsync(file)
    finally:
        os.close(file)


def _read(path: Path) -> dict[str, Any] | None:
    """The JSON object in the file; None if it is absent, or was not written to its end."""
    try:
        body = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return body if isinstance(body, dict) else None
