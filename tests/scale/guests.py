# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process full of emulated VMs: ``python3 -m scale.guests FILE``, where the file holds the nodes.

Once all sockets listen it prints a line. Each line on standard input is answered with a line of JSON: how many agents have a session,
how many installations there were and what went over the ports. It ends at the end of standard input. SIGUSR1 tells it that all sessions are open.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from scale import fleet, settling
from scale.guest import Deeds, Guest


class Guests:
    """All VMs of some nodes, on one epoll."""

    def __init__(self, nodes: list[fleet.Node]) -> None:
        self._deeds = Deeds()
        self._epoll = select.epoll()
        self._listeners: dict[int, Guest] = {}
        self._ports: dict[int, Guest] = {}
        for node in nodes:
            for vm in node.vms:
                Path(vm.path).parent.mkdir(parents=True, exist_ok=True)
                guest = Guest(vm, self._epoll, self._deeds)
                self._listeners[guest.listener] = guest

    def run(self, questions: int, answers: int) -> None:
        """Go on until the end of the file ``questions``."""
        self._epoll.register(questions, select.EPOLLIN)
        os.write(answers, b"listening\n")
        while True:
            for file, mask in self._epoll.poll():
                if file == questions:
                    if not os.read(questions, 4096):
                        return
                    os.write(answers, self._answer())
                elif file in self._listeners:
                    self._connect(self._listeners[file])
                else:
                    self._ready(file, mask)

    def _connect(self, guest: Guest) -> None:
        guest.connect()
        if guest.port is not None:
            self._ports[guest.port] = guest

    def _ready(self, file: int, mask: int) -> None:
        guest = self._ports[file]
        guest.ready(mask)
        if guest.port is None:
            del self._ports[file]

    def _answer(self) -> bytes:
        sessions = sum(guest.open for guest in self._listeners.values())
        return json.dumps({"sessions": sessions, **asdict(self._deeds)}).encode() + b"\n"


def main() -> None:
    """The command line."""
    signal.signal(signal.SIGUSR1, lambda _signal, _frame: settling.settle())
    Guests(fleet.load(Path(sys.argv[1]))).run(sys.stdin.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    main()
