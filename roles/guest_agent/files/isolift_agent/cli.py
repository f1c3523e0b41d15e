# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of the command line. The standard argparse and what it imports would take a tenth of an idle agent's memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from .config import DEFAULT_PATH

USAGE = f"""\
usage: isolift-agent run [--config FILE]
       isolift-agent answer confirm|decline [--config FILE]
       isolift-agent status [--config FILE]
       isolift-agent --version | --help

Upgrades components from the ISO in this VM's drive.

  run     run the agent
  answer  answer the question whether to upgrade
  status  show what the agent is doing

  --config FILE  the configuration; default: {DEFAULT_PATH}, if it exists
"""

INSTALL = "_install"
"""The command by which the agent runs an installer in a process of its own; its word is the upgrade's directory."""

_WORDS = {"run": 0, "answer": 1, "status": 0, INSTALL: 1}
_ANSWERS = ("confirm", "decline")


class UsageError(Exception):
    """The command line makes no sense; the detail says why."""


@dataclass(frozen=True)
class Command:
    """What to do: ``name`` and its word, if it has one. ``config`` is None where none is named."""

    name: str
    word: str = ""
    config: Path | None = None


def parse(arguments: Sequence[str]) -> Command:
    """The command that the arguments name.

    :raises UsageError: there is no such command.
    """
    words: list[str] = []
    config: Path | None = None
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if option == "--config":
            value = value if equals else next(rest, "")
            if not value:
                raise UsageError("--config needs a file")
            config = Path(value)
        elif argument.startswith("-") and argument not in ("--version", "--help", "-h"):
            raise UsageError(f"unknown option {argument}")
        else:
            words.append(argument)
    return _command(words, config)


def _command(words: list[str], config: Path | None) -> Command:
    for name, aliases in (("--version", ("--version",)), ("--help", ("--help", "-h"))):
        if any(word in aliases for word in words):
            return Command(name)
    if not words:
        raise UsageError("no command is given")
    name, *others = words
    if name not in _WORDS:
        raise UsageError(f"unknown command {name}")
    if len(others) != _WORDS[name] or (name == "answer" and others[0] not in _ANSWERS):
        raise UsageError(f"wrong words after {name}")
    return Command(name, "".join(others), config)
