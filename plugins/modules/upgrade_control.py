# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_control
short_description: Cancel a campaign, or some of its upgrades
version_added: 0.1.0
description:
  - Writes the wish into the campaign's journal. The coordinator follows it as soon as it reads it; where none runs, the next one does
    (playbook C(isolift.vm.upgrade) with the campaign's ID).
  - An upgrade that never got leave to install is cancelled at once. One that has leave is cancelled by its agent, if that has not begun;
    until its answer comes it stays as it is. If the agent does not answer until the deadline, the upgrade ends as
    C(timed_out), because it may have been installed.
  - An upgrade whose installer was started, or that is over, cannot be cancelled; RV(results) says so.
  - Runs on the control node.
author:
  - The isolift.vm authors (@isolift)
extends_documentation_fragment:
  - isolift.vm.broker
attributes:
  check_mode:
    description: Can run in check mode, where it says what would be accepted and writes nothing.
    support: full
  diff_mode:
    description: Has nothing to show as a difference.
    support: none
options:
  campaign_id:
    description: The campaign.
    type: str
    required: true
  action:
    description: What to do; V(cancel) is all there is so far.
    type: str
    choices: [cancel]
    required: true
  vms:
    description: Names or patterns of the VMs, or their UUIDs. All VMs of the campaign if it is not given; an empty list is refused.
    type: list
    elements: str
  reason:
    description: Why; it is shown with the outcome. At most 200 characters.
    type: str
    default: ""
seealso:
  - module: isolift.vm.upgrade_coordinate
  - module: isolift.vm.upgrade_info
"""

EXAMPLES = r"""
- name: Cancel a campaign
  isolift.vm.upgrade_control:
    broker_host: broker.example.com
    broker_password: "{{ broker_controller_password }}"
    campaign_id: 0192f0e0-1111-7abc-8def-0123456789ab
    action: cancel
    reason: freeze of changes until Monday
  delegate_to: localhost
  run_once: true

- name: Cancel the upgrades of two groups of desktops
  isolift.vm.upgrade_control:
    broker_host: broker.example.com
    broker_password: "{{ broker_controller_password }}"
    campaign_id: 0192f0e0-1111-7abc-8def-0123456789ab
    action: cancel
    vms: [lab-*, desk-07]
"""

RETURN = r"""
results:
  description: The VMs that were asked for, in the order of the selection.
  returned: success
  type: list
  elements: dict
  contains:
    vm:
      description: The domain's UUID.
      type: str
    name:
      description: The domain's name.
      type: str
    upgrade_id:
      description: The upgrade's ID.
      type: str
    state:
      description: The state of the upgrade when it was asked.
      type: str
    accepted:
      description: Whether the wish was journaled for it.
      type: bool
    reason:
      description: Why not.
      type: str
  sample:
    - vm: 2a8f1b9e-6f0d-4d5c-8c8a-7a2f3f0e9a11
      name: desk-07
      upgrade_id: 0192f0e0-1111-8abc-ae88-a2d2d2a20ff4
      state: installing
      accepted: false
      reason: the installer was started
accepted:
  description: For how many it was journaled.
  returned: success
  type: int
  sample: 12
refused:
  description: For how many it was not.
  returned: success
  type: int
  sample: 1
"""

import os
import socket
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.isolift.vm.plugins.module_utils.broker import (
    ARGUMENT_SPEC,
    PIKA_ERROR,
    Broker,
    BrokerOptions,
    append,
)
from ansible_collections.isolift.vm.plugins.module_utils.broker_errors import (
    BrokerError,
    BrokerLost,
    NoSuchStream,
    no_campaign,
)
from ansible_collections.isolift.vm.plugins.module_utils.campaign import Campaign
from ansible_collections.isolift.vm.plugins.module_utils.control import cancels, chosen
from ansible_collections.isolift.vm.plugins.module_utils.history import fold
from ansible_collections.isolift.vm.plugins.module_utils.ids import campaign_time
from ansible_collections.isolift.vm.plugins.module_utils.text import printable
from ansible_collections.isolift.vm.plugins.module_utils.topology import journal
from ansible_collections.isolift.vm.plugins.module_utils.upgrade import Upgrade
from ansible_collections.isolift.vm.plugins.module_utils.wire import WireError, encode

SPEC: dict[str, dict[str, Any]] = {
    **ARGUMENT_SPEC,
    "campaign_id": {"type": "str", "required": True},
    "action": {"type": "str", "required": True, "choices": ["cancel"]},
    "vms": {"type": "list", "elements": "str"},
    "reason": {"type": "str", "default": ""},
}


class WishUnknown(Exception):
    """The journal knows whether the wish was written, this module does not."""


def control(arguments: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Journal the wish that ``arguments`` describe; the module's return values.

    :raises WishUnknown: the connection was lost meanwhile.
    :raises BrokerError: the broker fails, or has no such campaign; nothing was changed.
    :raises ValueError, WireError: no campaign ID, a VM that the campaign does not have, a campaign that never began, or too long a reason.
    """
    campaign_time(arguments["campaign_id"])
    stream = journal(arguments["campaign_id"])
    with Broker(BrokerOptions.from_arguments(arguments)) as broker:
        campaign = _folded(broker, stream, arguments["campaign_id"])
        upgrades = chosen(campaign, arguments["vms"])
        results = [_result(one) for one in upgrades]
        wishes = cancels(campaign, upgrades, arguments["reason"], socket.gethostname(), time.time())
        records = [encode(wish) for wish in wishes]
        if not check_mode:
            _append(broker, stream, records)
    accepted = sum(result["accepted"] for result in results)
    return {
        "changed": accepted > 0,
        "results": results,
        "accepted": accepted,
        "refused": len(results) - accepted,
    }


def _append(broker: Broker, stream: str, records: list[bytes]) -> None:
    try:
        append(broker, stream, records)
    except BrokerLost as error:
        raise WishUnknown(
            f"It is not known whether the wish was written: {error}. Run it again; twice does no harm"
        ) from error


def _folded(broker: Broker, stream: str, campaign_id: str) -> Campaign:
    try:
        records = broker.read_all(stream)
    except NoSuchStream as error:
        raise no_campaign(campaign_id) from error
    campaign = fold(records, nonce=os.urandom(8).hex())
    if campaign.campaign_id != campaign_id:
        raise no_campaign(campaign_id)
    return campaign


def _result(upgrade: Upgrade) -> dict[str, Any]:
    return {
        "vm": upgrade.vm,
        "name": printable(upgrade.name),
        "upgrade_id": upgrade.upgrade_id,
        "state": upgrade.state.value,
        "accepted": not upgrade.cancel_refusal,
        "reason": upgrade.cancel_refusal,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(SPEC, supports_check_mode=True)
    if PIKA_ERROR is not None:
        module.fail_json(msg=missing_required_lib("pika"), exception=PIKA_ERROR)
    try:
        result = control(module.params, module.check_mode)
    except WishUnknown as error:
        module.fail_json(msg=str(error))
    except (BrokerError, ValueError, WireError) as error:
        module.fail_json(msg=f"Nothing was changed: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
