# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a guest something over a path that none of our messages take: a root shell on its second serial port."""

from __future__ import annotations

import base64
import shlex
import uuid
from functools import partial
from typing import Protocol

from . import domains, ssh
from .cast import node_of
from .errors import LabError

# Runs on the node: hands one line to the guest's shell and prints what comes back before the closing mark.
_CLIENT = """\
import socket, sys, time
path, mark, seconds, line = sys.argv[1], sys.argv[2].encode(), float(sys.argv[3]), sys.argv[4].encode()
deadline = time.monotonic() + seconds
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
# The first newline ends whatever an abandoned command left half-sent.
connection.sendall(b"\\n" + line + b"\\n")
received = b""
while received.count(mark) < 2 or not received.endswith(b"\\n"):
    connection.settimeout(max(0.01, deadline - time.monotonic()))
    try:
        chunk = connection.recv(65536)
    except TimeoutError:
        sys.exit(f"no answer within {seconds:.0f} s; received: {received[-500:]!r}")
    if not chunk:
        sys.exit("the console was closed")
    received += chunk
sys.stdout.buffer.write(received)
"""


class OnNode(Protocol):
    """Runs a shell command on a node and returns its output."""

    def __call__(self, command: str, *, timeout: float, stdin: str) -> str: ...


class CommandFailed(LabError):
    """A command in a guest ended with another exit status than 0."""

    def __init__(self, domain: str, command: str, status: int, output: str) -> None:
        super().__init__(f"`{command}` in {domain} ended with status {status}: {output.strip()}")
        self.status = status
        self.output = output


def run(node: str, domain: str, command: str, timeout: float = 20.0) -> str:
    """Run the shell ``command`` as root in the guest of ``domain`` on ``node`` and return what it printed.

    :raise CommandFailed: its exit status is not 0.
    :raise LabError: the guest did not answer within ``timeout`` seconds, or the node cannot be reached.
    """
    return run_by(partial(ssh.run_on, node_of(node)), domain, command, timeout)


def run_by(on_node: OnNode, domain: str, command: str, timeout: float = 20.0) -> str:
    """Like :func:`run`, on a node that is reached by calling ``on_node``."""
    mark = f"mark-{uuid.uuid4().hex}"
    words = ["python3", "-", domains.console_socket(domain), mark, str(timeout), _shell_line(command, mark)]
    answer = on_node(shlex.join(words), timeout=timeout + 15, stdin=_CLIENT)
    output, status = parse_answer(answer, mark)
    if status != 0:
        raise CommandFailed(domain, command, status, output)
    return output


def parse_answer(answer: str, mark: str) -> tuple[str, int]:
    """Output and exit status in ``answer``: what is between two marks, and the number behind the second.

    Whatever an earlier, abandoned command left before the first mark is dropped.
    """
    _unused, output, status = answer.split(mark, 2)
    return output.removeprefix("\n"), int(status)


def _shell_line(command: str, mark: str) -> str:
    """One line that runs ``command`` apart from the shell that reads it, its output between two marks."""
    encoded = base64.b64encode(command.encode()).decode()
    # Quotes split the marks, so that a line which is echoed holds none.
    echo = f"echo {mark[:4]}''{mark[4:]}"
    script = "/run/console-command"
    return f"{echo}; echo {encoded} | base64 -d > {script}; sh {script} < /dev/null 2>&1; {echo} $?"
