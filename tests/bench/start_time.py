# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long daemons take to start: ``python3 start_time.py ROUNDS COMMAND...`` prints seconds for each, as JSON.

A command is one word, split as a shell does. It has started when it tells systemd so, when there is the file ``{ready}``
that its words name, or, if it never does either, when it has ended.
"""

from __future__ import annotations

import json
import os
import selectors
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LONGEST_S = 60.0
LOOK_S = 0.001


def start(command: list[str]) -> float:
    """Start a command, wait until it has started, and end it.

    :raise TimeoutError: it does not start.
    """
    with (
        tempfile.TemporaryDirectory() as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
    ):
        path, file = f"{directory}/notify", Path(directory, "ready")
        ready.bind(path)
        words = [word.replace("{ready}", str(file)) for word in command]
        began = time.perf_counter()
        process = subprocess.Popen(
            words, env={**os.environ, "NOTIFY_SOCKET": path}, stderr=subprocess.DEVNULL
        )
        try:
            _wait(ready, process, file if words != command else None, words)
            return time.perf_counter() - began
        finally:
            process.terminate()
            process.wait(LONGEST_S)


def _wait(
    ready: socket.socket, process: subprocess.Popen[bytes], file: Path | None, words: list[str]
) -> None:
    give_up = time.monotonic() + LONGEST_S
    ended = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(ready, selectors.EVENT_READ)
            selector.register(ended, selectors.EVENT_READ)
            while not selector.select(LOOK_S if file else LONGEST_S) and not (file and file.exists()):
                if time.monotonic() > give_up:
                    raise TimeoutError(f"{shlex.join(words)} did not start within {LONGEST_S:.0f} s")
    finally:
        os.close(ended)


def main() -> None:
    """Start all commands in turn, several times."""
    rounds, *commands = sys.argv[1:]
    seconds: list[list[float]] = [[] for _command in commands]
    for _round in range(int(rounds)):
        for command, found in zip(commands, seconds, strict=True):
            found.append(start(shlex.split(command)))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
