# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: component_iso_info
short_description: Verify the ISO of a component and tell what it carries
version_added: 0.1.0
author:
  - The isolift.vm authors (@isolift)
description:
  - Verifies the signature of a component ISO, its manifest, and the size and SHA-256 of every file.
  - Fails if anything is wrong with the ISO, saying what it is and what to do.
  - Changes nothing.
options:
  path:
    description:
      - The path of the ISO.
    type: path
    required: true
  public_keys:
    description:
      - The PEM files of the trusted public keys. The ISO must be signed with one of them.
      - C(openssl pkey -in signing.key -pubout -out signing.pem) writes the public key of a private one.
    type: list
    elements: path
    required: true
  target_version:
    description:
      - The version that the ISO must carry. Any version if this is not given.
    type: str
attributes:
  check_mode:
    description: Can run in check mode, because it never changes anything.
    support: full
  diff_mode:
    description: Has no differences to show.
    support: none
requirements:
  - pycdlib 1.22 or later
seealso:
  - module: isolift.vm.component_iso
"""

EXAMPLES = r"""
- name: Verify the ISO
  isolift.vm.component_iso_info:
    path: guest-tools-2.0.0.iso
    public_keys: [signing.pem]
    target_version: 2.0.0
  register: iso

- name: Show what it carries
  ansible.builtin.debug:
    msg: "{{ iso.component }} {{ iso.version }}, signed with {{ iso.key_name }}"
"""

RETURN = r"""
path:
  description: The path of the ISO.
  returned: success
  type: str
  sample: /srv/isos/guest-tools-2.0.0.iso
component:
  description: The component that it carries.
  returned: success
  type: str
  sample: guest-tools
version:
  description: The version that it carries.
  returned: success
  type: str
  sample: 2.0.0
sha256:
  description: SHA-256 of the ISO.
  returned: success
  type: str
  sample: 5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9
manifest_sha256:
  description: SHA-256 of its manifest.
  returned: success
  type: str
  sample: 6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b
size:
  description: Size of the ISO in bytes.
  returned: success
  type: int
  sample: 432128
files:
  description: How many files the component has.
  returned: success
  type: int
  sample: 12
key_name:
  description: The name of the public key's file that the signature was verified with.
  returned: success
  type: str
  sample: signing.pem
signature_valid:
  description: Always true, because the module fails otherwise.
  returned: success
  type: bool
  sample: true
platforms:
  description: The kinds of guest that the component can be installed on, in the order in which they are tried.
  returned: success
  type: list
  elements: dict
  contains:
    os:
      description: The operating system, V(linux) or V(windows).
      type: str
      sample: linux
    match:
      description: Accepted values by fact. A fact that is not named may have any value.
      type: dict
      sample: {id: [debian, ubuntu]}
    install:
      description: The installer and its arguments.
      type: list
      elements: str
      sample: [/bin/sh, payload/install.sh]
    timeout_s:
      description: Seconds that the installer may take.
      type: int
      sample: 600
code:
  description:
    - A short word for what is wrong with the ISO.
  returned: failure
  type: str
  choices:
    - missing
    - unreadable
    - empty
    - not_iso
    - truncated
    - damaged
    - no_manifest
    - bad_manifest
    - unsigned
    - wrong_key
    - file_absent
    - file_differs
    - bad_key
    - wrong_version
  sample: unsigned
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.isolift.vm.plugins.module_utils.disc import PYCDLIB_IMPORT_ERROR, IsoError
from ansible_collections.isolift.vm.plugins.module_utils.iso import ComponentDisc, load_public_keys, read

ARGUMENTS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "public_keys": {"type": "list", "elements": "path", "required": True, "no_log": False},
    "target_version": {"type": "str"},
}


def check_version(path: str, disc: ComponentDisc, target_version: str | None) -> None:
    """Refuse a disc of another version than the wanted one.

    :raises IsoError: ``wrong_version``.
    """
    version = disc.manifest.version
    if target_version is not None and version != target_version:
        raise IsoError(
            "wrong_version",
            f"{path} carries {disc.manifest.component} {version}, but target_version is {target_version}: "
            f"set target_version to {version}, or give the ISO of {target_version}",
        )


def as_result(path: str, disc: ComponentDisc) -> dict[str, Any]:
    """The module's return values."""
    return {
        "path": path,
        "component": disc.manifest.component,
        "version": disc.manifest.version,
        "sha256": disc.iso_sha256,
        "manifest_sha256": disc.manifest_sha256,
        "size": disc.size,
        "files": len(disc.manifest.files),
        "key_name": disc.key_name,
        "signature_valid": True,
        "platforms": [
            {
                "os": platform.os,
                "match": {fact: list(values) for fact, values in platform.match.items()},
                "install": list(platform.install),
                "timeout_s": platform.timeout_s,
            }
            for platform in disc.manifest.platforms
        ],
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    if PYCDLIB_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("pycdlib"), exception=PYCDLIB_IMPORT_ERROR)
    path = module.params["path"]
    try:
        disc = read(path, load_public_keys(module.params["public_keys"]))
        check_version(path, disc, module.params["target_version"])
    except IsoError as error:
        module.fail_json(msg=f"The ISO cannot be used: {error}", code=error.code)
    module.exit_json(changed=False, **as_result(path, disc))


if __name__ == "__main__":
    main()
