# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_info
short_description: List the virtual machines of a compute node
version_added: 0.1.0
author:
  - The isolift.vm authors (@isolift)
description:
  - Lists all libvirt domains of a compute node with what matters for an upgrade.
  - Says whether a domain has the guest agent's port, which CD-ROM drive is dedicated to upgrades, and whose disc is in it.
  - A domain that libvirt cannot describe does not fail the module, see RV(unreadable).
  - Changes nothing.
options:
  uri:
    description:
      - The libvirt connection.
    type: str
    default: qemu:///system
  media_dir:
    description:
      - The directory of component ISOs on the compute node.
      - A disc belongs to this collection if its path is C(<media_dir>/<campaign_id>/<sha256>.iso).
    type: path
    default: /var/lib/isolift/media
attributes:
  check_mode:
    description: Can run in check mode, because it never changes anything.
    support: full
  diff_mode:
    description: Has no differences to show.
    support: none
requirements:
  - libvirt (Python module) on the compute node
seealso:
  - module: isolift.vm.cdrom_media
"""

EXAMPLES = r"""
- name: List the virtual machines
  isolift.vm.vm_info:
  register: found

- name: Show those that can be upgraded
  ansible.builtin.debug:
    msg: "{{ found.vms | selectattr('has_channel') | map(attribute='name') }}"
"""

RETURN = r"""
vms:
  description: The domains, sorted by name.
  returned: success
  type: list
  elements: dict
  contains:
    uuid:
      description: The domain's UUID.
      type: str
      sample: 2a8f1b9e-6f0d-4d5c-8c8a-7a2f3f0e9a11
    name:
      description: The domain's name.
      type: str
      sample: desk-17
    state:
      description: Its state. A crashed or suspended domain still has its drive.
      type: str
      sample: running
      choices: [running, paused, shut_off, crashed, suspended, unknown]
    persistent:
      description: Whether the domain is defined persistently, so that it is still known when it stops.
      type: bool
    has_channel:
      description: Whether it has the guest agent's port, the virtio-serial channel V(org.isolift.agent.0).
      type: bool
    drive:
      description: The target of the dedicated CD-ROM drive. Empty if there is none that can be told apart.
      type: str
      sample: sda
    drive_reason:
      description: Why there is no dedicated drive. Empty if there is one.
      type: str
      sample: no_drive
      choices: ['', no_drive, drive_ambiguous]
    disc:
      description:
        - What is in the dedicated drive, now or at the domain's next start.
        - If these differ, a foreign disc goes before one of ours, and one of ours before none.
      type: dict
      contains:
        kind:
          description: Whose disc it is.
          type: str
          choices: [empty, ours, foreign]
        campaign_id:
          description: The campaign whose disc it is. Empty if it is not one of ours.
          type: str
          sample: 0198c5a2-7d4e-7b1a-9c3f-2f6e8d0a1b2c
        path:
          description: The disc's path on the compute node.
          type: str
          sample: /var/lib/isolift/media/0198c5a2-7d4e-7b1a-9c3f-2f6e8d0a1b2c/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08.iso
unreadable:
  description: The domains that libvirt lists but cannot describe. They are not among RV(vms), and each is warned of.
  returned: success
  type: list
  elements: dict
  contains:
    uuid:
      description: The domain's UUID.
      type: str
      sample: 2a8f1b9e-6f0d-4d5c-8c8a-7a2f3f0e9a11
    name:
      description: The domain's name.
      type: str
      sample: desk-17
    detail:
      description: What libvirt says.
      type: str
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.isolift.vm.plugins.module_utils.hypervisor import (
    LIBVIRT_IMPORT_ERROR,
    DomainInfo,
    Hypervisor,
    HypervisorError,
)
from ansible_collections.isolift.vm.plugins.module_utils.media import DEFAULT_MEDIA_DIR, DEFAULT_URI, Refusal

ARGUMENTS = {
    "uri": {"type": "str", "default": DEFAULT_URI},
    "media_dir": {"type": "path", "default": DEFAULT_MEDIA_DIR},
}


def as_result(info: DomainInfo) -> dict[str, Any]:
    """One row of the module's return value."""
    return {
        "uuid": info.uuid,
        "name": info.name,
        "state": info.state,
        "persistent": info.persistent,
        "has_channel": info.has_channel,
        "drive": "" if isinstance(info.drive, Refusal) else info.drive,
        "drive_reason": info.drive.reason.value if isinstance(info.drive, Refusal) else "",
        "disc": {"kind": info.disc.kind.value, "campaign_id": info.disc.campaign_id, "path": info.disc.path},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if LIBVIRT_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("libvirt"), exception=LIBVIRT_IMPORT_ERROR)
    try:
        hypervisor = Hypervisor.open(module.params["uri"], module.params["media_dir"], read_only=True)
        found, unreadable = hypervisor.domains()
        hypervisor.close()
    except HypervisorError as error:
        module.fail_json(msg=str(error))
    for domain in unreadable:
        module.warn(f"The domain {domain.name} ({domain.uuid}) is left out: {domain.detail}")
    vms = [as_result(info) for info in sorted(found, key=lambda info: info.name)]
    module.exit_json(changed=False, vms=vms, unreadable=[asdict(domain) for domain in unreadable])


if __name__ == "__main__":
    main()
