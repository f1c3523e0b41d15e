# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The floor: how long the campaign's messages alone take, on the same broker and machine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab import settings
from lab.progress import Progress
from scale.broker_host import BrokerHost
from scale.emulator import spawn
from scale.meter import Meter

_STOP_S = 30.0


@dataclass(frozen=True)
class Floor:
    """Seconds from the first start to the last result, and the processor time that it took at both ends and in the broker."""

    wall_s: float
    ends_cpu_s: float
    broker_cpu_s: float


def measure(vms: int, broker: BrokerHost) -> Floor:
    """Send and receive the messages of ``vms`` VMs."""
    with (
        _end("nodes", broker, settings.RELAY_PASSWORD, vms) as nodes,
        _end("controller", broker, settings.CONTROLLER_PASSWORD, vms) as controller,
    ):
        ends, of_broker = Meter([nodes.pid, controller.pid]), Meter([broker.pid])
        assert controller.stdin and controller.stdout
        controller.stdin.write(b"go\n")
        controller.stdin.flush()
        floor = Floor(float(controller.stdout.readline()), ends.usage().cpu_s, of_broker.usage().cpu_s)
        assert controller.wait(_STOP_S) == 0, "the floor's controller failed"
    return floor


def tell(progress: Progress, vms: int, broker: BrokerHost) -> Floor:
    """The same, with a line for who waits."""
    found = measure(vms, broker)
    progress.say(f"floor: the messages alone took {found.wall_s:.1f} s")
    return found


@contextmanager
def _end(role: str, broker: BrokerHost, password: str, vms: int) -> Iterator[subprocess.Popen[bytes]]:
    """One end of the floor, ready; it is over afterwards."""
    arguments = (role, broker.address, password, str(vms))
    process = spawn("floor_end", *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout and process.stdout.readline() == b"ready\n", f"the floor's {role} did not start"
        yield process
    finally:
        process.terminate()
        process.wait(_STOP_S)
