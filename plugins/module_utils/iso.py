# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a component ISO from a directory, and read one with every check.

    /isolift/manifest.json   what the disc carries (manifest.py)
    /isolift/manifest.sig    the signature over the bytes of manifest.json (signature.py)
    /payload/...             the files

The same directory, description and key give the same bytes (disc.py says how). Empty directories are not
carried.
"""

from __future__ import annotations

import io
import os
import stat
import tempfile
import traceback
from dataclasses import dataclass
from typing import Iterator, Sequence

from .disc import DiscReader, IsoError, new_disc, open_disc, windows_can_name
from .manifest import (
    FILE_SIZE_LIMIT,
    MANIFEST_LIMIT,
    PAYLOAD,
    FileEntry,
    Manifest,
    ManifestError,
    Platform,
    digest,
    parse,
    render,
)
from .signature import SIGNATURE_LIMIT, PublicKey, SignatureError, parse_public_key, verify

CRYPTOGRAPHY_IMPORT_ERROR: str | None = None
try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
except ImportError:
    CRYPTOGRAPHY_IMPORT_ERROR = traceback.format_exc()

MANIFEST_PATH = "isolift/manifest.json"
SIGNATURE_PATH = "isolift/manifest.sig"

SIGNING_BITS = 3072
"""Fewest bits of a key that signs."""

_AGAIN = "copy or build the ISO again"


@dataclass(frozen=True)
class Description:
    """What a person says about a component; its files come from a directory."""

    component: str
    version: str
    platforms: tuple[Platform, ...]


@dataclass(frozen=True)
class ComponentDisc:
    """A component ISO that passed every check.

    ``size`` is the ISO's, in bytes; ``key_name`` names the public key that its signature verified with.
    """

    manifest: Manifest
    manifest_sha256: str
    iso_sha256: str
    size: int
    key_name: str


class Signer:
    """An RSA private key that signs manifests."""

    def __init__(self, pem: bytes, passphrase: bytes | None = None) -> None:
        """
        :param pem: the private key, PKCS#8 or PKCS#1.
        :raises IsoError: ``bad_key``: no RSA key of at least `SIGNING_BITS` bits, or another passphrase.
        """
        try:
            key = serialization.load_pem_private_key(pem, passphrase)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: over the passphrase
            raise IsoError("bad_key", f"cannot load the private key: {error}") from error
        bits = key.key_size if isinstance(key, rsa.RSAPrivateKey) else 0
        if not isinstance(key, rsa.RSAPrivateKey) or bits < SIGNING_BITS:
            kind = f"RSA of {bits} bits" if bits else type(key).__name__
            detail = f"the private key is {kind}, but signing needs RSA of {SIGNING_BITS} bits or more"
            raise IsoError("bad_key", f"{detail}: make one with openssl genrsa -out KEY {SIGNING_BITS}")
        self._key = key
        public = key.public_key().public_numbers()
        self.public_key = PublicKey("the signer's", public.n, public.e)

    def sign(self, data: bytes) -> bytes:
        """The signature over ``data``: PKCS#1 v1.5 with SHA-256, the same every time."""
        return self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def read_private_key(path: str) -> bytes:
    """The bytes of a private key's file.

    :raises IsoError: ``bad_key``.
    """
    try:
        with open(path, "rb") as stream:
            return stream.read(65536)
    except OSError as error:
        raise IsoError("bad_key", f"cannot read the private key {path}: {error.strerror}") from error


def load_public_keys(paths: Sequence[str]) -> list[PublicKey]:
    """The public keys in these PEM files, each named after its file.

    :raises IsoError: ``bad_key``.
    """
    keys = []
    for path in paths:
        try:
            with open(path, "rb") as stream:
                keys.append(parse_public_key(stream.read(65536), os.path.basename(path)))
        except OSError as error:
            raise IsoError("bad_key", f"cannot read the public key {path}: {error.strerror}") from error
        except SignatureError as error:
            raise IsoError("bad_key", f"cannot use the public key {path}: {error.detail}") from error
    return keys


def read(path: str, keys: Sequence[PublicKey]) -> ComponentDisc:
    """The component ISO at ``path``, after checking its signature, its manifest and the digest of every file.

    :param keys: any one of them must have made the signature.
    :raises IsoError: any check failed, or the file cannot be read.
    """
    with open_disc(path) as disc:
        data = _content(path, disc, MANIFEST_PATH, MANIFEST_LIMIT)
        if data is None:
            raise IsoError("no_manifest", f"{path} has no {MANIFEST_PATH}: build the ISO with component_iso")
        key_name = _check_signature(path, data, _content(path, disc, SIGNATURE_PATH, SIGNATURE_LIMIT), keys)
        try:
            manifest = parse(data)
        except ManifestError as error:
            detail = f"{path}: {MANIFEST_PATH} is not valid ({error}): build the ISO again"
            raise IsoError("bad_manifest", detail) from error
        for entry in manifest.files:
            _check_file(path, disc, entry)
        return ComponentDisc(manifest, digest(io.BytesIO(data))[1], disc.sha256, disc.size, key_name)


def _content(path: str, disc: DiscReader, name: str, limit: int) -> bytes | None:
    length = disc.length(name)
    if length is None:
        return None
    if length > limit:
        raise IsoError("damaged", f"{path}: {name} has {length} bytes, at most {limit} are allowed: {_AGAIN}")
    with disc.open(name) as stream:
        return stream.read(limit)


def _check_signature(path: str, data: bytes, signature: bytes | None, keys: Sequence[PublicKey]) -> str:
    if not signature:
        detail = f"{path} has no {SIGNATURE_PATH}: build the ISO with component_iso, which signs it"
        raise IsoError("unsigned", detail)
    try:
        return verify(data, signature, keys)
    except SignatureError as error:
        detail = (
            f"{path}: the signature of its manifest was {error.detail}: "
            "give the public key of the key that signed it, or build the ISO again with yours"
        )
        raise IsoError("wrong_key", detail) from error


def _check_file(path: str, disc: DiscReader, entry: FileEntry) -> None:
    length = disc.length(entry.path)
    if length is None:
        detail = f"{path}: the manifest names {entry.path}, which is not on the disc: {_AGAIN}"
        raise IsoError("file_absent", detail)
    if length != entry.size:
        detail = f"{path}: {entry.path} has {length} bytes, but its manifest says {entry.size}: {_AGAIN}"
        raise IsoError("file_differs", detail)
    with disc.open(entry.path) as stream:
        sha256 = digest(stream)[1]
    if sha256 != entry.sha256:
        detail = f"{path}: {entry.path} has digest {sha256}, but its manifest says {entry.sha256}: {_AGAIN}"
        raise IsoError("file_differs", detail)


def build(
    source_dir: str, description: Description, signer: Signer, dest: str, scratch_dir: str | None = None
) -> tuple[ComponentDisc, bool]:
    """Build the ISO of the files below ``source_dir`` and put it at ``dest``, whole or not at all.

    :param scratch_dir: build in this directory instead and leave ``dest`` alone, to learn what would be.
    :returns: the disc as read back and verified, and whether ``dest`` did not hold these bytes before.
    :raises IsoError: nothing was changed then.
    """
    _check_places(source_dir, dest)
    entries, sources = _scan(source_dir)
    data = _describe(description, entries)
    directory, name = os.path.split(os.path.abspath(dest))
    try:
        handle, draft = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=scratch_dir or directory)
    except OSError as error:
        raise IsoError("bad_dest", f"cannot write beside {dest}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as stream, new_disc() as disc:
            disc.add_bytes(MANIFEST_PATH, data)
            disc.add_bytes(SIGNATURE_PATH, signer.sign(data))
            for entry in entries:
                disc.add_file(entry.path, sources[entry.path], entry.executable)
            disc.write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        built = _read_back(draft, source_dir, signer)
        changed = _sha256(dest) != built.iso_sha256
        if changed and not scratch_dir:
            os.chmod(draft, _mode(dest))
            os.replace(draft, dest)
        return built, changed
    except OSError as error:
        detail = f"cannot write {dest}: {error.strerror} ({error.filename or draft})"
        raise IsoError("cannot_write", detail) from error
    finally:
        if os.path.exists(draft):
            os.unlink(draft)


def _read_back(draft: str, source_dir: str, signer: Signer) -> ComponentDisc:
    try:
        return read(draft, [signer.public_key])
    except IsoError as error:
        detail = f"what was written does not verify; did a file in {source_dir} change meanwhile? ({error})"
        raise IsoError("cannot_write", detail) from error


def _check_places(source_dir: str, dest: str) -> None:
    if not os.path.isdir(source_dir):
        detail = f"{source_dir} is not a directory: give the directory that holds the component's files"
        raise IsoError("bad_source", detail)
    if os.path.isdir(dest):
        raise IsoError("bad_dest", f"{dest} is a directory: give the path of the ISO file")
    if os.path.exists(dest) and not os.path.isfile(dest):
        raise IsoError("bad_dest", f"{dest} is not a regular file: give the path of the ISO file")
    parent = os.path.dirname(os.path.abspath(dest))
    if not os.path.isdir(parent):
        raise IsoError("bad_dest", f"the directory {parent} does not exist: create it first")
    source = os.path.realpath(source_dir)
    if os.path.commonpath([source, os.path.realpath(parent)]) == source:
        detail = f"{dest} lies inside {source_dir} and would become part of itself: choose another place"
        raise IsoError("bad_dest", detail)


def _scan(source_dir: str) -> tuple[list[FileEntry], dict[str, str]]:
    """The files below ``source_dir`` in the order of their paths on the disc, and where each is."""
    sources = dict(_walk(source_dir))
    if not sources:
        raise IsoError("bad_source", f"{source_dir} holds no file: put the component's files there")
    return [_entry(path, sources[path]) for path in sorted(sources)], sources


def _walk(source_dir: str) -> Iterator[tuple[str, str]]:
    """(path on the disc, path here) of every file below ``source_dir``."""
    pending = [(PAYLOAD, source_dir)]
    while pending:
        prefix, directory = pending.pop()
        for child in _children(directory):
            path = f"{prefix}/{child.name}"
            if not _is_unicode(child.name):
                raise IsoError("bad_name", f"the name of {os.fsencode(child.path)!r} is not UTF-8: rename it")
            if child.is_symlink():
                raise IsoError("bad_source", f"{child.path} is a symbolic link: put the file itself there")
            if child.is_dir(follow_symlinks=False):
                pending.append((path, child.path))
            elif child.is_file(follow_symlinks=False):
                yield path, child.path
            else:
                raise IsoError("bad_source", f"{child.path} is neither a file nor a directory: remove it")


def _children(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as found:
            return list(found)
    except OSError as error:
        raise IsoError("bad_source", f"cannot read the directory {directory}: {error.strerror}") from error


def _is_unicode(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:  # Python has bytes that are not UTF-8 as lone surrogates
        return False
    return True


def _entry(path: str, source: str) -> FileEntry:
    try:
        with open(source, "rb") as stream:
            executable = bool(os.fstat(stream.fileno()).st_mode & stat.S_IXUSR)
            size, sha256 = digest(stream)
    except OSError as error:
        raise IsoError("bad_source", f"cannot read {source}: {error.strerror}") from error
    if size > FILE_SIZE_LIMIT:
        detail = f"{source} has {size} bytes, at most {FILE_SIZE_LIMIT} fit: split or compress it"
        raise IsoError("bad_source", detail)
    return FileEntry(path, size, sha256, executable)


def _describe(description: Description, entries: Sequence[FileEntry]) -> bytes:
    """The manifest's bytes, which `parse` accepts."""
    manifest = Manifest(description.component, description.version, description.platforms, tuple(entries))
    try:
        data = render(manifest)
        parse(data)
    except ManifestError as error:
        code = "bad_name" if error.code in ("bad_path", "duplicate") else "bad_description"
        raise IsoError(code, f"the manifest would not be valid: {error.detail}") from error
    for platform in manifest.platforms:
        _check_platform(platform, [entry.path for entry in entries])
    return data


def _check_platform(platform: Platform, paths: Sequence[str]) -> None:
    """Refuse an installer that is not among the files, and names that the platform cannot show."""
    on_windows = platform.os == "windows"
    for argument in platform.install:
        named = argument.replace("\\", "/") if on_windows else argument
        prefix = named.rstrip("/") + "/"
        if prefix.startswith(PAYLOAD + "/") and not any(f"{path}/".startswith(prefix) for path in paths):
            detail = f"install names {argument}, but there is no such file or directory: correct or add it"
            raise IsoError("bad_description", detail)
    for path in paths:
        if on_windows and not windows_can_name(path):
            rule = "a name has at most 64 bytes and no reserved character or word"
            detail = f"Windows cannot show {path} ({rule}): rename it, or pack it into an archive"
            raise IsoError("bad_name", detail)


def _sha256(path: str) -> str | None:
    try:
        with open(path, "rb") as stream:
            return digest(stream)[1]
    except FileNotFoundError:
        return None


def _mode(path: str) -> int:
    """The mode that the file has, or that a new one gets."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
