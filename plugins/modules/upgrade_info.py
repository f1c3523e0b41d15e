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
  contains:
    campaign_id:
      description: The campaign's ID.
      type: str
      sample: 0192f0e0-1111-7abc-8def-0123456789ab
    component:
      description: The component that is upgraded.
      type: str
      sample: guest-tools
    target_version:
      description: The version to reach.
      type: str
      sample: 2.0.0
    opened_at:
      description: When it was begun, in Unix seconds.
      type: float
      sample: 1795460000.0
    opened_by:
      description: The control node that began it.
      type: str
      sample: control.example.com
    deadline:
      description: Its deadline in Unix seconds.
      type: float
      sample: 1795463600.0
    closed:
      description: Whether the journal has the record that closes the campaign. No outcome changes from then on.
      type: bool
    counts:
      description: How many upgrades have each outcome. Empty until the campaign is closed.
      type: dict
      sample: {succeeded: 4, declined: 1}
campaign:
  description: The campaign with its counts and the result of each upgrade.
  returned: when O(campaign_id) was given
  type: dict
  contains:
    campaign_id:
      description: The campaign's ID.
      type: str
    component:
      description: The component that is upgraded.
      type: str
    target_version:
      description: The version to reach.
      type: str
    deadline:
      description: The campaign's deadline in Unix seconds.
      type: float
    media_dir:
      description: The directory of component ISOs on the compute nodes.
      type: str
    selected:
      description: How many VMs the campaign has.
      type: int
    finished:
      description: Whether every VM has an outcome.
      type: bool
    closed:
      description: Whether the journal has the record that closes the campaign. No outcome changes from then on.
      type: bool
    problem:
      description: What is wrong with the campaign's journal. Empty if nothing is.
      type: str
    counts:
      description: How many upgrades are in each state; they add up to RV(campaign.selected).
      type: dict
      sample: {succeeded: 4, declined: 1}
    failures:
      description: How many of them count as failures, by O(isolift.vm.upgrade_start#module:failures).
      type: int
      sample: 0
    results:
      description: Every upgrade, with the keys of RV(upgrade).
      type: list
      elements: dict
upgrade:
  description: The upgrade. Guest text is made safe to show.
  returned: when O(upgrade_id) was given
  type: dict
  contains:
    upgrade_id:
      description: The upgrade's ID, which is on every message and record of it.
      type: str
    vm:
      description: The domain's UUID.
      type: str
    name:
      description: The domain's name.
      type: str
    node:
      description: The compute node on which it was found when it was selected.
      type: str
    state:
      description: The outcome, for example V(succeeded), or, as long as there is none, where the upgrade is.
      type: str
    final:
      description: Whether RV(upgrade.state) is an outcome.
      type: bool
    stage:
      description: Where it ended, for example V(install) or V(conditions). Empty as long as there is no outcome, and after a success.
      type: str
    reason:
      description:
        - Why it ended so, is held, or was not reached last. Empty if there is nothing to say.
        - Known causes begin with a code such as V(no_drive), which a colon and a detail may follow; the table tells them in a sentence.
      type: str
    permit:
      description: How often it was given leave to install.
      type: int
    version_before:
      description: The component's version before the upgrade. Empty if it is not known or nothing was installed.
      type: str
    version_after:
      description: The version that the agent read at the end. Empty if it has not reported.
      type: str
    exit_code:
      description: The installer's exit code, V(-1) if none ended.
      type: int
    install_s:
      description: Seconds that the installer took.
      type: float
    log_tail:
      description: The last lines that the installer printed, 40 at most.
      type: list
      elements: str
    duration_s:
      description: Seconds from the selection to the outcome, 0 as long as there is none.
      type: float
    late_outcome:
      description: Another outcome that the agent reported after RV(upgrade.state) was final. Empty if it did not.
      type: str
history:
  description: Every record of the upgrade, in the order of the journal. Guest text is made safe to show.
  returned: when O(upgrade_id) was given
  type: list
  elements: dict
  contains:
    type:
      description: What kind of record it is, for example V(request), V(notified) or V(result).
      type: str
      sample: request
    created_at:
      description: When it was made, in Unix seconds.
      type: float
      sample: 1795460001.5
    epoch:
      description: The claim under which it was made; every coordinator that takes the campaign raises it.
      type: int
      sample: 2
    message_id:
      description: The message's ID.
      type: str
      sample: 5f0c.3
    payload:
      description: What the record says; its keys depend on RV(history[].type).
      type: dict
      sample: {installed_version: 1.0.0}
table:
  description: The campaigns, the campaign's results, or the upgrade's course, as lines of plain text.
  returned: success
  type: list
  elements: str
"""

import time
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
from ansible_collections.isolift.vm.plugins.module_utils.broker_errors import no_campaign
from ansible_collections.isolift.vm.plugins.module_utils.history import (
    campaigns_of,
    course,
    fold,
    history_of,
    of_upgrade,
)
from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_time
from ansible_collections.isolift.vm.plugins.module_utils.report import (
    campaign_table,
    lines_of,
    result_of,
    summary_of,
)
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
    if wanted and not arguments["upgrade_id"]:
        campaign_time(wanted)
    with Broker(BrokerOptions.from_arguments(arguments)) as broker:
        if not wanted:
            campaigns = campaigns_of(broker.campaigns())
            return {"campaigns": campaigns, "table": campaign_table(campaigns, time.time())}
        try:
            records = broker.read_all(journal(wanted))
        except NoSuchStream as error:
            raise no_campaign(wanted) from error
    if arguments["upgrade_id"]:
        records = of_upgrade(records, wanted)
    campaign = fold(records)
    if not arguments["upgrade_id"]:
        if campaign.campaign_id != wanted:
            raise no_campaign(wanted)
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
