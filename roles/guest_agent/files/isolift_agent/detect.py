# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the version of a component that is installed in this guest."""

from __future__ import annotations

from pathlib import Path

from . import process
from .bounds import clip
from .manifest import Probe

OUTPUT_LIMIT = 64 * 1024
"""Most bytes of a file or of a command's output that are searched for a version."""

TIMEOUT_S = 30.0
"""Seconds that a command has."""

_DPKG = ("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}\\n", "--")
_RPM = ("rpm", "--query", "--queryformat=%{VERSION}-%{RELEASE}\\n", "--")


class DetectError(Exception):
    """The version cannot be read, which is not the same as nothing being installed.

    :ivar code: ``detect_timeout`` or ``detect_failed``.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def read_version(probe: Probe) -> str:
    """The installed version, at most 64 characters; empty if nothing is installed.

    :raises DetectError: it cannot be known.
    """
    try:
        if probe.file:
            output = _read_file(Path(probe.file))
        elif probe.command:
            output = _print_of(probe.command)
        else:
            output = _package_version(probe.package)
    except TimeoutError as error:
        raise DetectError("detect_timeout", str(error)) from error
    except (OSError, ValueError) as error:  # ValueError: a path that this guest's locale has no letters for
        raise DetectError("detect_failed", str(error)) from error
    return clip(probe.version_in(output), 64)


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(OUTPUT_LIMIT).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _print_of(argv: tuple[str, ...]) -> str:
    try:
        return process.run(argv, TIMEOUT_S, OUTPUT_LIMIT).text
    except FileNotFoundError:
        return ""


def _package_version(name: str) -> str:
    """The version by dpkg or, where there is no dpkg, by rpm."""
    try:
        found = process.run([*_DPKG, name], TIMEOUT_S, OUTPUT_LIMIT)
    except FileNotFoundError:
        return _rpm_version(name)
    for line in found.text.splitlines() if found.exit_code == 0 else ():
        status, _space, version = line.partition(" ")
        if status == "installed":
            return version
    return ""


def _rpm_version(name: str) -> str:
    try:
        found = process.run([*_RPM, name], TIMEOUT_S, OUTPUT_LIMIT)
    except FileNotFoundError as error:
        raise DetectError("detect_failed", "this guest has neither dpkg nor rpm") from error
    return found.text if found.exit_code == 0 else ""
