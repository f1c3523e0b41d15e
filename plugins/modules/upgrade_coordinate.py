# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_coordinate
short_description: Conduct an upgrade campaign until every VM has an outcome
version_added: 0.1.0
description:
  - Hears the VMs' requests, judges each against the campaign's conditions, gives leave to install, sends again what got lost, and
    collects the results until every upgrade has an outcome, at the latest at the campaign's deadline.
  - Everything it needs is in the campaign's journal in the broker. So it continues any campaign by its ID, on any control node.
  - A campaign is conducted by one run at a time. While another run conducts it, this one follows, and takes over should that end.
  - If the connection to the broker is lost, it is made again and the campaign goes on; for as long as the campaign's deadline is ahead, and at
    least for ten minutes.
  - Runs on the control node, by Ansible's own Python, whatever host the task names. So C(become) and C(environment) mean nothing to it, and it
    takes no C(async).
author:
  - The isolift.vm authors (@isolift)
extends_documentation_fragment:
  - isolift.vm.broker
attributes:
  check_mode:
    description: In check mode it returns the campaign's present state and does not take part.
    support: full
  diff_mode:
    description: Has nothing to show as a difference.
    support: none
options:
  campaign_id:
    description: The campaign, begun by M(isolift.vm.upgrade_start).
    type: str
    required: true
notes:
  - An outcome other than success is a result, not an error of the task. Test RV(failures) or RV(counts) to decide what the play makes of it.
seealso:
  - module: isolift.vm.upgrade_start
  - module: isolift.vm.upgrade_info
"""

EXAMPLES = r"""
- name: Conduct the campaign
  isolift.vm.upgrade_coordinate:
    broker_host: broker.example.com
    broker_password: "{{ broker_controller_password }}"
    campaign_id: "{{ campaign_id }}"
  register: campaign
  delegate_to: localhost
  run_once: true

- name: Stop the play if an upgrade failed
  ansible.builtin.assert:
    that: campaign.failures == 0
  run_once: true
"""

RETURN = r"""
campaign_id:
  description: The campaign's ID.
  returned: success
  type: str
component:
  description: The component that is upgraded.
  returned: success
  type: str
target_version:
  description: The version to reach.
  returned: success
  type: str
deadline:
  description: The campaign's deadline in Unix seconds.
  returned: success
  type: float
media_dir:
  description: The directory of component ISOs on the compute nodes.
  returned: success
  type: str
selected:
  description: How many VMs the campaign has.
  returned: success
  type: int
finished:
  description: Whether every VM has an outcome.
  returned: success
  type: bool
closed:
  description: Whether the journal has the record that closes the campaign. No outcome changes from then on.
  returned: success
  type: bool
problem:
  description: What is wrong with the campaign's journal. Empty if nothing is.
  returned: success
  type: str
counts:
  description: How many upgrades have each outcome; they add up to RV(selected).
  returned: success
  type: dict
  sample: {succeeded: 4, declined: 1}
failures:
  description: How many of them count as failures, by O(isolift.vm.upgrade_start#module:failures).
  returned: success
  type: int
  sample: 0
results:
  description: Every upgrade with its outcome and the reason for it. Guest text is made safe to show.
  returned: success
  type: list
  elements: dict
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
      description: Whether RV(results[].state) is an outcome.
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
      description:
        - The last lines that the installer printed, 40 at most, of an upgrade that went neither V(succeeded) nor V(up_to_date).
        - M(isolift.vm.upgrade_info) returns them of all.
      type: list
      elements: str
    duration_s:
      description: Seconds from the selection to the outcome, 0 as long as there is none.
      type: float
    late_outcome:
      description: Another outcome that the agent reported after RV(results[].state) was final. Empty if it did not.
      type: str
table:
  description: The results as lines of a plain text table, the sum as the last line. Of more than 200 it has those that did not succeed,
    200 at most.
  returned: success
  type: list
  elements: str
"""
