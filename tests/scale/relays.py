# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process with the real relays of several nodes: ``python3 -m scale.relays CONFIG…``, one file of the relay's configuration for each.

Each has its own shell, core, sockets and connection to the broker; they share an event loop. It ends with SIGTERM. SIGUSR1 tells it
that all sessions are open.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import sys

from scale import domains

sys.modules["isolift_relay.domains"] = domains  # before the shell imports its own, which needs libvirt

from isolift_relay.config import load
from isolift_relay.shell import Shell
from scale import settling


async def relay(configs: list[str]) -> None:
    """Relays for all nodes until SIGTERM."""
    loop = asyncio.get_running_loop()
    relays = [loop.create_task(Shell(load(config), secrets.token_hex(8)).run()) for config in configs]
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    loop.add_signal_handler(signal.SIGUSR1, settling.settle)
    await asyncio.wait([*relays, loop.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
    for task in relays:
        task.cancel()
    outcomes = await asyncio.gather(*relays, return_exceptions=True)
    for error in outcomes:
        if isinstance(error, Exception):  # a cancellation is none
            raise error


def main() -> None:
    """The command line."""
    # Errors only: while hundreds of relays log in at once, RabbitMQ turns some away, and they try again.
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    asyncio.run(relay(sys.argv[1:]))


if __name__ == "__main__":
    main()
