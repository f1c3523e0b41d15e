# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: campaign_id
short_description: Make a campaign ID
version_added: 0.1.0
author:
  - The isolift.vm authors (@isolift)
description:
  - Makes a new campaign ID, a UUIDv7, from the clock and the operating system's randomness.
  - Each evaluation makes another one. Keep it with M(ansible.builtin.set_fact).
"""

EXAMPLES = r"""
- name: Name the campaign
  ansible.builtin.set_fact:
    campaign_id: "{{ lookup('isolift.vm.campaign_id') }}"
"""

RETURN = r"""
_raw:
  description: A list with the new ID.
  type: list
  elements: str
"""

import os
import time
from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_id


class LookupModule(LookupBase):  # type: ignore[misc]
    """The lookup ``isolift.vm.campaign_id``."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """One new campaign ID."""
        return [campaign_id(time.time_ns() // 1_000_000, os.urandom(10))]
