# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The component's disc: find it, check it, copy it.

Nothing on a disc is believed before its manifest has the digest that the start names and bears a signature of a pinned key.
The installer runs from a private copy whose every file was checked, because a disc can be exchanged while it is mounted.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

from . import facts, log
from .config import Config
from .drive import Abandoned, Disc, Drive, DriveError, open_file, unmount_below
from .events import Failure
from .journal import sync_directory, write_file
from .manifest import FileEntry, Manifest, ManifestError, Platform, digest, parse
from .signature import PublicKey, SignatureError, parse_public_key, verify

MANIFEST = "manifest.json"
PLATFORM = "platform.json"
TREE = "tree"
"""The name of the private copy in an upgrade's directory."""

SPARE_BYTES = 16 * 1024 * 1024
"""Bytes that must stay free beside the private copy: the journal and the installer's log need room."""

COPIES_TRIED = 3
"""How often the private copy is begun, if the disc leaves the drive in between."""

_BLOCK = 1024 * 1024
_GONE = (errno.EIO, errno.ENXIO, errno.ENODEV, errno.ENOMEDIUM)


class ComponentError(Exception):
    """A component that must not or cannot be installed."""

    def __init__(self, stage: str, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.failure = Failure(stage, code, detail)


class DiscLost(Exception):
    """The disc cannot be read any more: it left the drive while it was mounted. The detail says what failed."""


def read_manifest(config: Config, drive: Drive, sha256: str, abandoned: Callable[[], bool]) -> Manifest:
    """The manifest of the disc with this digest, its signature verified.

    :raises ComponentError: there is no such disc, or it must not be used.
    :raises Abandoned: ``abandoned`` said so in between.
    """
    with _mounted(drive, sha256, abandoned) as disc:
        return _verified(config, disc)


def platform_of(manifest: Manifest) -> Platform:
    """What the manifest has for this guest.

    :raises ComponentError: nothing.
    """
    try:
        return manifest.platform_for("linux", facts.platform())
    except ManifestError as error:
        raise ComponentError("verify", error.code, error.detail) from error


def choose_platform(manifest: Manifest, directory: Path) -> Platform:
    """`platform_of`, with a note in an upgrade's directory of what this guest is: the installer may make it another.

    :raises ComponentError: as of `platform_of`.
    :raises OSError: the note cannot be written.
    """
    platform = platform_of(manifest)
    write_file(directory / PLATFORM, json.dumps(facts.platform()).encode("utf-8"))
    return platform


def chosen_platform(manifest: Manifest, directory: Path) -> Platform:
    """What was chosen before the installer ran.

    :raises ComponentError: nothing was, and nothing would be now.
    :raises OSError: what this guest was, or is, cannot be read.
    """
    try:
        noted = json.loads((directory / PLATFORM).read_bytes())
        return manifest.platform_for("linux", {name: str(noted[name]) for name in facts.platform()})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return platform_of(manifest)  # an agent that did not note it began the upgrade
    except ManifestError as error:
        raise ComponentError("verify", error.code, error.detail) from error


def check_space(config: Config, manifest: Manifest, directory: Path) -> None:
    """Make sure that the private copy in ``directory`` fits, if it is not there yet. What is there of a part of it is removed.

    :raises ComponentError: it does not.
    :raises OSError: the part cannot be removed.
    """
    if (directory / MANIFEST).exists():
        return
    remove(directory)
    needed = sum(entry.size for entry in manifest.files) + SPARE_BYTES
    free = facts.free_bytes(config.work_dir)
    if free < needed:
        raise ComponentError(
            "prepare", "no_space", f"{config.work_dir} has {free} bytes free, {needed} are needed"
        )


def copy(config: Config, drive: Drive, sha256: str, directory: Path, abandoned: Callable[[], bool]) -> None:
    """Make the private copy in ``directory``, unmount, and check every file of the copy; one that is there and whole is taken as it is. A
    disc that leaves the drive meanwhile is waited for, and copied anew.

    :raises ComponentError: that was not possible, or the copy is not what the manifest says.
    :raises Abandoned: ``abandoned`` said so in between.
    """
    if _is_copied(sha256, directory, abandoned):
        return
    for tries_left in reversed(range(COPIES_TRIED)):
        try:
            _copy_once(config, drive, sha256, directory, abandoned)
            return
        except DiscLost as error:
            if not tries_left:
                raise ComponentError("media", "disc_lost", str(error)) from error
            log.warning(f"the disc left the drive while it was copied, and is waited for: {error}")


def _copy_once(
    config: Config, drive: Drive, sha256: str, directory: Path, abandoned: Callable[[], bool]
) -> None:
    try:
        with _mounted(drive, sha256, abandoned) as disc:
            manifest = _verified(config, disc)
            check_space(config, manifest, directory)
            _make_directory(directory)
            for entry in manifest.files:
                _copy_file(disc.root / entry.path, directory / TREE / entry.path, entry, abandoned)
        _check_copy(directory / TREE, manifest.files, abandoned)
        write_file(directory / MANIFEST, disc.manifest)
        sync_directory(directory.parent)
    except (OSError, ValueError) as error:  # ValueError: a path that this guest's locale has no letters for
        raise ComponentError("prepare", "copy_failed", str(error)) from error


def _is_copied(sha256: str, directory: Path, abandoned: Callable[[], bool]) -> bool:
    """Whether the copy is there and whole: the permit ran out while it was made, or the agent was restarted after that. Its manifest is
    written last, so it was verified."""
    try:
        manifest = (directory / MANIFEST).read_bytes()
        if hashlib.sha256(manifest).hexdigest() != sha256:
            return False
        _check_copy(directory / TREE, parse(manifest).files, abandoned)
    except FileNotFoundError:
        return False
    except (OSError, ValueError, ManifestError, ComponentError) as error:
        log.warning(f"{directory} is copied anew: {error}")
        return False
    return True


def copied_manifest(directory: Path) -> Manifest:
    """The manifest beside the private copy.

    :raises ComponentError: it is not there or not readable.
    """
    try:
        return parse((directory / MANIFEST).read_bytes())
    except (OSError, ManifestError) as error:
        raise ComponentError("install", "copy_lost", str(error)) from error


def remove(directory: Path) -> None:
    """Remove an upgrade's directory, if it is there, and nothing that its installer left mounted in it.

    :raises OSError: that was not possible.
    """
    if directory.exists():
        unmount_below(directory)
        shutil.rmtree(directory)


@contextmanager
def _mounted(drive: Drive, sha256: str, abandoned: Callable[[], bool]) -> Iterator[Disc]:
    try:
        disc = drive.mount(sha256, abandoned)
    except DriveError as error:
        raise ComponentError("media", error.code, error.detail) from error
    try:
        yield disc
    finally:
        drive.unmount()


def _verified(config: Config, disc: Disc) -> Manifest:
    keys = _pinned_keys(config.keys_dir)
    if disc.signature is None:
        raise ComponentError("verify", "unsigned", f"the disc in {disc.device} bears no signature")
    try:
        verify(disc.manifest, disc.signature, keys)
    except SignatureError as error:
        raise ComponentError("verify", "wrong_key", error.detail) from error
    try:
        return parse(disc.manifest)
    except ManifestError as error:
        raise ComponentError("verify", "bad_manifest", str(error)) from error


def _pinned_keys(directory: Path) -> list[PublicKey]:
    paths = sorted(directory.glob("*.pem"))
    if not paths:
        raise ComponentError("verify", "no_keys", f"no key is pinned: {directory} holds no .pem file")
    try:
        return [parse_public_key(path.read_bytes(), path.stem) for path in paths]
    except (OSError, SignatureError) as error:
        raise ComponentError("verify", "bad_key", f"{directory}: {error}") from error


def _make_directory(directory: Path) -> None:
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove(directory)
    directory.mkdir(mode=0o700)
    (directory / TREE).mkdir(mode=0o700)


def _copy_file(source: Path, target: Path, entry: FileEntry, abandoned: Callable[[], bool]) -> None:
    """Copy at most the bytes that the manifest promises; whether they are the right ones is checked on the copy."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with _reading():
            reader = open_file(source)
    except FileNotFoundError as error:
        raise ComponentError("verify", "file_absent", f"the disc has no {entry.path}") from error
    mode = 0o700 if entry.executable else 0o600
    with reader, open(target, "xb", opener=lambda path, flags: os.open(path, flags, mode)) as writer:
        left = entry.size
        while left > 0:
            if abandoned():
                raise Abandoned
            with _reading():
                block = reader.read(min(left, _BLOCK))
            if not block:
                break
            writer.write(block)
            left -= len(block)


@contextmanager
def _reading() -> Iterator[None]:
    """Tell a disc that is gone from one that cannot be used."""
    try:
        yield
    except OSError as error:
        if error.errno in _GONE:
            raise DiscLost(str(error)) from error
        raise


def _check_copy(tree: Path, entries: tuple[FileEntry, ...], abandoned: Callable[[], bool]) -> None:
    for entry in entries:
        if abandoned():
            raise Abandoned
        with (tree / entry.path).open("rb") as file:
            found = digest(file)
        if found != (entry.size, entry.sha256):
            raise ComponentError(
                "verify", "file_differs", f"{entry.path} has {found[0]} bytes and SHA-256 {found[1]}"
            )
