# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is shipped keeps to Python 3.8, though no test runs it on one.

The syntax is checked as far as `ast.parse` tells it apart, and a list of what came later and is written by habit. It knows names, not
types: two dicts that are joined by a bar are seen only where one of them is written out, and methods by what they are called.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted({path.resolve() for part in ("plugins", "roles") for path in (ROOT / part).rglob("*.py")})

LATER_MODULES = {"graphlib", "tomllib", "zoneinfo"}
LATER_IN_MODULES = {
    "ast": ["unparse"],
    "asyncio": ["TaskGroup", "timeout", "to_thread"],
    "contextlib": ["aclosing", "chdir"],
    "datetime": ["UTC"],
    "enum": ["StrEnum"],
    "functools": ["cache"],
    "hashlib": ["file_digest"],
    "importlib.resources": ["files"],
    "itertools": ["batched", "pairwise"],
    "math": ["lcm", "nextafter", "ulp"],
    "os": ["pidfd_open", "waitstatus_to_exitcode"],
    "sys": ["stdlib_module_names"],
    "typing": ["Annotated", "ParamSpec", "Self", "TypeAlias", "TypeGuard", "assert_never", "override"],
}
LATER_NAMES = {f"{module}.{name}" for module, names in LATER_IN_MODULES.items() for name in names}
LATER_METHODS = {
    "bit_count",
    "hardlink_to",
    "is_relative_to",
    "randbytes",
    "removeprefix",
    "removesuffix",
    "with_stem",
}
LATER_KEYWORDS = {"dataclass": {"kw_only", "match_args", "slots"}, "zip": {"strict"}}

COLLECTIONS = {"dict", "frozenset", "list", "set", "tuple", "type"}
TYPES = COLLECTIONS | {"bool", "bytes", "float", "int", "str"}
GENERIC_SINCE_3_9 = {
    "asyncio",
    "collections",
    "collections.abc",
    "contextlib",
    "os",
    "queue",
    "re",
    "subprocess",
}


def executed(node: ast.AST, spared: tuple[str, ...]) -> Iterator[ast.AST]:
    """``node`` and all below it, except what is in the fields ``spared``."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in spared:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from executed(child, spared)


def later_than_3_8(source: str) -> list[str]:
    """What in ``source`` Python 3.8 does not have, as far as this test knows it.

    :raises SyntaxError: the whole is beyond it.
    """
    tree = ast.parse(source, feature_version=(3, 8))
    postponed = "from __future__ import annotations\n" in source
    nodes = list(executed(tree, ("annotation", "returns") if postponed else ()))
    generic = COLLECTIONS | {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module in GENERIC_SINCE_3_9
        for alias in node.names
    }
    return [ast.unparse(node) for node in nodes if is_later(node, generic)]


def is_later(node: ast.AST, generic: set[str]) -> bool:
    """Whether Python 3.8 has no such thing. ``generic`` are names that it cannot subscript."""
    if isinstance(node, ast.Import):
        return any(alias.name in LATER_MODULES for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        names = {f"{node.module}.{alias.name}" for alias in node.names}
        return node.module in LATER_MODULES or bool(names & LATER_NAMES)
    if isinstance(node, ast.Attribute):
        return node.attr in LATER_METHODS or ast.unparse(node) in LATER_NAMES
    if isinstance(node, ast.Subscript):
        return is_generic_later(node.value, generic)
    if isinstance(node, (ast.BinOp, ast.AugAssign)) and isinstance(node.op, ast.BitOr):
        operands = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.value,)
        return any(map(is_joined_later, operands))
    if isinstance(node, ast.Call):
        later = LATER_KEYWORDS.get(ast.unparse(node.func).rpartition(".")[2], set())
        return any(keyword.arg in later for keyword in node.keywords)
    return False


def is_generic_later(operand: ast.expr, generic: set[str]) -> bool:
    """Whether brackets behind this operand make a type."""
    if isinstance(operand, ast.Attribute):
        return ast.unparse(operand.value) in GENERIC_SINCE_3_9 and operand.attr[0].isupper()
    return isinstance(operand, ast.Name) and operand.id in generic


def is_joined_later(operand: ast.expr) -> bool:
    """Whether a bar beside this operand makes a dict or a type."""
    if isinstance(operand, ast.Call):
        return ast.unparse(operand.func) == "dict"
    if isinstance(operand, ast.Name):
        return operand.id in TYPES
    return isinstance(operand, (ast.Dict, ast.DictComp)) or ast.unparse(operand) == "None"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_shipped_file_has_nothing_that_came_later(path: Path) -> None:
    assert not later_than_3_8(path.read_text())


@pytest.mark.parametrize(
    "source",
    [
        "match word:\n    case 1:\n        pass",
        "with (open(a) as b, open(c) as d):\n    pass",
        "try:\n    pass\nexcept* OSError:\n    pass",
    ],
)
def test_later_syntax_is_refused(source: str) -> None:
    with pytest.raises(SyntaxError):
        later_than_3_8(source)


@pytest.mark.parametrize(
    "source",
    [
        "Rows = list[int]",
        "from collections.abc import Callable\nJudge = Callable[[int], str]",
        "import subprocess\nRunning = subprocess.Popen[bytes]",
        "def rows() -> list[int]: ...",
        "isinstance(word, int | str)",
        "Maybe = None | Word",
        "both = {**one} | other",
        "other |= dict(one)",
        "word.removeprefix('a')",
        "import functools\nfunctools.cache(sum)",
        "from math import nextafter",
        "import tomllib",
        "zip(one, other, strict=True)",
        "@dataclasses.dataclass(frozen=True, slots=True)\nclass Row: ...",
    ],
)
def test_what_came_later_is_refused(source: str) -> None:
    assert later_than_3_8(source)


@pytest.mark.parametrize(
    "source",
    [
        "from __future__ import annotations\ndef rows(of: dict[str, int] | None) -> list[int]: ...",
        "from __future__ import annotations\nrows: list[int] = []",
        "from typing import List\nRows = List[int]",
        "import os\nhome = os.environ['HOME']\nflags = os.O_RDWR | os.O_CREAT",
        "both = {**one, **other}\nwords = set(one) | set(other)",
        "if (count := len(word)) > 1:\n    pass",
    ],
)
def test_what_python_3_8_has_is_let_through(source: str) -> None:
    assert not later_than_3_8(source)
