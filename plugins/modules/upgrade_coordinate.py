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
  - Runs on the control node, whatever host the task names.
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
  - An outcome other than success is a result, not an error of the task. Test RV(counts) to decide what the play makes of it.
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
    that: campaign.counts.failed | default(0) == 0
  run_once: true
"""

RETURN = r"""
campaign_id:
  description: The campaign's ID.
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
counts:
  description: How many upgrades have each outcome; they add up to RV(selected).
  returned: success
  type: dict
  sample: {succeeded: 4, declined: 1}
results:
  description: Every upgrade with its outcome and the reason for it. Guest text is made safe to show.
  returned: success
  type: list
  elements: dict
  sample:
    - upgrade_id: 0192f0e0-1111-8abc-ae88-a2d2d2a20ff4
      name: desk-01
      node: node1
      state: succeeded
      version_before: 1.0.0
      version_after: 2.0.0
table:
  description: The results as lines of a plain text table, the sum as the last line.
  returned: success
  type: list
  elements: str
"""
