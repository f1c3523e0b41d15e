# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest's Python: the interpreter of Debian with the part of its standard library that an agent can use."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from .shell import run

PACKAGES = (
    "libc6",
    "libexpat1",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "python3.11-minimal",
    "zlib1g",
)
_LIBRARY = Path("usr/lib/python3.11")
_SHARED_OBJECTS = ("libc.so.6", "libm.so.6", "libz.so.1", "libexpat.so.1")
_LOADER = Path("lib64/ld-linux-x86-64.so.2")

# Packages of the library that take room and that nothing in a guest uses.
_LEFT_OUT = {
    "asyncio",
    "concurrent",
    "curses",
    "dbm",
    "distutils",
    "email",
    "ensurepip",
    "html",
    "http",
    "idlelib",
    "lib2to3",
    "msilib",
    "multiprocessing",
    "pydoc_data",
    "sqlite3",
    "test",
    "tkinter",
    "unittest",
    "venv",
    "wsgiref",
    "xml",
    "xmlrpc",
}
_ENCODINGS = {"__init__", "aliases", "ascii", "cp437", "idna", "latin_1", "utf_8", "utf_8_sig", "utf_16"}
_EXTENSIONS = {"_contextvars", "_json", "_queue", "_typing", "_uuid", "mmap", "resource", "termios"}


def install(unpacked: Path, root: Path) -> None:
    """Copy Python from the ``unpacked`` packages into the guest's ``root``, its library compiled.

    :raise LabError: it cannot be compiled.
    """
    for name in _SHARED_OBJECTS:
        _copy(_shared_object(unpacked, name), root / "lib/x86_64-linux-gnu" / name)
    _copy(unpacked / _LOADER, root / _LOADER, executable=True)
    _copy(unpacked / "usr/bin/python3.11", root / "usr/bin/python3.11", executable=True)
    (root / "usr/bin/python3").symlink_to("python3.11")
    for source in _chosen(unpacked / _LIBRARY):
        _copy(source, root / _LIBRARY / source.relative_to(unpacked / _LIBRARY))
    _compile(unpacked, root / _LIBRARY)


def _shared_object(unpacked: Path, name: str) -> Path:
    for directory in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"):
        if (unpacked / directory / name).exists():
            return unpacked / directory / name
    raise FileNotFoundError(f"{name} is in none of the packages {', '.join(PACKAGES)}")


def _chosen(library: Path) -> Iterator[Path]:
    for path in sorted(library.rglob("*")):
        parts = path.relative_to(library).parts
        if path.suffix not in (".py", ".so") or parts[0] in _LEFT_OUT:
            continue
        stem = path.name.split(".")[0]
        if parts[0] == "encodings" and stem not in _ENCODINGS:
            continue
        if parts[0] == "lib-dynload" and stem not in _EXTENSIONS:
            continue
        yield path


def _compile(unpacked: Path, library: Path) -> None:
    """Replace each source by its compiled form, made by the guest's own interpreter."""
    libraries = ":".join(str(unpacked / part / "x86_64-linux-gnu") for part in ("lib", "usr/lib"))
    python = [unpacked / _LOADER, "--library-path", libraries, unpacked / "usr/bin/python3.11", "-I"]
    # Compiled files in the sources' places (-b) that are not checked against sources which are not there.
    options = ["-b", "-q", "--invalidation-mode=unchecked-hash", "-s", str(library)]
    words = [*map(str, python), "-m", "compileall", *options, str(library)]
    run(words, timeout=120, env={"PYTHONHOME": str(unpacked / "usr")})
    for source in library.rglob("*.py"):
        source.unlink()


def _copy(source: Path, target: Path, *, executable: bool = False) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if executable else 0o644)
