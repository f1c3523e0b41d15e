# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_info
short_description: Show campaigns, and the whole course of an upgrade
version_added: 0.1.0
description:
  - Without an ID it lists the campaigns that the broker keeps, the newest first.
  - With O(campaign_id) it returns that campaign with the state of each upgrade.
  - With O(upgrade_id) alone it returns that upgrade and every record of it, in order.
  - It reads the journal and changes nothing.
author:
  - The isolift.vm authors (@isolift)
extends_documentation_fragment:
  - isolift.vm.broker
attributes:
  check_mode:
    description: Can run in check mode; it never changes anything.
    support: full
  diff_mode:
    description: Has nothing to show as a difference.
    support: none
options:
  campaign_id:
    description: The campaign to show.
    type: str
  upgrade_id:
    description: The upgrade to trace. It names its campaign.
    type: str
seealso:
  - module: isolift.vm.upgrade_coordinate
"""

EXAMPLES = r"""
- name: List the campaigns
  isolift.vm.upgrade_info:
    broker_host: broker.example.com
    broker_password: "{{ broker_controller_password }}"
  register: campaigns

- name: Trace one upgrade
  isolift.vm.upgrade_info:
    broker_host: broker.example.com
    broker_password: "{{ broker_controller_password }}"
    upgrade_id: 0192f0e0-1111-8abc-ae88-a2d2d2a20ff4
  register: trace
"""

RETURN = r"""
campaigns:
  description: The campaigns, the newest first.
  returned: when no ID was given
  type: list
  elements: dict
  sample:
    - campaign_id: 0192f0e0-1111-7abc-8def-0123456789ab
      component: guest-tools
      target_version: 2.0.0
      opened_at: 1795460000.0
      deadline: 1795463600.0
      closed: true
      counts: {succeeded: 4, declined: 1}
campaign:
  description: The campaign with its counts and the result of each upgrade.
  returned: when O(campaign_id) was given
  type: dict
upgrade:
  description: The upgrade, as one of the results of its campaign.
  returned: when O(upgrade_id) was given
  type: dict
history:
  description: Every record of the upgrade, in the order of the journal. Guest text is made safe to show.
  returned: when O(upgrade_id) was given
  type: list
  elements: dict
  sample:
    - type: request
      created_at: 1795460001.5
      epoch: 2
      message_id: 5f0c.3
      payload: {installed_version: 1.0.0}
table:
  description: The campaign's results, or the upgrade's course, as lines of plain text.
  returned: when an ID was given
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.isolift.vm.plugins.module_utils.broker import (
    ARGUMENT_SPEC,
    PIKA_ERROR,
    Broker,
    BrokerError,
    BrokerOptions,
    NoSuchStream,
)
from ansible_collections.isolift.vm.plugins.module_utils.history import campaigns_of, course, fold, history_of
from ansible_collections.isolift.vm.plugins.module_utils.report import lines_of, result_of, summary_of
from ansible_collections.isolift.vm.plugins.module_utils.topology import journal

SPEC: dict[str, dict[str, Any]] = {
    **ARGUMENT_SPEC,
    "campaign_id": {"type": "str"},
    "upgrade_id": {"type": "str"},
}


def info(arguments: dict[str, Any]) -> dict[str, Any]:
    """What was asked for; the module's return values.

    :raises BrokerError: the broker fails, or it has no such campaign.
    :raises ValueError: not an ID, or no such upgrade in its campaign.
    """
    wanted = arguments["upgrade_id"] or arguments["campaign_id"]
    with Broker(BrokerOptions.from_arguments(arguments)) as broker:
        if not wanted:
            return {"campaigns": campaigns_of(broker.campaigns())}
        try:
            records = broker.read_all(journal(wanted))
        except NoSuchStream as error:
            raise BrokerError(
                f"the broker knows no campaign of the ID {wanted}. If its run was stopped before the start was sent, nothing was "
                "started: run it anew; isolift.vm.cleanup ejects discs that it may have left"
            ) from error
    campaign = fold(records)
    if not arguments["upgrade_id"]:
        summary = summary_of(campaign)
        return {"campaign": summary, "table": lines_of(summary)}
    for upgrade in campaign.upgrades.values():
        if upgrade.upgrade_id == wanted:
            history = history_of(records, wanted)
            return {"upgrade": result_of(upgrade), "history": history, "table": course(history)}
    raise ValueError(f"campaign {campaign.campaign_id} has no upgrade {wanted}")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(SPEC, mutually_exclusive=[("campaign_id", "upgrade_id")], supports_check_mode=True)
    if PIKA_ERROR is not None:
        module.fail_json(msg=missing_required_lib("pika"), exception=PIKA_ERROR)
    try:
        result = info(module.params)
    except (BrokerError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
