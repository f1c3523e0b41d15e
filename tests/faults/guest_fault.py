# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a guest, in the agent's place: the agent itself, which kills itself at one chosen point.

The agent is unchanged. What this program watches are the calls by which it reaches the world: pwrite and fsync of its journal, read and
write of its port. ``ORDER`` names the message and the side of the deed; it is removed before the kill, so that the agent which
is started next lives.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

AGENT = "/usr/lib/isolift/isolift-agent.pyz"
ORDER = Path("/run/fault/order.json")
DONE = Path("/run/fault/done")

COMMANDS = ("start", "notification")


class Fault:
    """Kills this process when the agent records or sends what the order names."""

    def __init__(self, moment: str, side: str) -> None:
        self._moment = moment
        self._side = side
        self._commands: set[str] = set()  # message IDs of the commands of that type
        self._heard: dict[int, bytes] = {}  # by descriptor, the line that has begun
        self._recording = False
        self._read: Callable[[int, int], bytes] = os.read
        self._write: Callable[[int, bytes], int] = os.write
        self._pwrite: Callable[[int, bytes, int], int] = os.pwrite
        self._fsync: Callable[[int], None] = os.fsync

    def install(self) -> None:
        """Watch the agent's calls from now on."""
        os.read, os.write, os.pwrite, os.fsync = self.read, self.write, self.pwrite, self.fsync  # type: ignore[assignment]

    def read(self, file: int, size: int) -> bytes:
        """os.read, which also learns the IDs of commands."""
        data = self._read(file, size)
        *lines, self._heard[file] = (self._heard.get(file, b"") + data).split(b"\n")
        for frame in map(_json, lines):
            message = frame.get("message") or {}
            if frame.get("type") == "carry" and message.get("type") == self._moment:
                self._commands.add(message["message_id"])
        return data

    def write(self, file: int, data: bytes) -> int:
        """os.write, with the kill before or after it."""
        sends = any(self._is_sent_in(frame) for frame in map(_json, bytes(data).split(b"\n")))
        if sends and self._side == "before the send":
            self._die()
        written = self._write(file, data)
        if sends and self._side == "after the send":
            self._die()
        return written

    def pwrite(self, file: int, data: bytes, offset: int) -> int:
        """os.pwrite, with the kill amid it if it is to come before the fsync: half of the record is on the disk."""
        self._recording = self._is_recorded_in(_json(data).get("set") or {})
        if self._recording and self._side == "before the fsync":
            self._pwrite(file, data[: len(data) // 2], offset)
            self._die()
        return self._pwrite(file, data, offset)

    def fsync(self, file: int) -> None:
        """os.fsync, with the kill after it."""
        self._fsync(file)
        if self._recording and self._side == "after the fsync":
            self._die()

    def _is_sent_in(self, frame: dict[str, Any]) -> bool:
        """A command is answered by its acknowledgement; a report is carried."""
        if self._moment in COMMANDS:
            return frame.get("type") == "ack" and frame.get("message_id") in self._commands
        return bool((frame.get("message") or {}).get("type") == self._moment)

    def _is_recorded_in(self, record: dict[str, Any]) -> bool:
        """A start begins the upgrade; a notification brings its permit; a report waits in the outbox."""
        upgrade = record.get("current") or {}
        if self._moment == "start":
            return upgrade.get("state") == "inspecting"
        if self._moment == "notification":
            return bool(upgrade.get("permit"))
        return any(message["type"] == self._moment for message in record.get("outbox", ()))

    def _die(self) -> None:
        ORDER.rename(DONE)
        os.kill(os.getpid(), signal.SIGKILL)


def _json(line: bytes) -> dict[str, Any]:
    """The object that ``line`` holds; an empty one if it holds none."""
    try:
        found = json.loads(line.decode("utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    if ORDER.exists():
        Fault(**json.loads(ORDER.read_text())).install()
    sys.argv[0] = AGENT
    runpy.run_path(AGENT, run_name="__main__")
