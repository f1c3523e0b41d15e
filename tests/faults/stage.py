# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage on which the faults happen: ten guests that are alike, the killable parts, and runs of the playbook."""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import shlex
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab import commands, console, inside, network, plays, runs, settings, ssh
from lab.cast import CELLS, NODES, Guest, Node, node_of
from lab.errors import LabError
from lab.progress import Progress
from lab.runs import Run

from .cells import Cell
from .intercept import Hit, Interceptor

TARGET = "2.0.0"
DEADLINE_S = 400

BROKER = (settings.BROKER_HOST, 5672)

_RELAY_CONFIG = "/etc/isolift/relay.json"
_GUEST_PROGRAM = Path(__file__).with_name("guest_fault.py")


def begin(guests: Iterable[Guest], name: str, **variables: Any) -> Run:
    """Begin a campaign for ``guests``, whatever campaigns an earlier failure has left open."""
    names = [guest.name for guest in guests]
    policy: dict[str, Any] = {"upgrade_deadline_s": DEADLINE_S, "upgrade_overlap": "queue"}
    return Run(name, target_version=TARGET, upgrade_vms=names, **policy, **variables)


def through(interceptor: Interceptor) -> dict[str, Any]:
    """The variables that lead a run's controller to the broker by way of ``interceptor``."""
    return {"isolift_broker_host": interceptor.address, "isolift_broker_port": interceptor.port}


@contextlib.contextmanager
def stage(progress: Progress) -> Iterator[None]:
    """The lab with the guests of the matrix in place of its own."""
    plays.build_iso(TARGET)
    begin_afresh(progress)
    try:
        yield
    finally:
        runs.end_all()
        commands.guests_stop(progress)


def begin_afresh(progress: Progress) -> None:
    """Give the matrix guests that know nothing of what was before."""
    commands.guests_stop(progress)
    commands.guests_start(progress, CELLS)
    commands.guests_wait(progress, CELLS)


def set_back() -> None:
    """Make all guests of the matrix look as before any upgrade."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda guest: inside.set_back(guest.node, guest.name), CELLS))


def interceptor(hits: queue.Queue[Hit]) -> Interceptor:
    """A proxy to the broker that nodes and this machine reach."""
    return Interceptor(str(network.GATEWAY), BROKER, hits)


@contextlib.contextmanager
def relays_through(hits: queue.Queue[Hit]) -> Iterator[dict[str, Interceptor]]:
    """The relays, each led to the broker by way of a proxy of its own: the proxies by the node's name."""
    with contextlib.ExitStack() as stack:
        found = {node.name: stack.enter_context(interceptor(hits)) for node in NODES}
        for node in NODES:
            _lead_relay(node, found[node.name].address, found[node.name].port)
            stack.callback(_lead_relay, node, *BROKER)
        yield found


def _lead_relay(node: Node, host: str, port: int) -> None:
    """Change the relay's configuration and restart it."""
    config = json.loads(ssh.run_on(node, f"cat {_RELAY_CONFIG}"))
    config["broker"].update(host=host, port=port)
    write = f"cat > {_RELAY_CONFIG} && systemctl restart isolift-relay"
    ssh.run_on(node, write, stdin=json.dumps(config))


def kill_relay(node: str) -> None:
    """Kill the main process of the relay; systemd starts it again."""
    _kill_unit(node_of(node), "isolift-relay.service")


def kill_broker() -> None:
    """Kill RabbitMQ's Erlang machine; systemd starts it again."""
    _kill_unit(NODES[0], "rabbitmq-server.service")


def _kill_unit(node: Node, unit: str) -> None:
    pid = int(ssh.run_on(node, f"systemctl show --property MainPID --value {unit}"))
    if pid == 0:
        raise LabError(f"{unit} does not run on {node.name}, so it cannot be killed")
    ssh.run_on(node, f"kill -KILL {pid}")


def order_agent(guest: Guest, cell: Cell) -> None:
    """Put the guest's agent under an order to kill itself, and begin it anew."""
    program = base64.b64encode(_GUEST_PROGRAM.read_bytes()).decode()
    order = shlex.quote(json.dumps({"moment": cell.moment.value, "side": cell.side.value}))
    console.run(
        guest.node,
        guest.name,
        f"""set -eu
mkdir -p /run/fault; cd /run/fault; rm -f done
echo {program} | base64 -d > agent.py
echo {order} > order.json
printf '#!/bin/sh\\nexec python3 /run/fault/agent.py "$@"\\n' > /usr/bin/isolift-agent
kill -KILL $(pidof python3)""",
    )


def agent_died(guest: Guest) -> bool:
    """Whether the agent of ``guest`` has carried out its order."""
    return "died" in console.run(guest.node, guest.name, "if [ -e /run/fault/done ]; then echo died; fi")
