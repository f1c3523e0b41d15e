# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find processes by their arguments; stop or kill one with everything that it started."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path


def ours() -> Iterator[tuple[int, list[str]]]:
    """The ID and the arguments of every process outside of containers, in which the same path would be another."""
    own = Path("/proc/self/ns/pid").readlink()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "ns/pid").readlink() == own:
                yield int(entry.name), os.fsdecode((entry / "cmdline").read_bytes()).split("\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has just ended, or is somebody else's


def stop_tree(root: int) -> set[int]:
    """Stop the process ``root`` and all below it, whatever sessions they made of their own; return their IDs."""
    stopped: set[int] = set()
    while fresh := _tree(root) - stopped:
        for pid in fresh:
            _send(pid, signal.SIGSTOP)
        stopped |= fresh
    return stopped


def kill_tree(root: int) -> None:
    """Kill the process ``root`` and all below it. They are stopped first, so that none starts another meanwhile."""
    for pid in stop_tree(root):
        _send(pid, signal.SIGKILL)


def send_to_tree(root: int, number: signal.Signals) -> None:
    """Send a signal to the process ``root`` and all below it."""
    for pid in _tree(root):
        _send(pid, number)


def _tree(root: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # The name, in parentheses, may hold anything; the parent is the second word behind it.
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(entry.name))
    found, waiting = set(), [root]
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        waiting += children.get(pid, [])
    return found


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has just ended
