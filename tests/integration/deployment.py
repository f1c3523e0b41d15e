# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Broker and relays on the tests' own hosts, deployed by our roles."""

from __future__ import annotations

import json
from pathlib import Path

from lab import paths

from .compute_host import ComputeHost

PASSWORD = "relay-tests"


def deploy(directory: Path, broker: ComputeHost, *relays: ComputeHost) -> None:
    """Have the roles put the broker on one host and the relay on others.

    :raise AssertionError: the play failed.
    """
    groups = directory / "groups.json"
    members = {"broker": [broker], "compute_nodes": relays}
    groups.write_text(
        json.dumps({group: {"hosts": {host.name: {} for host in hosts}} for group, hosts in members.items()})
    )
    variables = {
        "broker_controller_password": PASSWORD,
        "broker_relay_password": PASSWORD,
        "compute_relay_broker_host": broker.address,
        "compute_relay_broker_password": PASSWORD,
    }
    inventories = sorted({host.inventory for host in (broker, *relays)})
    broker.playbook(paths.REPOSITORY / "playbooks/site.yml", [*inventories, groups], variables)
