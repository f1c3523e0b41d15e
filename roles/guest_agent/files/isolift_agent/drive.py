# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest's CD-ROM drives: mount the disc that is looked for, and let go of it."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Callable, Sequence

from . import log, process
from .manifest import MANIFEST_LIMIT
from .mounts import below, mounted
from .signature import SIGNATURE_LIMIT

WAIT_S = 120.0
"""Seconds for which the disc is waited for. The first mount right after a disc came in may fail; a live migration may empty
the drive, and the relay fills it again when it hears of us.
"""

UNMOUNT_S = 2.0
"""Seconds for which unmounting is tried again."""

_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 3.0
_COMMAND_LIMIT_S = 30.0
_OUTPUT_LIMIT = 1024
_OPTIONS = "ro,nosuid,nodev,noexec,overriderockperm,dmode=0500,mode=0400"
"""Only root enters the disc: anybody else could hold it mounted."""

_MANIFEST = Path("isolift/manifest.json")
_SIGNATURE = Path("isolift/manifest.sig")


class DriveError(Exception):
    """No drive holds the disc that is looked for.

    :ivar code: ``no_disc``, ``other_manifest`` or ``mount_stuck``.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Abandoned(Exception):
    """Nobody wants the disc any more."""


@dataclass(frozen=True)
class Disc:
    """A mounted disc, with the bytes of its manifest and of its signature (None: it has none)."""

    device: Path
    root: Path
    manifest: bytes
    signature: bytes | None


class Drive:
    """The configured drives, of which one at a time is mounted at ``mount_point``.

    :ivar unmounted: false if a disc could not be unmounted.
    """

    def __init__(self, media: Sequence[Path], mount_point: Path) -> None:
        self._media = media
        self._root = mount_point
        self.unmounted = True

    def mount(self, sha256: str, abandoned: Callable[[], bool]) -> Disc:
        """Mount the disc whose manifest has this SHA-256, read-only; wait for it if it is not there.

        :raises DriveError: no drive holds it, and none did for `WAIT_S` seconds; or no disc can be mounted.
        :raises Abandoned: ``abandoned`` said so in between.
        :raises OSError: the mount point cannot be made.
        """
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.unmount()
        deadline, pause = time.monotonic() + WAIT_S, _PAUSE_S
        while True:
            disc = self._look(sha256, last=time.monotonic() > deadline)
            if disc:
                return disc
            _pause(pause, abandoned)
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)

    def unmount(self) -> None:
        """Let go of the disc, if one is mounted; `unmounted` says whether that worked."""
        deadline = time.monotonic() + UNMOUNT_S
        while mounted(self._root):
            problem = _command("umount", str(self._root))
            if problem and time.monotonic() > deadline:
                log.error(f"cannot unmount {self._root}: {problem}")
                self.unmounted = False
                return
            if problem:
                time.sleep(_PAUSE_S)
        self.unmounted = True

    def _look(self, sha256: str, last: bool) -> Disc | None:
        """The disc, if a drive holds it. The ``last`` look says why not."""
        problems = []
        for device in self._media:
            try:
                return self._open(device, sha256)
            except DriveError as error:
                problems.append(error)
        if last or not self.unmounted:
            raise min(problems, key=_says_little)
        return None

    def _open(self, device: Path, sha256: str) -> Disc:
        if not self.unmounted:
            raise DriveError("mount_stuck", f"an earlier disc is still mounted at {self._root}")
        problem = _command("mount", "-t", "iso9660", "-o", _OPTIONS, str(device), str(self._root))
        if problem:
            self.unmount()  # the command may have been ended at its time limit, and the kernel have mounted the disc
            raise DriveError("no_disc", f"cannot mount {device}: {problem}")
        try:
            manifest = _read(self._root / _MANIFEST, MANIFEST_LIMIT)
            signature = _read(self._root / _SIGNATURE, SIGNATURE_LIMIT)
        except OSError as error:
            self.unmount()
            raise DriveError("no_disc", f"cannot read the disc in {device}: {error}") from error
        if manifest is None or hashlib.sha256(manifest).hexdigest() != sha256:
            self.unmount()
            raise DriveError("other_manifest", f"the disc in {device} has another manifest, or none")
        return Disc(device, self._root, manifest, signature)


def unmount_below(directory: Path) -> None:
    """Let go of whatever is mounted in a directory.

    :raises OSError: something stays mounted.
    """
    for place in below(directory):
        problem = _command("umount", place)
        if problem:
            raise OSError(errno.EBUSY, f"cannot unmount: {problem}", place)


def _says_little(error: DriveError) -> bool:
    """Whether another problem tells more: another disc does, and one that cannot be let go."""
    return error.code == "no_disc"


def _pause(seconds: float, abandoned: Callable[[], bool]) -> None:
    """Wait a while.

    :raises Abandoned: ``abandoned`` said so.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if abandoned():
            raise Abandoned
        time.sleep(_PAUSE_S)


def open_file(path: Path) -> BinaryIO:
    """Open a file of a disc, which may hold a link, a directory or a pipe in its place.

    :raises OSError: there is no such file, or something else.
    """
    return open(path, "rb", opener=_regular)


def _regular(path: str, flags: int) -> int:
    # Not blocking, because nobody might ever write to a pipe.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a file", path)
    return descriptor


def _read(path: Path, limit: int) -> bytes | None:
    """The file's bytes, cut off one byte over the limit; None if there is no such file."""
    try:
        file = open_file(path)
    except FileNotFoundError:
        return None
    with file:
        return file.read(limit + 1)


def _command(*argv: str) -> str:
    """Run a command; what it complained of, empty if it succeeded."""
    try:
        output = process.run(argv, _COMMAND_LIMIT_S, _OUTPUT_LIMIT)
    except (OSError, TimeoutError) as error:
        return str(error)
    return "" if output.exit_code == 0 else output.text.strip() or f"exit code {output.exit_code}"
