# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page about the architecture says of every shared file what it imports."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / "plugins" / "module_utils"
SECTION = (ROOT / "docs" / "architecture.md").read_text().split("from the bottom up")[1].split("\n### ")[0]
ROWS = [line.split("|")[1:4] for line in SECTION.splitlines() if line.startswith("| `")]
FILES = [re.findall(r"`(\w+)\.py`", files) for files, _what, _imports in ROWS]
NAMED = {
    file: set(imports.strip().split(", ")) - {"standard library"}
    for files, (_files, _what, imports) in zip(FILES, ROWS, strict=True)
    for file in files
}


def imported(file: str) -> set[str]:
    """The shared files and the libraries that a shared file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse((SHARED / f"{file}.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
        elif isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
    return found - sys.stdlib_module_names


def reached(files: set[str]) -> set[str]:
    """``files`` and what they import, and so on down."""
    return files.union(*(reached(NAMED[file]) for file in files if file in NAMED))


def test_every_file_has_its_row() -> None:
    assert sorted(NAMED) == sorted(path.stem for path in SHARED.glob("*.py"))


@pytest.mark.parametrize("file", NAMED)
def test_a_row_names_what_the_file_imports(file: str) -> None:
    assert NAMED[file] <= imported(file) <= reached(NAMED[file])


def test_rows_stand_above_what_they_rest_on() -> None:
    above: set[str] = set()
    for files in FILES:
        assert {name for file in files for name in NAMED[file] if name in NAMED} <= above
        above.update(files)
