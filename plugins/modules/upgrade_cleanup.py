# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_cleanup
short_description: Delete the journals of old campaigns
version_added: 0.1.0
description:
  - Deletes the journals of campaigns whose deadline passed more than O(older_than_days) days ago. One that nobody closed, because no run
    was there to do it, is kept for a day longer; with its journal the outcomes that agents reported are gone.
  - A deleted campaign cannot be shown or traced any more, and what an agent still reports of it is refused.
author:
  - The isolift.vm authors (@isolift)
extends_documentation_fragment:
  - isolift.vm.broker
attributes:
  check_mode:
    description: Can run in check mode and returns what it would delete.
    support: full
  diff_mode:
    description: Has nothing to show as a difference.
    support: none
options:
  older_than_days:
    description: Days since a campaign's deadline.
    type: float
    required: true
seealso:
  - module: isolift.vm.upgrade_info
"""

EXAMPLES = r"""
- name: Forget campaigns that ended more than 90 days ago
  isolift.vm.upgrade_cleanup:
    broker_host: broker.example.com
    broker_password: "{{ broker_controller_password }}"
    older_than_days: 90
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
removed:
  description: The IDs of the campaigns whose journals were deleted.
  returned: success
  type: list
  elements: str
kept:
  description: How many campaigns were kept.
  returned: success
  type: int
"""

import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.isolift.vm.plugins.module_utils.broker import (
    ARGUMENT_SPEC,
    PIKA_ERROR,
    Broker,
    BrokerError,
    BrokerOptions,
    append,
)
from ansible_collections.isolift.vm.plugins.module_utils.campaign import Campaign
from ansible_collections.isolift.vm.plugins.module_utils.history import campaigns_of
from ansible_collections.isolift.vm.plugins.module_utils.records import Removed
from ansible_collections.isolift.vm.plugins.module_utils.topology import CAMPAIGNS, journal
from ansible_collections.isolift.vm.plugins.module_utils.wire import encode

SPEC: dict[str, dict[str, Any]] = {**ARGUMENT_SPEC, "older_than_days": {"type": "float", "required": True}}

DAY_S = 86400


def cleanup(arguments: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Delete the old journals; the module's return values.

    :raises BrokerError: the broker fails; what was deleted is listed as such.
    """
    if not arguments["older_than_days"] >= 0:
        raise BrokerError(f"older_than_days must not be below 0, but is {arguments['older_than_days']:g}")
    before = time.time() - arguments["older_than_days"] * DAY_S
    with Broker(BrokerOptions.from_arguments(arguments)) as broker:
        known = campaigns_of(broker.campaigns())
        old = [
            campaign["campaign_id"]
            for campaign in known
            if campaign["deadline"] + (0 if campaign["closed"] else DAY_S) < before
        ]
        for campaign_id in [] if check_mode else old:
            broker.delete_journal(journal(campaign_id))
            record = Campaign(campaign_id, os.urandom(8).hex()).record(Removed(), time.time())
            append(broker, CAMPAIGNS, [encode(record)])
    return {"changed": bool(old), "removed": old, "kept": len(known) - len(old)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(SPEC, supports_check_mode=True)
    if PIKA_ERROR is not None:
        module.fail_json(msg=missing_required_lib("pika"), exception=PIKA_ERROR)
    try:
        result = cleanup(module.params, module.check_mode)
    except BrokerError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
