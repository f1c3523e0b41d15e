# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control socket: one line in, one line out. Any user of the VM may look at the status and answer the question.

Requests are ``status``, ``answer confirm`` and ``answer decline``; the reply is one JSON object.
"""

from __future__ import annotations

import json
import os
import select
import socket
from pathlib import Path
from typing import Any, Callable, Mapping

REQUEST_LIMIT = 64
CLIENTS_LIMIT = 8
REPLY_LIMIT = 64 * 1024
TIMEOUT_S = 10.0

Reply = Mapping[str, Any]


class ControlError(Exception):
    """The agent cannot be asked; the detail says why."""


class ControlServer:
    """Listens on a Unix socket. ``answer`` makes the reply to a request."""

    def __init__(self, path: Path, epoll: select.epoll, answer: Callable[[str], Reply]) -> None:
        self._epoll = epoll
        self._answer = answer
        self._clients: dict[int, socket.socket] = {}
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if path.exists():
            path.unlink()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(str(path))
        os.chmod(path, 0o666)
        self._listener.listen(CLIENTS_LIMIT)
        epoll.register(self._listener.fileno(), select.EPOLLIN)

    def owns(self, file: int) -> bool:
        """Whether a descriptor is one of ours."""
        return file == self._listener.fileno() or file in self._clients

    def ready(self, file: int) -> None:
        """Something came on one of our descriptors."""
        if file == self._listener.fileno():
            self._accept()
        else:
            self._serve(self._clients[file])

    def close(self) -> None:
        """Listen no more."""
        for client in (*self._clients.values(), self._listener):
            client.close()

    def _accept(self) -> None:
        try:
            client, _address = self._listener.accept()
        except BlockingIOError:
            return  # the client has left
        client.setblocking(False)
        if len(self._clients) >= CLIENTS_LIMIT:
            self._drop(next(iter(self._clients.values())))  # whoever has kept us waiting longest
        self._clients[client.fileno()] = client
        self._epoll.register(client.fileno(), select.EPOLLIN)

    def _serve(self, client: socket.socket) -> None:
        """A request is one short line, so it comes whole or it is none. A client that left may come again."""
        try:
            data = client.recv(REQUEST_LIMIT)
        except BlockingIOError:
            return  # nothing came yet
        except OSError:
            data = b""
        if data.endswith(b"\n"):
            reply = self._answer(data.decode("utf-8", "replace").strip())
            try:
                client.send(json.dumps(reply).encode("ascii") + b"\n")
            except OSError:
                pass  # it left meanwhile
        self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        del self._clients[client.fileno()]
        client.close()


def ask(path: Path, request: str) -> dict[str, Any]:
    """The running agent's reply to a request.

    :raises ControlError: it does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(TIMEOUT_S)
            client.connect(str(path))
            client.sendall(request.encode("utf-8") + b"\n")
            with client.makefile("rb") as replies:
                line = replies.readline(REPLY_LIMIT)
    except OSError as error:
        raise ControlError(f"cannot reach the agent at {path}: {error}; is it running?") from error
    try:
        reply = json.loads(line)
    except ValueError as error:
        raise ControlError(f"the agent at {path} gave no reply") from error
    if not isinstance(reply, dict):
        raise ControlError(f"the agent at {path} gave an odd reply")
    return reply
