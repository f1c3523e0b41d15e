# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the lab."""

from __future__ import annotations

import argparse
import re
import sys

from . import commands, paths
from .errors import LabError
from .progress import Progress

_HOST_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says and return the exit status: 0 done, 1 not."""
    options = _parser().parse_args(arguments)
    try:
        return 0 if _run(options, Progress()) else 1
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, progress: Progress) -> bool:
    command = (options.command, getattr(options, "action", None))
    if command == ("up", None):
        commands.up(progress, nodes_only=options.nodes_only)
    elif command == ("build", None):
        commands.build(progress)
    elif command == ("down", None):
        commands.down(progress)
    elif command == ("status", None):
        return commands.status(progress)
    elif command == ("inventory", None):
        print(paths.INVENTORY.read_text() if paths.INVENTORY.exists() else "{}", end="")
    elif command == ("guests", "start"):
        commands.guests_start(progress)
    elif command == ("guests", "wait"):
        commands.guests_wait(progress)
    elif command == ("guests", "stop"):
        commands.guests_stop(progress)
    elif command == ("host", "up"):
        commands.host_up(progress, options.name)
    elif command == ("host", "down"):
        commands.host_down(progress, options.name)
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab.py", description="Two compute nodes with real guests.")
    verbs = parser.add_subparsers(dest="command", required=True)
    up = verbs.add_parser("up", help="bring up nodes and guests; what is up stays")
    up.add_argument("--nodes-only", action="store_true", help="no guests")
    verbs.add_parser("build", help="fill the cache with what nodes and guests are made of; start nothing")
    verbs.add_parser("down", help="remove all that runs; the cache stays")
    verbs.add_parser("status", help="say what is up; the exit status is 1 unless all is")
    verbs.add_parser("inventory", help="print the Ansible inventory of the nodes")
    guests = verbs.add_parser("guests", help="the guests alone")
    guests.add_argument("action", choices=("start", "wait", "stop"))
    host = verbs.add_parser("host", help="one extra host, for tests of roles")
    host.add_argument("action", choices=("up", "down"))
    host.add_argument("name", type=_host_name, help="a short host name of letters and digits")
    return parser


def _host_name(text: str) -> str:
    if _HOST_NAME.fullmatch(text) is None:
        raise argparse.ArgumentTypeError("not a lower-case letter and up to 11 letters and digits")
    return text
