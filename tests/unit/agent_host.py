# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's side for tests of a running guest agent: a pseudo terminal as its port, and a relay's manners."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from unit.agent_disc import INSTALL, Guest
from unit.agent_support import UPGRADE, VM, command

from isolift_agent.channel import LineBuffer
from isolift_agent.control import ControlError, ask
from isolift_agent.wire import (
    Ack,
    Carry,
    Hello,
    Knock,
    Message,
    Notification,
    Payload,
    Start,
    Welcome,
    decode_frame,
    encode_frame,
)
from lab.waiting import wait_until

WAIT_S = 20.0
DEADLINE_S = 600.0
P = TypeVar("P", bound=Payload)


class Relay:
    """The other end of the agent's port. It acknowledges what comes up unless told otherwise."""

    def __init__(self, vm: str = VM) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self.vm = vm
        self.session = ""
        self.hellos: list[Hello] = []
        self.messages: list[Message] = []
        self.acks: list[Ack] = []
        self.acknowledges = True
        self.clock = time.time
        self._lines = LineBuffer()

    def close(self) -> None:
        self.leave()
        os.close(self._slave)

    def leave(self) -> None:
        """Go away for good: nobody has this end any more."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def send(self, frame: Payload) -> None:
        """Send one frame."""
        self.send_raw(encode_frame(frame))

    def send_raw(self, data: bytes) -> None:
        """Send bytes, whatever they are."""
        while data:
            data = data[os.write(self._master, data) :]

    def knock(self) -> None:
        """Say that somebody listens, as a relay does when it connects."""
        self.session = ""
        self.send_raw(b"\n")
        self.send(Knock())

    def command(self, payload: Payload, upgrade_id: str = UPGRADE) -> Message:
        """Send a command and wait until it is acknowledged."""
        frame = self.carry(payload, upgrade_id)
        self.send(frame)
        name = frame.message.message_id
        self.until(lambda: any(ack.message_id == name for ack in self.acks), f"the ack of {payload.TYPE}")
        return frame.message

    def carry(self, payload: Payload, upgrade_id: str = UPGRADE) -> Carry:
        """A message for the agent, ready to be sent."""
        message = command(payload, upgrade_id, vm=self.vm, message_id=f"c.{len(self.acks)}.{payload.TYPE}")
        return Carry(message=message, session=self.session, now=self.clock())

    def refusal(self) -> str:
        """Why the last command was refused; empty if it was taken."""
        return self.acks[-1].refused

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Serve the agent until the condition holds."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come; there were {self.words()}"
            self._serve(0.05)

    def silence(self, seconds: float) -> None:
        """Serve the agent for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._serve(0.05)

    def welcomed(self) -> None:
        """Wait for a session."""
        self.until(lambda: self.session, "a hello")

    def message(self, kind: type[P]) -> P:
        """Wait for a message of one kind; the last one."""
        self.until(lambda: self.payloads(kind), kind.__name__)
        return self.payloads(kind)[-1]

    def payloads(self, kind: type[P]) -> list[P]:
        """What came of one kind."""
        return [item.payload for item in self.messages if isinstance(item.payload, kind)]

    def words(self) -> list[str]:
        """What came, in words."""
        return [item.payload.TYPE + getattr(item.payload, "stage", "") for item in self.messages]

    def _serve(self, timeout_s: float) -> None:
        ready, _unused, _unused = select.select([self._master], [], [], timeout_s)
        if not ready:
            return
        for line in self._lines.feed(os.read(self._master, 65536)):
            self._hear(decode_frame(line))

    def _hear(self, frame: Payload) -> None:
        if isinstance(frame, Hello):
            self.hellos.append(frame)
            self.session = f"s{len(self.hellos)}"
            self.send(Welcome(frame.nonce, self.session, self.vm, self.clock()))
        elif isinstance(frame, Carry) and frame.session == self.session:
            self.messages.append(frame.message)
            if self.acknowledges:
                self.send(Ack(session=self.session, message_id=frame.message.message_id))
        elif isinstance(frame, Ack) and frame.session == self.session:
            self.acks.append(frame)


def start_of(
    guest: Guest, script: str = INSTALL, consent: str = "auto", seconds: float = DEADLINE_S
) -> Start:
    """A disc in the drive and the start that belongs to it; its deadline is some seconds from now."""
    return guest.insert(script=script, consent=consent, deadline=time.time() + seconds, prompt="Upgrade now?")


def permit(number: int = 1, seconds: float = 60.0) -> Notification:
    """A permit for some seconds from now."""
    return Notification(number, time.time() + seconds)


def waiting_script(guest: Guest) -> str:
    """An installer that waits for a file before it installs, and counts how often it ran."""
    flag, runs = guest.root / "flag", guest.root / "runs"
    return f'echo run >> {runs}; while [ ! -e {flag} ]; do sleep 0.05; done; cp payload/version "$1"'


def let_install(guest: Guest) -> None:
    """End the waiting of the installer."""
    (guest.root / "flag").touch()


def runs(guest: Guest) -> int:
    """How often the waiting installer ran."""
    path = guest.root / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


class RunningAgent:
    """The agent as a process of its own. Unless it ``awaits`` that the agent is up, that may have ended already."""

    def __init__(
        self, guest: Guest, program: list[str] | None = None, awaits: bool = True, **environment: str
    ) -> None:
        source = Path(__file__).resolve().parents[2] / "roles/guest_agent/files"
        self._guest = guest
        self._program = program or [sys.executable, "-m", "isolift_agent"]
        self._environment = {**os.environ, "PATH": guest.path, "PYTHONPATH": str(source), **environment}
        self.log = guest.root / "agent.log"
        self.config = guest.write_config()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._argv("run"), env=self._environment, stderr=log)
        if awaits:
            self._wait_until_up()

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command of the agent."""
        return subprocess.run(
            self._argv(*arguments),
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    def state(self) -> str:
        """The state of the current upgrade, empty if there is none."""
        upgrade = ask(self._guest.config.control_socket, "status")["upgrade"]
        return upgrade["state"] if upgrade else ""

    def kill(self) -> None:
        """End it without any chance to tidy up."""
        self.process.kill()
        self.process.wait(WAIT_S)

    def stop(self) -> int:
        """Ask it to end; its exit status."""
        self.process.terminate()
        return self.process.wait(WAIT_S)

    def __enter__(self) -> RunningAgent:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.kill()

    def _argv(self, *arguments: str) -> list[str]:
        return [*self._program, *arguments, "--config", str(self.config)]

    def _wait_until_up(self) -> None:
        def answers() -> bool:
            try:
                ask(self._guest.config.control_socket, "status")
            except ControlError:
                assert self.process.poll() is None, self.log.read_text()
                return False
            return True

        wait_until(answers, what="the agent to answer", timeout=WAIT_S, every=0.02)
