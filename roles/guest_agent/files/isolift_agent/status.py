# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent is doing, for whoever asks on the control socket."""

from __future__ import annotations

from . import __version__
from .control import Reply
from .link import Link
from .memory import Upgrade
from .store import Store


def status(store: Store, link: Link) -> Reply:
    """The reply to the request ``status``."""
    memory = store.memory
    return {
        "ok": True,
        "agent_version": __version__,
        "vm": memory.vm,
        "port": "absent" if link.port is None else "open",
        "session": "open" if link.open else "closed",
        "journal": f"{memory.generation}.{store.count}" + (", cannot be written" if store.behind else ""),
        "unacknowledged": len(memory.outbox),
        "upgrade": _describe(memory.current),
        "next": _describe(memory.waiting),
    }


def _describe(upgrade: Upgrade | None) -> dict[str, str] | None:
    if upgrade is None:
        return None
    return {
        "upgrade_id": upgrade.upgrade_id,
        "state": upgrade.state.value,
        "component": upgrade.start.component,
        "target_version": upgrade.start.target_version,
    }
