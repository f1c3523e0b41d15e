# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cdrom_media
short_description: Insert a component ISO into the CD-ROM drives of many virtual machines
version_added: 0.1.0
author:
  - The isolift.vm authors (@isolift)
description:
  - Inserts a component ISO into the dedicated CD-ROM drive of many libvirt domains in one call, or ejects it.
  - The dedicated drive is the one with the alias C(ua-isolift-cdrom). In a domain without such a drive it is the only
    CD-ROM drive.
  - An ISO of this collection is ejected from whichever CD-ROM drive it is in.
  - The disc is changed where it counts. In a running persistent domain that is both the running machine and its definition.
    In a running transient domain it is the running machine, in one that is shut off the definition.
  - Only discs of this collection are replaced or ejected, that is, those with a path
    C(<media_dir>/<campaign_id>/<sha256>.iso). A disc of anybody else is left alone.
  - Trouble with one domain never stops the others, and does not fail the module. See RV(results) and RV(failed_count).
  - The module fails if libvirt cannot be reached, or if the ISO is missing, empty or not in its place.
options:
  state:
    description:
      - V(inserted) puts the ISO O(path) into the drives. It takes the place of another ISO of this collection, see O(replace).
      - V(ejected) takes ISOs of this collection out of the drives.
    type: str
    choices: [inserted, ejected]
    default: inserted
  vms:
    description:
      - UUIDs or names of the domains.
      - Without it, if O(state=ejected), the ISO is taken out of the drives of every domain of the host that holds it, and only those
        domains are in RV(results).
      - Required if O(state=inserted).
    type: list
    elements: str
  exclude:
    description:
      - UUIDs or names of domains whose drives are left alone.
    type: list
    elements: str
    default: []
  path:
    description:
      - The ISO on the compute node, C(<media_dir>/<campaign_id>/<sha256>.iso).
      - Required if O(state=inserted), and of no use otherwise.
    type: path
  campaign_id:
    description:
      - Eject only the ISO of this campaign. Without it, an ISO of any campaign is ejected.
      - Of no use if O(state=inserted).
    type: str
  replace:
    description:
      - IDs of the campaigns whose ISO may be replaced. A drive with the ISO of another one is skipped.
      - Without it, an ISO of any campaign is replaced.
      - Of no use if O(state=ejected).
    type: list
    elements: str
  media_dir:
    description:
      - The directory of component ISOs on the compute node.
    type: path
    default: /var/lib/isolift/media
  uri:
    description:
      - The libvirt connection.
    type: str
    default: qemu:///system
attributes:
  check_mode:
    description: Says what it would change, without changing anything. The ISO need not be there yet.
    support: full
  diff_mode:
    description: Shows the disc of every changed domain before and after.
    support: full
requirements:
  - libvirt (Python module) on the compute node
seealso:
  - module: isolift.vm.vm_info
"""

EXAMPLES = r"""
- name: Insert a component ISO
  isolift.vm.cdrom_media:
    path: "/var/lib/isolift/media/{{ campaign_id }}/{{ iso_sha256 }}.iso"
    vms:
      - desk-17
      - 2a8f1b9e-6f0d-4d5c-8c8a-7a2f3f0e9a11
  register: media

- name: Show who did not get it
  ansible.builtin.debug:
    msg: "{{ media.results | selectattr('status', 'eq', 'skipped') }}"

- name: Eject what a campaign left behind
  isolift.vm.cdrom_media:
    state: ejected
    campaign_id: "{{ campaign_id }}"

- name: Eject what a campaign left behind, except from a machine that still uses it
  isolift.vm.cdrom_media:
    state: ejected
    campaign_id: "{{ campaign_id }}"
    exclude: [desk-17]
"""

RETURN = r"""
results:
  description: One entry for each of O(vms), in the same order, or for each domain that held the ISO or could not be looked at.
  returned: success
  type: list
  elements: dict
  contains:
    vm:
      description: The domain's UUID. If there is no such domain, what was given in O(vms).
      type: str
    name:
      description: The domain's name. Empty if there is no such domain.
      type: str
    changed:
      description: Whether its drive was changed, or would be in check mode.
      type: bool
    status:
      description:
        - V(inserted) and V(already_inserted) - the ISO is in the drive.
        - V(ejected) and V(already_empty) - no ISO of this collection is in the drive, or none of O(campaign_id).
        - V(skipped) - it could not be done, RV(results[].reason) says why.
      type: str
      choices: [inserted, already_inserted, ejected, already_empty, skipped]
    reason:
      description:
        - Why it was skipped, in one word. Otherwise empty.
        - V(no_domain) - this host has no such domain.
        - V(no_drive) - the domain has no CD-ROM drive.
        - V(drive_ambiguous) - it has several, and none bears the alias C(ua-isolift-cdrom).
        - V(drive_in_use) - the drive holds a disc of somebody else.
        - V(drive_taken) - it holds the ISO of a campaign that is not in O(replace).
        - V(no_media) - the ISO vanished.
        - V(tray_locked) - the guest has the disc mounted and locked.
        - V(shut_off) - the domain stopped in the middle of the change.
        - V(media_error) - libvirt reports something else, see RV(results[].detail).
      type: str
    detail:
      description: The same in a sentence. Otherwise empty.
      type: str
domains:
  description: UUIDs of the domains that were found, also of those in O(exclude). Without O(vms) these are all of the host.
  returned: success
  type: list
  elements: str
changed_count:
  description: How many domains were changed.
  returned: success
  type: int
failed_count:
  description: How many domains were skipped.
  returned: success
  type: int
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Tuple

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.isolift.vm.plugins.module_utils.hypervisor import (
    LIBVIRT_IMPORT_ERROR,
    Change,
    Hypervisor,
    HypervisorError,
    MediaError,
    check_iso,
)
from ansible_collections.isolift.vm.plugins.module_utils.media import (
    DEFAULT_MEDIA_DIR,
    DEFAULT_URI,
    Reason,
    parse_path,
)

ARGUMENTS = {
    "state": {"type": "str", "choices": ["inserted", "ejected"], "default": "inserted"},
    "vms": {"type": "list", "elements": "str"},
    "exclude": {"type": "list", "elements": "str", "default": []},
    "path": {"type": "path"},
    "campaign_id": {"type": "str"},
    "replace": {"type": "list", "elements": "str"},
    "media_dir": {"type": "path", "default": DEFAULT_MEDIA_DIR},
    "uri": {"type": "str", "default": DEFAULT_URI},
}

THREADS = 8
"""Domains that are changed at once. A locked tray costs 5 seconds, and must not hold up everybody else."""


@dataclass(frozen=True)
class Result:
    """What came of one domain."""

    vm: str
    name: str
    changed: bool
    status: str
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Difference:
    """The disc of one changed domain before and after, as text for a person."""

    before: str
    after: str


Outcome = Tuple[Result, Difference]


class Task:
    """What to do to every domain.

    :ivar domains: UUIDs of the domains that were found.
    """

    def __init__(self, hypervisor: Hypervisor, params: dict[str, Any], dry_run: bool) -> None:
        self.hypervisor = hypervisor
        self.insert = params["state"] == "inserted"
        self.path: str = params["path"] or ""
        self.campaign_id: str = params["campaign_id"] or ""
        self.replace: list[str] | None = params["replace"]
        self.exclude = {vm.lower() for vm in params["exclude"]} | set(params["exclude"])
        self.dry_run = dry_run
        self.domains: list[str] = []

    def run(self, vms: list[str] | None) -> list[Outcome]:
        """The outcomes in the order of ``vms``; without these, of every domain that holds the disc. A domain that is named twice is changed
        once.

        :raises HypervisorError: libvirt cannot be reached any more.
        """
        if vms is None:
            outcomes = self._outcomes(self.hypervisor.every())
            return [one for one in outcomes.values() if _held(one[0])]
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(self._find, vms))
        outcomes = self._outcomes([domain for domain in found if not isinstance(domain, MediaError)])
        return [
            _skipped(vm, "", domain) if isinstance(domain, MediaError) else outcomes[domain.UUIDString()]
            for vm, domain in zip(vms, found)
            if isinstance(domain, MediaError) or domain.UUIDString() in outcomes
        ]

    def _outcomes(self, found: list[Any]) -> dict[str, Outcome]:
        """By UUID."""
        domains = {domain.UUIDString(): domain for domain in found}
        self.domains = list(domains)
        for uuid, domain in list(domains.items()):
            if self.exclude & {uuid, domain.name()}:
                del domains[uuid]
        with ThreadPoolExecutor(THREADS) as pool:
            return dict(zip(domains, pool.map(self._change, domains.values())))

    def _find(self, vm: str) -> Any:
        try:
            return self.hypervisor.find(vm)
        except MediaError as error:
            return error

    def _change(self, domain: Any) -> Outcome:
        try:
            if self.insert:
                change = self.hypervisor.insert(domain, self.path, self.dry_run, self.replace)
            else:
                change = self.hypervisor.eject(domain, self.campaign_id, self.dry_run)
        except MediaError as error:
            return _skipped(domain.UUIDString(), domain.name(), error)
        except ValueError as error:  # its XML cannot be read
            return _skipped(domain.UUIDString(), domain.name(), MediaError(Reason.MEDIA_ERROR, str(error)))
        name = domain.name()
        result = Result(domain.UUIDString(), name, change.changed, self._status(change))
        return result, Difference(
            f"{name}: {change.before.path or 'empty'}\n", f"{name}: {change.after or 'empty'}\n"
        )

    def _status(self, change: Change) -> str:
        if self.insert:
            return "inserted" if change.changed else "already_inserted"
        return "ejected" if change.changed else "already_empty"


def _held(result: Result) -> bool:
    """Whether the domain had the disc, as far as is known; one that vanished meanwhile has none any more."""
    return result.status != "already_empty" and result.reason != Reason.NO_DOMAIN.value


def _skipped(vm: str, name: str, error: MediaError) -> Outcome:
    return Result(vm, name, False, "skipped", error.reason.value, error.detail), Difference("", "")


def check_params(params: dict[str, Any], dry_run: bool) -> None:
    """Refuses what would fail for every domain.

    :raises HypervisorError: the ISO is missing, empty or not where it belongs.
    """
    if params["state"] == "inserted":
        if parse_path(params["path"], params["media_dir"]) is None:
            raise HypervisorError(
                f"{params['path']} is not in its place: put the ISO at {params['media_dir']}/<campaign_id>/<sha256>.iso"
            )
        if not dry_run:
            check_iso(params["path"])


def main() -> None:
    required_if = [("state", "inserted", ["path", "vms"])]
    module = AnsibleModule(argument_spec=ARGUMENTS, required_if=required_if, supports_check_mode=True)
    if LIBVIRT_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("libvirt"), exception=LIBVIRT_IMPORT_ERROR)
    try:
        check_params(module.params, module.check_mode)
        hypervisor = Hypervisor.open(module.params["uri"], module.params["media_dir"])
        task = Task(hypervisor, module.params, module.check_mode)
        outcomes = task.run(module.params["vms"])
        hypervisor.close()
    except HypervisorError as error:
        module.fail_json(msg=str(error))
    results = [result for result, _difference in outcomes]
    differences = [difference for result, difference in outcomes if result.changed]
    module.exit_json(
        changed=any(result.changed for result in results),
        results=[asdict(result) for result in results],
        domains=task.domains,
        changed_count=len({result.vm for result in results if result.changed}),
        failed_count=len({result.vm for result in results if result.status == "skipped"}),
        diff={
            "before": "".join(difference.before for difference in differences),
            "after": "".join(difference.after for difference in differences),
        },
    )


if __name__ == "__main__":
    main()
