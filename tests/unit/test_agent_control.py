# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent's control socket when a step fails, or a client leaves too early."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isolift_agent.control import ControlServer, Reply

WAIT_S = 5.0


@contextmanager
def served(path: Path, answer: Callable[[str], Reply]) -> Iterator[tuple[ControlServer, socket.socket]]:
    """A server whose client has sent a request."""
    with select.epoll() as epoll, socket.socket(socket.AF_UNIX) as client:
        server = ControlServer(path, epoll, answer)
        client.settimeout(WAIT_S)
        client.connect(str(path))
        client.sendall(b"status\n")
        accept(server, epoll)
        try:
            yield server, client
        finally:
            server.close()


def accept(server: ControlServer, epoll: select.epoll) -> None:
    """Let the server take the client; its request waits."""
    ((file, _mask),) = epoll.poll(WAIT_S)
    server.ready(file)


def request(server: ControlServer) -> None:
    """Let the server read the request."""
    (file,) = server._clients
    server.ready(file)


def test_step_that_fails_is_not_mistaken_for_a_client_that_left(tmp_path: Path) -> None:
    def fails(_request: str) -> Reply:
        raise PermissionError("an effect failed in the middle of a step")

    with served(tmp_path / "socket", fails) as (server, _client), pytest.raises(PermissionError):
        request(server)


def test_client_that_leaves_before_its_answer_harms_nobody(tmp_path: Path) -> None:
    def leaves(_request: str) -> Reply:
        client.close()
        return {"ok": True}

    with served(tmp_path / "socket", leaves) as (server, client):
        request(server)
        assert not server._clients


def test_request_is_answered(tmp_path: Path) -> None:
    with served(tmp_path / "socket", lambda request: {"request": request}) as (server, client):
        request(server)
        assert json.loads(client.recv(1000)) == {"request": "status"}
