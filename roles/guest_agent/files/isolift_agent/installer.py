# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the installer in a process of its own, and find out how it ended, in the same life of the agent or the next."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

from . import process, runner
from .cli import INSTALL

LOCK = "installer.lock"
"""The name of the lock, in the state directory, that a living runner holds."""


_SHUTDOWN = (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP)
"""With what a guest that shuts down or reboots ends its processes."""


class InstallerError(Exception):
    """The installer was not started.

    :ivar code: ``installer_running`` or ``not_started``.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def start(directory: Path, lock: Path, order: runner.Order) -> subprocess.Popen[bytes]:
    """Start a runner for ``order`` in an upgrade's directory.

    The lock is taken before the runner exists and handed to it, so that there is no moment at which it runs without.

    :raises InstallerError: an installer still runs, or the runner cannot be started.
    """
    try:
        file = _open(lock)
        try:
            if not _is_ours(file):
                raise InstallerError("installer_running", "the installer of an earlier upgrade still runs")
            runner.write_order(directory, order)
            return _spawn(directory, file)
        finally:
            os.close(file)  # the runner has its own
    except OSError as error:
        raise InstallerError("not_started", f"cannot start the installer: {error}") from error


def wait(directory: Path, lock: Path) -> runner.Ending | None:
    """Wait until no installer of this directory runs; how it ended, or None if nobody saw that.

    An installer that was killed because the guest went down did not come to an end of its own: that counts as unseen.

    :raises OSError: the lock cannot be opened.
    """
    file = _open(lock)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # held for as long as a runner lives
    finally:
        os.close(file)
    ending = runner.read_ending(directory)
    beginning = runner.read_beginning(directory)
    if ending is None and beginning is not None:
        _outwait(beginning)
    if ending is not None and beginning is not None and _fell_with_the_guest(beginning, ending):
        return None
    return ending


def running(lock: Path) -> bool:
    """Whether a runner lives.

    :raises OSError: the lock cannot be opened.
    """
    file = _open(lock)
    try:
        return not _is_ours(file)
    finally:
        os.close(file)


def _fell_with_the_guest(beginning: runner.Beginning, ending: runner.Ending) -> bool:
    code = ending.exit_code
    # A shell says 128 more than the signal that ended its command.
    killed = -code in _SHUTDOWN or code - 128 in _SHUTDOWN
    return killed and not ending.timed_out and beginning.installer.boot_id != process.boot_id()


def _outwait(beginning: runner.Beginning) -> None:
    """The runner died before its installer: the time limit is ours to keep now, as far as it was not used up."""
    if not process.wait_gone(beginning.installer, beginning.timeout_s - process.age_s(beginning.installer)):
        process.end_foreign_group(beginning.installer)


def _is_ours(file: int) -> bool:
    """Take the lock, unless a runner has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(lock: Path) -> int:
    # Not for writing: on a disk that became read-only an installer is waited for, too.
    return os.open(lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _spawn(directory: Path, lock: int) -> subprocess.Popen[bytes]:
    source = Path(__file__).parent.parent  # the directory or the zipapp that holds this package
    return subprocess.Popen(
        [sys.executable, "-m", __package__, INSTALL, str(directory)],
        env=process.environment(PYTHONPATH=str(source)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(lock,),
        cwd="/",
        start_new_session=True,
    )
