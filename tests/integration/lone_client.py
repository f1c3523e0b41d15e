# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client beside the broker, for a host that nobody reaches: ``lone_client.py write|read STREAM FILE PASSWORD``.

It appends to STREAM, or reads it from its first record on, and writes to FILE a line for each record that was confirmed or
read. It ends when its connection does.
"""

from __future__ import annotations

import itertools
import sys
from typing import IO

import pika
from pika.adapters.blocking_connection import BlockingChannel

EXCHANGE = "isolift.journal"


def write(channel: BlockingChannel, stream: str, file: IO[str]) -> None:
    """Append numbered records, each when the one before is confirmed."""
    channel.confirm_delivery()
    for number in itertools.count():
        body = f"lone {number}"
        channel.basic_publish(EXCHANGE, stream, body.encode(), mandatory=True)
        print(body, file=file, flush=True)


def read(channel: BlockingChannel, stream: str, file: IO[str]) -> None:
    """Read record after record."""
    channel.basic_qos(prefetch_count=100)
    for method, _properties, body in channel.consume(stream, arguments={"x-stream-offset": "first"}):
        channel.basic_ack(method.delivery_tag or 0)
        print(body.decode(), file=file, flush=True)


def main(deed: str, stream: str, path: str, password: str) -> None:
    """Connect to the broker of this host and do the deed."""
    credentials = pika.PlainCredentials("isolift_controller", password)
    parameters = pika.ConnectionParameters("127.0.0.1", 5672, "isolift", credentials, heartbeat=20)
    with open(path, "w", encoding="utf-8") as file, pika.BlockingConnection(parameters) as connection:
        {"write": write, "read": read}[deed](connection.channel(), stream, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
