# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an idle guest agent costs: CPU time, wake-ups and memory, with its host present, gone, and without a port.

The agent that is shipped runs in each of these situations at the same time, on this machine. The port is one end of a
socket pair: like a virtio-serial port without a host, it is readable at its end of file for ever once the other end is
closed.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import report, snapshot
from .watch import Watch, settle

FILES = Path(__file__).resolve().parents[2] / "roles/guest_agent/files"
INTERPRETER = "/usr/bin/python3"
WAIT_S = 20.0

# The agent's own main, with a port that is there already.
PROGRAM = """\
import os, sys
sys.path.insert(0, sys.argv[1])
from isolift_agent import __main__, channel
if len(sys.argv) > 3:
    channel.opener = lambda path: lambda: os.dup(int(sys.argv[3]))
sys.exit(__main__.main(["run", "--config", sys.argv[2]]))
"""


class Situation:
    """An agent of its own, in a directory of its own."""

    def __init__(self, name: str, root: Path, has_port: bool) -> None:
        self.name = name
        root.mkdir()
        port = root / "absent"
        config = root / "agent.json"
        names = ("port", "state_dir", "keys_dir", "mount_point", "work_dir", "control_socket")
        values = {key: str(root / key) for key in names} | {"port": str(port)}
        config.write_text(json.dumps(values))
        self.host, guest = socket.socketpair()
        guest.setblocking(False)
        argv = [INTERPRETER, "-c", PROGRAM, str(zipapp(root)), str(config)]
        argv += [str(guest.fileno())] if has_port else []
        self._log = (root / "log").open("wb")
        self.process = subprocess.Popen(argv, pass_fds=(guest.fileno(),), stderr=self._log)
        guest.close()
        self.host.settimeout(WAIT_S)

    def welcome(self) -> None:
        """Answer the agent's hello."""
        sys.path.insert(0, str(FILES))
        from isolift_agent.wire import Hello, Welcome, decode_frame, encode_frame

        with self.host.makefile("rb") as lines:
            hello = next(frame for line in lines if line.strip() for frame in [decode_frame(line.strip())])
        assert isinstance(hello, Hello)
        self.host.sendall(encode_frame(Welcome(hello.nonce, "s1", "vm", time.time())))

    def leave(self) -> None:
        """Let the host's end go."""
        self.host.close()

    def end(self) -> None:
        """End the agent."""
        self.process.kill()
        self.process.wait(WAIT_S)
        self.host.close()
        self._log.close()


def zipapp(directory: Path) -> Path:
    """The agent as it is shipped."""
    target = directory / "isolift-agent.pyz"
    builder = FILES / "build_zipapp.py"
    subprocess.run([sys.executable, builder, FILES / "isolift_agent", target], check=True, timeout=WAIT_S)
    return target


def present(root: Path) -> Situation:
    """The relay welcomed the agent and has nothing to say."""
    made = Situation("host present", root, has_port=True)
    made.welcome()
    return made


def gone(root: Path) -> Situation:
    """The relay welcomed the agent, and then the host's end of the port was closed."""
    made = Situation("host gone", root, has_port=True)
    made.welcome()
    made.leave()
    return made


def never_there(root: Path) -> Situation:
    """The host's end of the port was never opened."""
    made = Situation("host never there", root, has_port=True)
    made.leave()
    return made


def no_port(root: Path) -> Situation:
    """There is no port; the agent looks for one from time to time."""
    return Situation("no port", root, has_port=False)


SITUATIONS: tuple[Callable[[Path], Situation], ...] = (present, gone, never_there, no_port)


def run(seconds: int) -> None:
    """Watch the agent in all situations and print a table."""
    with tempfile.TemporaryDirectory() as directory:
        made = [build(Path(directory) / build.__name__) for build in SITUATIONS]
        try:
            pids = {situation.name: situation.process.pid for situation in made}
            settle(_snapshot, pids)
            watch = Watch(_snapshot, pids)
            time.sleep(seconds)
            found = watch.end()
        finally:
            for situation in made:
                situation.end()
    rows = [
        [name, f"{1000 * usage.cpu_s:.2f}", f"{usage.wakeups}", f"{usage.resident_mib:.1f}"]
        for name, usage in found.items()
    ]
    print(report.table([f"in {seconds} s", "CPU ms", "wake-ups", "resident MiB"], rows))


def _snapshot(pids: list[int]) -> str:
    return json.dumps(snapshot.take(pids))
