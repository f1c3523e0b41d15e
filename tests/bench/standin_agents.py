# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents that are none: ``python3 standin_agents.py COUNT_FILE SOCKET...`` listens where QEMU would, and answers.

Each socket is one VM, whose upgrade succeeds at once. The number of open sessions is kept in COUNT_FILE. The relay's own
package must be importable.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
from dataclasses import replace
from pathlib import Path

from isolift_relay import wire

_COMMANDS = wire.registry(*wire.COMMANDS)
_FACTS: wire.Facts = {"free_bytes": 10**12}
_CHUNK = 65536


class Agent:
    """One VM's agent, as far as its messages go."""

    def __init__(self) -> None:
        self.session = ""
        self._rest = b""
        self._target = ""
        self._counter = 0

    def hear(self, data: bytes) -> bytes:
        """The frames that answer what was received.

        :raise wire.WireError: the relay sent something that is no frame.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        answers = [
            answer for line in lines if line for answer in self._answer(wire.decode_frame(line, _COMMANDS))
        ]
        return b"".join(map(wire.encode_frame, answers))

    def _answer(self, frame: wire.Payload) -> list[wire.Payload]:
        if isinstance(frame, wire.Knock):
            return [wire.Hello(nonce="n", agent_version="0.1.0", generation="g", counter=self._counter)]
        if isinstance(frame, wire.Welcome):
            self.session = frame.session
        if isinstance(frame, wire.Carry):
            acknowledged = wire.Ack(self.session, frame.message.message_id)
            return [
                acknowledged,
                *(self._carry(frame.message, report) for report in self._reports(frame.message.payload)),
            ]
        return []

    def _reports(self, command: wire.Payload) -> list[wire.Payload]:
        if isinstance(command, wire.Start):
            self._target = command.target_version
            return [wire.Request("1.0.0", facts=_FACTS)]
        if isinstance(command, wire.Notification):
            return [
                wire.Confirmation(command.permit, "confirm", "policy"),
                wire.Progress("verifying"),
                wire.Progress("installing"),
                wire.Result("succeeded", version_before="1.0.0", version_after=self._target, exit_code=0),
            ]
        return []

    def _carry(self, command: wire.Message, report: wire.Payload) -> wire.Carry:
        self._counter += 1
        return wire.Carry(
            replace(command, payload=report, message_id=f"g.{self._counter}", vm=""), self.session, 0.0
        )


class Agents:
    """All of them, each listening on its socket."""

    def __init__(self, count_file: Path, sockets: list[str]) -> None:
        self._count_file = count_file
        self._selector = selectors.DefaultSelector()
        self._agents: dict[socket.socket, Agent] = {}
        self._open = -1
        for path in sockets:
            Path(path).unlink(missing_ok=True)  # QEMU's
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen()
            self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def run(self) -> None:
        """Answer for ever."""
        while True:
            self._count()
            for key, _events in self._selector.select():
                key.data(key.fileobj)

    def _accept(self, listener: socket.socket) -> None:
        client, _address = listener.accept()
        self._agents[client] = Agent()
        self._selector.register(client, selectors.EVENT_READ, self._hear)

    def _hear(self, client: socket.socket) -> None:
        data = client.recv(_CHUNK)
        if data:
            client.sendall(self._agents[client].hear(data))
        else:
            self._selector.unregister(client)
            client.close()
            del self._agents[client]

    def _count(self) -> None:
        """Write down how many sessions are open, if that changed."""
        count = sum(bool(agent.session) for agent in self._agents.values())
        if count != self._open:
            self._open = count
            new = self._count_file.with_suffix(".new")
            new.write_text(f"{count}\n")
            os.replace(new, self._count_file)


if __name__ == "__main__":
    Agents(Path(sys.argv[1]), sys.argv[2:]).run()
