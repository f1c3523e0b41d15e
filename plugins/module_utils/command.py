# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command lines that the playbooks print for people to copy."""

from __future__ import annotations

import shlex
from typing import Mapping, Sequence


def playbook_command(
    playbook: str, inventories: Sequence[str], usual: Sequence[str], variables: Mapping[str, str]
) -> str:
    """The command that runs the collection's ``playbook`` on the same inventory, for a shell.

    :param inventories: the inventory sources of this run; named only where they differ from ``usual``, the configured ones.
    """
    words = ["ansible-playbook", f"isolift.vm.{playbook}"]
    if list(inventories) != list(usual):
        for source in inventories:
            words += ["-i", source]
    for name, value in variables.items():
        words += ["-e", f"{name}={value}"]
    return shlex.join(words)
