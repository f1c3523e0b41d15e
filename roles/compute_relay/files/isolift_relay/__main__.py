# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts the relay: ``python3 isolift-relay.pyz --config /etc/isolift/relay.json``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import signal
import socket
import sys

from .config import Config, ConfigError, load
from .domains import start_libvirt_events
from .shell import Shell

_log = logging.getLogger(__package__)


def notify(state: str) -> None:
    """Tells systemd, if it started this process, that the service's state changed."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notification:
            notification.connect("\0" + address[1:] if address.startswith("@") else address)
            notification.sendall(state.encode())


async def relay(config: Config) -> None:
    """Relays until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    start_libvirt_events()
    running = loop.create_task(Shell(config, secrets.token_hex(8)).run())

    def stop() -> None:
        notify("STOPPING=1")
        running.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    notify("READY=1")
    try:
        await running
    except asyncio.CancelledError:
        _log.info("stopped by a signal")


def main() -> int:
    """The command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="isolift_relay", description="Relays between RabbitMQ and guest agents."
    )
    parser.add_argument("--config", required=True, help="the configuration file")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # broker.py reports what matters of it
    try:
        config = load(arguments.config)
    except ConfigError as error:
        _log.error("%s", error)
        return 2
    asyncio.run(relay(config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
