# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator of the lab would have in the inventory: variables of our roles and playbooks."""

from __future__ import annotations

import json
from typing import Any

from . import keys, paths
from .cast import NODES

BROKER_HOST = NODES[0].address
CONTROLLER_PASSWORD = "lab-controller"
RELAY_PASSWORD = "lab-relay"

FREE_BYTES_NEEDED = 64 * 1024 * 1024


def variables() -> dict[str, Any]:
    """Variables for all hosts of the lab."""
    return {
        "isolift_broker_host": BROKER_HOST,
        "isolift_broker_password": CONTROLLER_PASSWORD,
        "isolift_public_keys": [str(keys.SIGNING_PUBLIC)],
        "broker_controller_password": CONTROLLER_PASSWORD,
        "broker_relay_password": RELAY_PASSWORD,
        "compute_relay_broker_host": BROKER_HOST,
        "compute_relay_broker_password": RELAY_PASSWORD,
        "component": "guest-tools",
        "upgrade_iso": str(paths.CACHE / "iso" / "guest-tools-{{ target_version }}.iso"),
        "upgrade_conditions": [f"free_bytes > {FREE_BYTES_NEEDED}"],
        "signing_private_key": str(keys.SIGNING_PRIVATE),
    }


def extra_variable(name: str, value: Any) -> str:
    """The argument of Ansible's ``-e`` that sets ``name``; text stays text."""
    return json.dumps({name: value})
