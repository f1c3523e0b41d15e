# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes: run one with a limit on its time and output, recognise one again, end a group."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Sequence

GRACE_S = 5.0
"""Seconds that a process group has between SIGTERM and SIGKILL."""

_POLL_S = 0.1
_HIDDEN = ("NOTIFY_SOCKET", "PYTHONPATH", "INVOCATION_ID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


@dataclass(frozen=True)
class Output:
    """How a process ended, and the beginning of what it printed (standard error included)."""

    exit_code: int
    text: str


@dataclass(frozen=True)
class Identity:
    """One process of one boot; its number alone may name another process later. ``start_time`` is in the kernel's ticks since the boot."""

    boot_id: str
    pid: int
    start_time: int


def environment(**added: str) -> Mapping[str, str]:
    """The environment for a program that is not part of the agent."""
    kept = {name: value for name, value in os.environ.items() if name not in _HIDDEN}
    return {**kept, **added}


def start(argv: Sequence[str], **added: str) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, its output thrown away and ``added`` in its environment.

    :raises OSError: it cannot be started.
    """
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=environment(**added),
        cwd="/",
        start_new_session=True,
    )


def run(argv: Sequence[str], timeout_s: float, limit: int) -> Output:
    """Run a program to its end and read at most ``limit`` bytes of its output.

    :raises TimeoutError: it took longer than ``timeout_s`` seconds and was killed with its group.
    :raises OSError: it cannot be started.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(LC_ALL="C"),
        cwd="/",
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as pipe:
        data = _read(process, pipe.fileno(), time.monotonic() + timeout_s, limit)
    return Output(process.returncode, data.decode("utf-8", "replace"))


def _read(process: subprocess.Popen[bytes], pipe: int, deadline: float, limit: int) -> bytes:
    """What the process prints until it ends. A child that outlives it with the pipe in hand is not waited for."""
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    data = b""
    open_pipe = True
    while True:
        has_ended = (
            process.poll() is not None
        )  # before the look into the pipe, in which its last words may be
        ready = poller.poll(0 if has_ended else _POLL_S * 1000) if open_pipe else []
        if ready:
            block = os.read(pipe, 65536)
            data = (data + block)[:limit]
            open_pipe = bool(block)
        elif has_ended:
            return data
        elif not open_pipe:
            time.sleep(_POLL_S)
        if time.monotonic() > deadline:
            end_group(process)
            raise TimeoutError(f"{process.args!r} took too long")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads its own group, and the whole group."""
    _signal_group(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        pass  # the signal below ends it
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def end_foreign_group(leader: Identity) -> None:
    """End the group of a process that is not our child, if that process still runs."""
    if alive(leader):
        _signal_group(leader.pid, signal.SIGTERM)
        wait_gone(leader, GRACE_S)
        _signal_group(leader.pid, signal.SIGKILL)


def identify(pid: int) -> Identity | None:
    """The identity of a running process; None if there is none with this number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    after_name = stat.rpartition(")")[2].split()
    if after_name[0] in "ZX":
        return None
    return Identity(boot_id(), pid, int(after_name[19]))


def age_s(process: Identity) -> float:
    """Seconds since this process of this boot began."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.start_time / os.sysconf("SC_CLK_TCK")


def alive(process: Identity) -> bool:
    """Whether this very process still runs."""
    return identify(process.pid) == process


def note(pid: int, path: Path) -> None:
    """Write down which process this is, for `end_noted`.

    :raises OSError: the file cannot be written.
    """
    process = identify(pid)
    if process:
        path.write_text(json.dumps(vars(process)), encoding="ascii")


def end_noted(path: Path) -> None:
    """End the group of the process that was written down, if it still runs, and remove the note; see `end_foreign_group`.

    :raises OSError: the file cannot be read or removed.
    """
    try:
        noted = Identity(**json.loads(path.read_text(encoding="ascii")))
    except (TypeError, ValueError):
        noted = None  # it was not written to its end
    if noted:
        end_foreign_group(noted)
    path.unlink()


def wait_gone(process: Identity, timeout_s: float) -> bool:
    """Wait for a process that is not our child; false if it still runs after ``timeout_s`` seconds."""
    deadline = time.monotonic() + timeout_s
    while alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def boot_id() -> str:
    """The name of this boot of the guest."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _signal_group(leader: int, number: int) -> None:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        pass  # the whole group has ended
