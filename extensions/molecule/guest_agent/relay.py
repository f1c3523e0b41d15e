# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Be a relay for one upgrade: ``python3 relay.py AGENT PORT DISC HEARD``.

A terminal appears at PORT. Every hello is answered by a start for the component in the directory DISC, every request by a permit.
What the agent says is written to HEARD, one JSON object a line. AGENT is the agent's file, from which the wire format is taken.
"""

from __future__ import annotations

import hashlib
import json
import os
import pty
import sys
import time
import tty
from pathlib import Path
from typing import Any

VM = "6a7d0b52-5d5c-4f0e-9d0e-8f8d6f6a0001"
CAMPAIGN = "01900000-0000-7000-8000-000000000001"
UPGRADE = "01900000-0000-8000-8000-00000000000a"
DEADLINE_S = 600.0


class Relay:
    """The host's end of the port."""

    def __init__(self, wire: Any, port: Path, disc: Path, heard: Path) -> None:
        self._wire = wire
        self._host, guest = pty.openpty()
        tty.setraw(guest)
        self._guest = guest  # held, so that the terminal outlives the agent
        self._start = self._start_for(disc)
        self._heard = heard.open("a", encoding="utf-8", buffering=1)
        self._session = ""
        self._sent = 0
        port.unlink(missing_ok=True)
        port.symlink_to(os.ttyname(guest))

    def serve(self) -> None:
        """Serve until killed."""
        self._send(self._wire.Knock())
        rest = b""
        while True:
            *lines, rest = (rest + os.read(self._host, 65536)).split(b"\n")
            for line in filter(None, lines):
                self._hear(self._wire.decode_frame(line))

    def _hear(self, frame: Any) -> None:
        wire = self._wire
        if isinstance(frame, wire.Hello):
            self._session = f"session-{frame.nonce}"
            self._write(type="hello", version=frame.agent_version)
            self._send(wire.Welcome(frame.nonce, self._session, VM, time.time()))
            self._command(self._start)
        elif isinstance(frame, wire.Carry) and frame.session == self._session:
            message = frame.message
            self._write(type=message.payload.TYPE, id=message.message_id, **vars(message.payload))
            self._send(wire.Ack(session=self._session, message_id=message.message_id))
            if isinstance(message.payload, wire.Request):
                self._command(wire.Notification(1, time.time() + DEADLINE_S))

    def _write(self, **said: Any) -> None:
        self._heard.write(json.dumps(said) + "\n")

    def _command(self, payload: Any) -> None:
        wire = self._wire
        self._sent += 1
        message = wire.Message(payload, f"relay.{self._sent}", UPGRADE, CAMPAIGN, VM, 1, 1, time.time())
        self._send(wire.Carry(message=message, session=self._session, now=time.time()))

    def _send(self, frame: Any) -> None:
        os.write(self._host, b"\n" + self._wire.encode_frame(frame))

    def _start_for(self, disc: Path) -> Any:
        manifest = (disc / "isolift/manifest.json").read_bytes()
        component = json.loads(manifest)
        return self._wire.Start(
            component=component["component"],
            target_version=component["version"],
            manifest_sha256=hashlib.sha256(manifest).hexdigest(),
            media_path="/disc.iso",
            deadline=time.time() + DEADLINE_S,
            consent="auto",
        )


def main(agent: str, port: str, disc: str, heard: str) -> None:
    """Serve until killed."""
    sys.path.insert(0, agent)
    from isolift_agent import wire

    Relay(wire, Path(port), Path(disc), Path(heard)).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
