# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a component ISO: what it carries, how to install it where, and the digest of every file.

It is one JSON object. `render` gives its canonical bytes, which are what is signed; `parse` checks everything
that a reader relies on, so that a `Manifest` in hand is a valid one. The guest agent shares this file, so it
needs the standard library only and Python 3.8.

A manifest says what runs as root in a guest, so an unknown key is refused rather than ignored: a misspelt
`verify` must not install something unverified.
"""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from typing import Any, BinaryIO, Iterable, Mapping, Pattern

SCHEMA = 1
"""Version of the format. It changes only when an old reader could misread a new manifest."""

MANIFEST_LIMIT = 4 * 1024 * 1024
"""Most bytes that a manifest may have."""

FILES_LIMIT = 20000
"""Most files that a component may have."""

FILE_SIZE_LIMIT = 2**32 - 1
"""Most bytes that one file may have: the largest that ISO 9660 can describe in one extent."""

PAYLOAD = "payload"
"""The directory on the disc, and in the agent's private copy, that holds the component's files."""

FIRST_WORD = r"(\S+)"
"""The regular expression of a `Probe` that names none."""

SYSTEMS = ("linux", "windows")
MATCH_KEYS = ("arch", "id", "version_id")

_COMPONENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~:-]{0,63}")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:-]{0,127}")
_ABSOLUTE = {"linux": re.compile(r"/[^/]"), "windows": re.compile(r"[A-Za-z]:[\\/][^\\/]")}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")
_PATH_LIMIT = 1024
_NAME_LIMIT = 250  # bytes in UTF-8; the Linux kernel cuts off a Rock Ridge name at 254


class ManifestError(Exception):
    """Bytes that are not a valid manifest, or a manifest that has nothing for this guest.

    :ivar code: a short stable word: ``too_large``, ``not_json``, ``bad_schema``, ``bad_field``, ``bad_path``,
        ``bad_regex``, ``duplicate`` or ``no_platform``.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class Probe:
    """How to read the installed version. Exactly one of ``file``, ``command`` and ``package`` is set.

    The version is group 1 of ``regex``, searched in what the file holds, the command prints or the package
    database answers; ``^`` and ``$`` match at every line.
    """

    file: str = ""
    command: tuple[str, ...] = ()
    package: str = ""
    regex: str = FIRST_WORD

    def version_in(self, output: str) -> str:
        """The version that ``output`` names, empty if it names none."""
        found = re.search(self.regex, output, re.MULTILINE)
        return (found.group(1) or "") if found else ""


@dataclass(frozen=True)
class Platform:
    """What to do on one kind of guest.

    ``match`` holds the accepted values by fact (`MATCH_KEYS`); a fact that it does not name may have any
    value. ``install`` is an argv, run in the root of the private copy; ``timeout_s`` is its limit in seconds.
    ``verify`` reads the version after installing; None means the same as ``detect``.
    """

    os: str
    detect: Probe
    install: tuple[str, ...]
    match: Mapping[str, tuple[str, ...]]
    timeout_s: int = 600
    verify: Probe | None = None

    def fits(self, os: str, facts: Mapping[str, Any]) -> bool:
        """Whether a guest with this operating system and these facts is of this kind."""
        return self.os == os and all(str(facts.get(key, "")) in values for key, values in self.match.items())


@dataclass(frozen=True)
class FileEntry:
    """One file: its path on the disc, its size in bytes and its SHA-256 in lower-case hexadecimal digits."""

    path: str
    size: int
    sha256: str
    executable: bool


@dataclass(frozen=True)
class Manifest:
    """A component at one version."""

    component: str
    version: str
    platforms: tuple[Platform, ...]
    files: tuple[FileEntry, ...]

    def platform_for(self, os: str, facts: Mapping[str, Any]) -> Platform:
        """The first platform that fits a guest.

        :param os: ``linux`` or ``windows``.
        :param facts: the guest's ``id`` and ``version_id`` (from os-release) and ``arch``.
        :raises ManifestError: ``no_platform``.
        """
        for platform in self.platforms:
            if platform.fits(os, facts):
                return platform
        known = ", ".join(f"{key} {str(facts.get(key, 'unknown'))[:64]}" for key in MATCH_KEYS)
        raise ManifestError(
            "no_platform", f"{self.component} {self.version} has no platform for {os}, {known}"
        )


def digest(stream: BinaryIO) -> tuple[int, str]:
    """How many bytes ``stream`` still holds, and their SHA-256 in hexadecimal digits. Takes little memory."""
    import hashlib  # here, because most users of this file never need it

    sha256 = hashlib.sha256()
    size = 0
    while True:
        block = stream.read(1024 * 1024)
        if not block:
            return size, sha256.hexdigest()
        size += len(block)
        sha256.update(block)


def render(manifest: Manifest) -> bytes:
    """The canonical bytes: the same manifest always gives the same. It does not check; `parse` does.

    :raises ManifestError: a text cannot be written as UTF-8.
    """
    body = {
        "schema": SCHEMA,
        "component": manifest.component,
        "version": manifest.version,
        "platforms": [_platform_body(platform) for platform in manifest.platforms],
        "files": [vars(entry) for entry in sorted(manifest.files, key=lambda entry: entry.path)],
    }
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode("utf-8") + b"\n"
    except UnicodeEncodeError as error:
        raise ManifestError("bad_field", f"a text is not Unicode: {error}") from error


def _platform_body(platform: Platform) -> dict[str, Any]:
    body: dict[str, Any] = {
        "os": platform.os,
        "detect": _probe_body(platform.detect),
        "install": list(platform.install),
        "timeout_s": platform.timeout_s,
        "verify": _probe_body(platform.verify) if platform.verify else None,
    }
    if platform.match:
        body["match"] = {key: list(values) for key, values in platform.match.items()}
    return body


def _probe_body(probe: Probe) -> dict[str, Any]:
    values = {"file": probe.file, "command": list(probe.command), "package": probe.package}
    return {"regex": probe.regex, **{key: value for key, value in values.items() if value}}


def parse(data: bytes) -> Manifest:
    """The manifest that ``data`` holds.

    :raises ManifestError: the only exception, for any bytes whatever.
    """
    if len(data) > MANIFEST_LIMIT:
        raise ManifestError("too_large", f"{len(data)} bytes, at most {MANIFEST_LIMIT} are allowed")
    try:
        body = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_parse_int,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise ManifestError("not_json", str(error)[:200]) from error
    if not isinstance(body, dict):
        raise ManifestError("not_json", "expected a JSON object")
    if body.get("schema") != SCHEMA:
        raise ManifestError(
            "bad_schema", f"this reader knows schema {SCHEMA}, not {str(body.get('schema'))[:20]}"
        )
    _keys(body, "manifest", {"schema", "component", "version", "platforms", "files"})
    files = tuple(
        _file(item, f"files[{index}]")
        for index, item in enumerate(_list(body["files"], "files", FILES_LIMIT))
    )
    _check_tree(entry.path for entry in files)
    return Manifest(
        component=_text(body["component"], "component", _COMPONENT),
        version=_text(body["version"], "version", _VERSION),
        platforms=parse_platforms(body["platforms"]),
        files=files,
    )


def parse_platforms(value: Any) -> tuple[Platform, ...]:
    """The platforms that a decoded JSON list describes.

    :raises ManifestError: it is not such a list.
    """
    items = _list(value, "platforms", 32)
    return tuple(_platform(item, f"platforms[{index}]") for index, item in enumerate(items))


def _platform(value: Any, where: str) -> Platform:
    body = _keys(value, where, {"os", "detect", "install"}, {"match", "timeout_s", "verify"})
    os = _text(body["os"], f"{where}.os")
    if os not in SYSTEMS:
        raise ManifestError("bad_field", f"{where}.os: expected one of {', '.join(SYSTEMS)}")
    verify = body.get("verify")
    return Platform(
        os=os,
        detect=_probe(body["detect"], f"{where}.detect", os),
        install=_texts(body["install"], f"{where}.install"),
        match=_match(body.get("match", {}), f"{where}.match"),
        timeout_s=_integer(body.get("timeout_s", 600), f"{where}.timeout_s", 1, 86400),
        verify=None if verify is None else _probe(verify, f"{where}.verify", os),
    )


def _match(value: Any, where: str) -> dict[str, tuple[str, ...]]:
    body = _keys(value, where, set(), set(MATCH_KEYS))
    return {key: _texts(values, f"{where}.{key}") for key, values in sorted(body.items())}


def _probe(value: Any, where: str, os: str) -> Probe:
    body = _keys(value, where, set(), {"file", "command", "package", "regex"})
    if len(body.keys() - {"regex"}) != 1:
        raise ManifestError("bad_field", f"{where}: expected exactly one of file, command and package")
    regex = _regex(body.get("regex", FIRST_WORD), f"{where}.regex")
    if "command" in body:
        return Probe(command=_texts(body["command"], f"{where}.command"), regex=regex)
    if "file" in body:
        return Probe(file=_absolute(body["file"], f"{where}.file", os), regex=regex)
    if os == "windows":
        raise ManifestError("bad_field", f"{where}.package: Windows has no package database; use command")
    return Probe(package=_text(body["package"], f"{where}.package", _PACKAGE), regex=regex)


def _absolute(value: Any, where: str, os: str) -> str:
    path = _text(value, where)
    if not _ABSOLUTE[os].match(path) or _CONTROLS.search(path):
        raise ManifestError("bad_field", f"{where}: expected an absolute {os} path")
    return path


def _regex(value: Any, where: str) -> str:
    pattern = _text(value, where, limit=1000)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what one Python only warns of, the guest's Python may refuse
            groups = re.compile(pattern, re.MULTILINE).groups
    except (re.error, ValueError, OverflowError, RecursionError, Warning) as error:
        raise ManifestError("bad_regex", f"{where}: not a regular expression: {str(error)[:200]}") from error
    if groups < 1:
        raise ManifestError("bad_regex", f"{where}: needs a group around the version, such as {FIRST_WORD}")
    return pattern


def _file(value: Any, where: str) -> FileEntry:
    body = _keys(value, where, {"path", "size", "sha256", "executable"})
    if not isinstance(body["executable"], bool):
        raise ManifestError("bad_field", f"{where}.executable: expected true or false")
    return FileEntry(
        path=_path(body["path"], f"{where}.path"),
        size=_integer(body["size"], f"{where}.size", 0, FILE_SIZE_LIMIT),
        sha256=_text(body["sha256"], f"{where}.sha256", _SHA256),
        executable=body["executable"],
    )


def _path(value: Any, where: str) -> str:
    """A relative path below the payload that means the same file on Linux and on Windows."""
    path = _text(value, where, limit=_PATH_LIMIT)
    names = path.split("/")
    problem = ""
    if names[0] != PAYLOAD or len(names) < 2:
        problem = f"is not below {PAYLOAD}/"
    elif any(name in ("", ".", "..") for name in names):
        problem = "has an empty name, '.' or '..'"
    elif "\\" in path or _CONTROLS.search(path):
        problem = "holds a backslash or a control character"
    elif any(len(name.encode("utf-8")) > _NAME_LIMIT for name in names):
        problem = f"has a name of more than {_NAME_LIMIT} bytes"
    if problem:
        raise ManifestError("bad_path", f"{where}: {path[:200]!r} {problem}")
    return path


def _check_tree(paths: Iterable[str]) -> None:
    """Refuse what some guest cannot hold: names equal but for case, a file that is also a directory."""
    spellings: dict[str, str] = {}
    for path in paths:
        end = path.find("/")
        while end >= 0:
            _claim(spellings, path[:end], "/")
            end = path.find("/", end + 1)
        if path.casefold() in spellings:
            raise ManifestError(
                "duplicate", f"{path[:200]!r} clashes with {spellings[path.casefold()][:200]!r}"
            )
        _claim(spellings, path, "")


def _claim(spellings: dict[str, str], path: str, suffix: str) -> None:
    first = spellings.setdefault(path.casefold(), path + suffix)
    if first != path + suffix:
        raise ManifestError("duplicate", f"{(path + suffix)[:200]!r} clashes with {first[:200]!r}")


# Checks: each takes a decoded JSON value and where it stands, and returns it or raises ManifestError.


def _keys(value: Any, where: str, required: set[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ManifestError("bad_field", f"{where}: expected an object")
    missing = required - value.keys()
    if missing:
        raise ManifestError("bad_field", f"{where}: {', '.join(sorted(missing))} missing")
    unknown = value.keys() - required - set(optional)
    if unknown:
        raise ManifestError("bad_field", f"{where}: unknown key {min(unknown)[:64]!r}")
    return value


def _list(value: Any, where: str, limit: int) -> list[Any]:
    if not isinstance(value, list) or not 1 <= len(value) <= limit:
        raise ManifestError("bad_field", f"{where}: expected a list of 1 to {limit} items")
    return value


def _text(value: Any, where: str, pattern: Pattern[str] | None = None, limit: int = 4096) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= limit or _UNUSABLE.search(value):
        raise ManifestError("bad_field", f"{where}: expected text of 1 to {limit} characters, without NUL")
    if pattern and not pattern.fullmatch(value):
        raise ManifestError("bad_field", f"{where}: {value[:64]!r} does not match {pattern.pattern}")
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    return tuple(_text(item, f"{where}[{index}]") for index, item in enumerate(_list(value, where, 64)))


def _integer(value: Any, where: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ManifestError("bad_field", f"{where}: expected an integer from {low} to {high}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return body


def _parse_int(digits: str) -> int:
    if len(digits) > 20:  # converting millions of digits would take minutes
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
