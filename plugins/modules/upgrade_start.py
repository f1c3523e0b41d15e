# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_start
short_description: Begin an upgrade campaign and send its start to every VM
version_added: 0.1.0
description:
  - Makes the campaign's journal in the broker, writes the policy and the selection into it, claims it, and publishes a start
    message, with the VM's own upgrade ID, to every selected VM.
  - A VM whose O(vms.reason) is V(no_channel), V(duplicate_uuid), V(no_drive), V(drive_ambiguous) or V(drive_in_use) is ineligible at once
    and is sent nothing. With any other reason it is sent its start, because the relay tries again to insert the disc.
  - Follow the campaign with M(isolift.vm.upgrade_coordinate), which also judges requests and gives leave to install.
  - Runs on the control node, by Ansible's own Python, whatever host the task names. So C(become) and C(environment) mean nothing to it, and it
    takes no C(async).
author:
  - The isolift.vm authors (@isolift)
extends_documentation_fragment:
  - isolift.vm.broker
attributes:
  check_mode:
    description: Can run in check mode, where it validates everything and publishes nothing.
    support: full
  diff_mode:
    description: Has nothing to show as a difference.
    support: none
options:
  campaign_id:
    description:
      - The campaign's ID, a UUIDv7; P(isolift.vm.campaign_id#lookup) makes one.
      - It must be new. To go on with a campaign use M(isolift.vm.upgrade_coordinate).
    type: str
    required: true
  component:
    description: The component that is upgraded, as the ISO's manifest names it.
    type: str
    required: true
  target_version:
    description: The version to reach, as the ISO's manifest names it.
    type: str
    required: true
  iso_sha256:
    description: SHA-256 of the ISO.
    type: str
    required: true
  manifest_sha256:
    description: SHA-256 of the ISO's manifest; agents use only the disc whose manifest has it.
    type: str
    required: true
  media_path:
    description: Path of the ISO on every compute node.
    type: str
    required: true
  vms:
    description: The selected VMs.
    type: list
    elements: dict
    required: true
    suboptions:
      vm:
        description: The domain's UUID.
        type: str
        required: true
      name:
        description: The domain's name.
        type: str
        required: true
      node:
        description: The compute node where the domain was found, for the report.
        type: str
        required: true
      reason:
        description: Why the VM cannot be upgraded, for example V(no_drive). Empty if nothing is known against it.
        type: str
        default: ""
  deadline_s:
    description: Seconds from now after which every upgrade without an outcome is given one.
    type: float
    default: 3600
  permit_s:
    description:
      - Seconds for which leave to install is valid once it was given, at least 120.
      - It must last for copying and checking the disc, whose files are verified before the installer is started, and for clocks that differ.
    type: float
    default: 900
  request_s:
    description:
      - Seconds that an agent may take from acknowledging its start to its request.
      - Past this limit, and those of O(verify_s) and O(install_s), the agent is asked. If it answers and does not go on all the same, its
        upgrade ends as C(timed_out). A VM that cannot be asked may be shut off; it has until the campaign's deadline.
    type: float
    default: 900
  verify_s:
    description: Seconds that an agent may take from the user's confirmation to starting the installer.
    type: float
    default: 1800
  install_s:
    description:
      - Seconds that an agent may take from starting the installer to its result. The installer itself is stopped at the limit in the ISO, see
        O(isolift.vm.component_iso#module:platforms[].timeout_s).
    type: float
    default: 7200
  at_once:
    description:
      - How many VMs may have leave to install at one time. V(0) sets no limit.
      - A VM counts from the decision to give it leave until its upgrade is over. One that does not use its leave counts for a minute longer
        than O(permit_s), because clocks may differ.
      - VMs for which there is no place are held, get leave in the order of their requests, and are asked for fresh facts before. Those whose
        turn did not come before the deadline end as C(ineligible).
    type: int
    default: 0
  failures:
    description: Outcomes that count as failures, in RV(isolift.vm.upgrade_coordinate#module:failures) and for the playbook's success.
    type: list
    elements: str
    choices: [failed, declined, expired, ineligible, unreachable, timed_out, cancelled, interrupted]
    default: [failed, timed_out, interrupted]
  overlap:
    description:
      - What to do about a VM that is part of another campaign and has no outcome there yet.
      - V(refuse) begins nothing and names the other campaign, which can be gone on with or cancelled.
      - V(queue) begins all the same; the VM's agent takes one upgrade after the other.
    type: str
    choices: [refuse, queue]
    default: refuse
  consent:
    description:
      - V(auto) installs without asking.
      - V(ask) lets the agent ask the VM's user.
    type: str
    choices: [auto, ask]
    default: ask
  prompt:
    description: Text that the agent's question adds to the component and the version. At most 500 characters.
    type: str
    default: ""
  conditions:
    description:
      - Jinja2 expressions, without braces, over the facts that the agent sends with its request; all must hold.
      - Facts are C(installed_version), C(os_id), C(os_version), C(kernel), C(arch), C(free_bytes), C(sessions), C(uptime_s),
        C(memory_bytes) and C(agent_version). A condition that looks at anything else is refused, even if an agent of a newer
        version would send it.
      - The test C(version) compares versions. It cannot compare the empty C(installed_version) of a guest that does not have the component.
      - A VM that does not meet them is held, and judged again with fresh facts every 20 seconds until the deadline.
    type: list
    elements: str
    default: []
seealso:
  - module: isolift.vm.upgrade_coordinate
  - module: isolift.vm.upgrade_info
"""

EXAMPLES = r"""
- name: Name the campaign
  ansible.builtin.set_fact:
    campaign_id: "{{ lookup('isolift.vm.campaign_id') }}"

- name: Begin the campaign
  isolift.vm.upgrade_start:
    broker_host: broker.example.com
    broker_password: "{{ broker_controller_password }}"
    campaign_id: "{{ campaign_id }}"
    component: guest-tools
    target_version: 2.0.0
    iso_sha256: "{{ iso.sha256 }}"
    manifest_sha256: "{{ iso.manifest_sha256 }}"
    media_path: "/var/lib/isolift/media/{{ campaign_id }}/{{ iso.sha256 }}.iso"
    vms: "{{ chosen | isolift.vm.with_media_results(inserted.results) }}"
    deadline_s: 7200
    consent: ask
    conditions:
      - free_bytes > 500 * 1024 * 1024
      - sessions == 0 or installed_version == '' or installed_version is version('1.5', '<')
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
campaign_id:
  description: The campaign's ID.
  returned: success
  type: str
  sample: 0192f0e0-1111-7abc-8def-0123456789ab
deadline:
  description: The campaign's deadline in Unix seconds.
  returned: success
  type: float
  sample: 1795460000.0
selected:
  description: How many VMs the campaign has.
  returned: success
  type: int
  sample: 120
started:
  description: How many of them were sent a start.
  returned: success
  type: int
  sample: 117
"""
