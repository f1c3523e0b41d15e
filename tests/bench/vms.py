# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many VMs on the benchmark's host: real QEMU processes without an operating system, and stand-ins for their agents."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from integration.cheap_domain import CheapDomain
from integration.compute_host import ComputeHost

RELAY = "/usr/lib/isolift/isolift-relay.pyz"
_DIRECTORY = "/run/isolift-bench"
_COUNT = f"{_DIRECTORY}/open"
_SSH_SESSIONS = 4
_SESSIONS_SECONDS = 50.0


def start(host: ComputeHost, count: int) -> list[CheapDomain]:
    """Start domains, and stand-ins that listen on their channels. A relay that runs already would find QEMU there."""
    host.run(f"mkdir -p {_DIRECTORY}")
    domains = [
        CheapDomain(host, f"bench-{number:03d}", channel_path=f"{_DIRECTORY}/{number:03d}.sock")
        for number in range(count)
    ]
    with ThreadPoolExecutor(_SSH_SESSIONS) as pool:
        list(pool.map(lambda domain: domain.define().start(), domains))
    program = f"{_DIRECTORY}/standin_agents.py"
    host.run(f"cat > {program}", stdin=Path(__file__).with_name("standin_agents.py").read_text())
    sockets = " ".join(domain.channel_path for domain in domains)
    unit = f"systemd-run --quiet --unit=bench-agents --setenv=PYTHONPATH={RELAY} --property=LimitNOFILE=65536"
    host.run(f"{unit} python3 {program} {_COUNT} {sockets}")
    host.wait_for(f"test -e {_COUNT}", what="the agents to listen")
    return domains


def wait_for_sessions(host: ComputeHost, count: int) -> None:
    """Return when all agents have a session with the relay.

    :raise LabError: they do not get one.
    """
    host.wait_for(f"grep -qx {count} {_COUNT}", what=f"{count} sessions", timeout=_SESSIONS_SECONDS)
