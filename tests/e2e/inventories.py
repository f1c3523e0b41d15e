# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's inventory with something changed, as a file in a directory of the test's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import paths


def without(group: str, directory: Path) -> Path:
    """Without one of its groups."""
    inventory = _read()
    del inventory[group]
    return _write(inventory, directory)


def with_variables(directory: Path, **hosts: Mapping[str, Any]) -> Path:
    """With further variables of its compute nodes, by their names."""
    inventory = _read()
    for name, variables in hosts.items():
        inventory["compute_nodes"]["hosts"][name].update(variables)
    return _write(inventory, directory)


def _read() -> dict[str, Any]:
    inventory: dict[str, Any] = json.loads(paths.INVENTORY.read_text())
    return inventory


def _write(inventory: Mapping[str, Any], directory: Path) -> Path:
    changed = directory / "inventory.json"
    changed.write_text(json.dumps(inventory))
    return changed
