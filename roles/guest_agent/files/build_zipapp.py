# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a daemon: ``python3 build_zipapp.py PACKAGE DEST`` writes one executable file that holds the whole package.

The same sources give the same bytes on every machine: entries are sorted, stored without compression and bear one fixed
time. Shared files, which are symlinks in the package, become real files.
"""

from __future__ import annotations

import io
import os
import sys
import zipfile
from pathlib import Path

SHEBANG = b"#!/usr/bin/env python3\n"
MAIN = """\
import sys

from {package}.__main__ import main

sys.exit(main())
"""


def build(package: Path) -> bytes:
    """The bytes of the zipapp that runs ``main`` of ``package``'s ``__main__``."""
    buffer = io.BytesIO()
    buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "a") as archive:
        _add(archive, "__main__.py", MAIN.format(package=package.name).encode("utf-8"))
        for source in sorted(package.glob("*.py")):
            _add(archive, f"{package.name}/{source.name}", source.read_bytes())
    return buffer.getvalue()


def write(package: Path, destination: Path) -> None:
    """Put the zipapp of ``package`` at ``destination``, whole or not at all.

    :raises OSError: the directory cannot be written, or a shared file is missing.
    """
    data = build(package)
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.chmod(0o755)
        temporary.replace(destination)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def main(arguments: list[str]) -> int:
    """The command: exit status 0, or 2 with a message on standard error."""
    if len(arguments) != 2:
        print("usage: build_zipapp.py PACKAGE DEST", file=sys.stderr)
        return 2
    package, destination = (Path(argument) for argument in arguments)
    if not (package / "__main__.py").exists():
        print(f"cannot build {destination}: {package} is no package with a __main__.py", file=sys.stderr)
        return 2
    try:
        write(package, destination)
    except OSError as error:
        print(f"cannot build {destination}: {error}", file=sys.stderr)
        return 2
    return 0


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data, zipfile.ZIP_STORED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
