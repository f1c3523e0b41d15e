# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: playbook_command
short_description: Tell the command that runs another playbook of this collection
version_added: 0.1.0
author:
  - The isolift.vm authors (@isolift)
description:
  - Tells the command line that runs a playbook of this collection on the inventory of the present run, on one line, for a shell.
  - The inventory is named where it is not the one that the configuration names anyway.
options:
  _terms:
    description: Names of playbooks.
    type: list
    elements: str
    required: true
  campaign_id:
    description: The campaign that the playbook is told of.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Say how to go on with a campaign
  ansible.builtin.debug:
    msg: "{{ lookup('isolift.vm.playbook_command', 'upgrade', campaign_id=campaign_id) }}"
"""

RETURN = r"""
_raw:
  description: One command for each playbook.
  type: list
  elements: str
"""

from typing import Any

from ansible import constants as C
from ansible.plugins.lookup import LookupBase

from ansible_collections.isolift.vm.plugins.module_utils.command import playbook_command


class LookupModule(LookupBase):  # type: ignore[misc]
    """The lookup ``isolift.vm.playbook_command``."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """One command line for each of ``terms``."""
        self.set_options(var_options=variables, direct=kwargs)
        sources = (variables or {}).get("ansible_inventory_sources") or []
        told = {"campaign_id": self.get_option("campaign_id")}
        return [playbook_command(term, sources, C.DEFAULT_HOST_LIST, told) for term in terms]
