# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command isolift-agent: run the agent, or talk to the one that runs."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Sequence

from . import __version__, cli, log
from .config import DEFAULT_PATH, Config, ConfigError, load

_STOPPING = (signal.SIGTERM, signal.SIGINT)

_ASK_AGAIN_S = 1.0
"""Seconds until a second try to ask an agent that does not answer: it may just begin anew."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status is 0, 1 (refused) or 2 (cannot run)."""
    try:
        command = cli.parse(sys.argv[1:] if arguments is None else arguments)
    except cli.UsageError as error:
        print(f"isolift-agent: {error}\n{cli.USAGE}", end="", file=sys.stderr)
        return 2
    if command.name in ("--version", "--help"):
        print(__version__ if command.name == "--version" else cli.USAGE.rstrip())
        return 0
    if command.name == cli.INSTALL:
        from . import runner

        return runner.main(Path(command.word))
    try:
        config = _config(command.config)
    except ConfigError as error:
        print(f"isolift-agent: {error}", file=sys.stderr)
        return 2
    if command.name == "run":
        return _run(config)
    return _ask(config, f"{command.name} {command.word}".strip())


def _config(path: Path | None) -> Config:
    if path is None and not DEFAULT_PATH.exists():
        return Config()
    return load(path or DEFAULT_PATH)


def _run(config: Config) -> int:
    from .agent import Agent
    from .channel import opener
    from .journal import JournalError, JournalInUse
    from .store import Store

    try:
        store = Store(config.state_dir)
        agent = Agent(config, store, opener(str(config.port)))
    except (JournalError, JournalInUse, OSError) as error:
        print(f"isolift-agent: {error}", file=sys.stderr)
        return 2
    signal.set_wakeup_fd(agent.wakeup, warn_on_full_buffer=False)
    for number in _STOPPING:
        signal.signal(number, lambda _number, _frame: agent.stop())
    _notify_ready()
    log.info(f"isolift-agent {__version__}")
    agent.run()
    store.close()
    for number in _STOPPING:
        signal.signal(
            number, signal.SIG_DFL
        )  # from here on they end the process, and not an agent that hears nothing more
    if agent.begins_anew:
        log.info("at rest: begins anew, to give back memory")
        _begin_anew()
    return 0


def _begin_anew() -> None:
    """Run this command anew in this process."""
    words = getattr(sys, "orig_argv", None) or [
        sys.executable,
        *sys.argv,
    ]  # Python 3.10 and later know the interpreter's options
    os.execv(sys.executable, words)


def _notify_ready() -> None:
    """Tell systemd, if it asked to be told, that the agent has started."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", "\0" + path[1:] if path.startswith("@") else path)


def _ask(config: Config, request: str) -> int:
    from .control import ControlError, ask

    try:
        try:
            reply = ask(config.control_socket, request)
        except ControlError:
            time.sleep(_ASK_AGAIN_S)
            reply = ask(config.control_socket, request)
    except ControlError as error:
        print(f"isolift-agent: {error}", file=sys.stderr)
        return 2
    if not reply.get("ok"):
        print(f"isolift-agent: {reply.get('error', 'refused')}", file=sys.stderr)
        return 1
    for name, value in reply.items():
        if name != "ok":
            print(f"{name}: {_shown(value)}")
    return 0


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={item}" for name, item in value.items())
    return "-" if value in (None, "") else str(value)


if __name__ == "__main__":
    sys.exit(main())
