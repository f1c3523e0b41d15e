# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: component_iso
short_description: Build the signed ISO of a component
version_added: 0.1.0
author:
  - The isolift.vm authors (@isolift)
description:
  - Builds an ISO from the files of a component and a description of how to install it.
  - The ISO carries a manifest with the size and SHA-256 of every file, signed with RSA and SHA-256. Guest agents install nothing
    that is not signed with a key they trust.
  - The same files, description and key give the same bytes, whenever and wherever they are built with the same pycdlib.
    The ISO is replaced only if its bytes differ, and always as a whole.
  - The ISO is verified after it was written, as M(isolift.vm.component_iso_info) does it.
  - Runs on the control node or on a build host.
options:
  src:
    description:
      - The directory of the component's files. They appear on the ISO, and in the guest, below C(payload/).
      - Which files are executable is kept; other permissions, owners and times are not.
      - Empty directories are left out. Symbolic links and special files are refused.
    type: path
    required: true
  dest:
    description:
      - The path of the ISO. Its directory must exist, and must not lie in O(src).
    type: path
    required: true
  component:
    description:
      - The component's name. At most 64 letters, digits and C(._+-).
    type: str
    required: true
  version:
    description:
      - The version that is installed when the installer has succeeded. At most 64 letters, digits and C(._+~:-).
      - The guest agent compares it, as text, with what O(platforms[].detect) finds.
    type: str
    required: true
  platforms:
    description:
      - How to detect, install and verify the component on each kind of guest. The first entry that fits a guest is used.
    type: list
    elements: dict
    required: true
    suboptions:
      os:
        description:
          - The operating system of the guest.
          - For V(windows), Windows must be able to show every file name of the component, with at most 64 bytes each.
        type: str
        choices: [linux, windows]
        required: true
      match:
        description:
          - Facts that a guest must have. What is not given may have any value.
        type: dict
        suboptions:
          id:
            description: Accepted values of C(ID) in the guest's C(os-release), such as V(debian).
            type: list
            elements: str
          version_id:
            description: Accepted values of C(VERSION_ID) in the guest's C(os-release), such as V(12).
            type: list
            elements: str
          arch:
            description: Accepted machine architectures, such as V(x86_64).
            type: list
            elements: str
      detect:
        description:
          - How to read the installed version. Exactly one of O(platforms[].detect.file), O(platforms[].detect.command) and
            O(platforms[].detect.package).
        type: dict
        required: true
        suboptions:
          file: &file
            description: The absolute path of a text file in the guest.
            type: str
          command: &command
            description: A command and its arguments, run without a shell.
            type: list
            elements: str
          package: &package
            description: The name of a package in the guest's package database, C(dpkg) or C(rpm). Linux only.
            type: str
          regex: &regex
            description:
              - A Python regular expression, searched in what the file holds, the command prints or the package database
                answers. Its first group is the version. C(^) and C($) match at every line.
            type: str
            default: (\S+)
      install:
        description:
          - The installer and its arguments, run without a shell in a directory that holds C(payload/).
          - The environment has C(ISOLIFT_COMPONENT) and C(ISOLIFT_VERSION).
        type: list
        elements: str
        required: true
      timeout_s:
        description: Seconds that the installer may take.
        type: int
        default: 600
      verify:
        description:
          - How to read the version after installing. As O(platforms[].detect) unless given.
        type: dict
        suboptions:
          file: *file
          command: *command
          package: *package
          regex: *regex
  private_key_path:
    description:
      - The PEM file of the RSA private key that signs, of at least 3072 bits. C(openssl genrsa -out signing.key 3072) makes one.
      - Exactly one of O(private_key_path) and O(private_key_content) is required.
    type: path
  private_key_content:
    description:
      - The private key itself.
      - Exactly one of O(private_key_path) and O(private_key_content) is required.
    type: str
  private_key_passphrase:
    description:
      - The passphrase of the private key, if it has one.
    type: str
extends_documentation_fragment:
  - ansible.builtin.files
attributes:
  check_mode:
    description: Builds in a temporary directory, throws the ISO away, and says whether O(dest) would change.
    support: full
  diff_mode:
    description: Shows the component, the version, and the files with their sizes and digests.
    support: full
requirements:
  - pycdlib 1.22 or later
  - cryptography
seealso:
  - module: isolift.vm.component_iso_info
"""

EXAMPLES = r"""
- name: Build the ISO of guest-tools 2.0.0
  isolift.vm.component_iso:
    src: guest-tools/
    dest: guest-tools-2.0.0.iso
    component: guest-tools
    version: 2.0.0
    private_key_path: ~/keys/signing.key
    platforms:
      - os: linux
        match:
          id: [debian, ubuntu]
        detect:
          package: guest-tools
        install: [/usr/bin/dpkg, --install, payload/guest-tools.deb]
      - os: linux
        detect:
          command: [/opt/guest-tools/bin/guest-tools, --version]
          regex: '^guest-tools (\S+)'
        install: [/bin/sh, payload/install.sh]
        timeout_s: 900

- name: Build with a key from a vault
  isolift.vm.component_iso:
    src: guest-tools/
    dest: guest-tools-2.0.0.iso
    component: guest-tools
    version: 2.0.0
    private_key_content: "{{ component_private_key }}"
    private_key_passphrase: "{{ component_private_key_passphrase }}"
    platforms:
      - os: linux
        detect:
          file: /var/lib/guest-tools/version
        install: [/bin/sh, payload/install.sh]
"""

RETURN = r"""
path:
  description: The path of the ISO.
  returned: success
  type: str
  sample: /srv/isos/guest-tools-2.0.0.iso
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
files:
  description: How many files the component has.
  returned: success
  type: int
  sample: 12
code:
  description: A short word for what is wrong, such as V(bad_source), V(bad_description), V(bad_key) or V(bad_dest).
  returned: failure
  type: str
  sample: bad_source
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.isolift.vm.plugins.module_utils.disc import PYCDLIB_IMPORT_ERROR, IsoError
from ansible_collections.isolift.vm.plugins.module_utils.iso import (
    CRYPTOGRAPHY_IMPORT_ERROR,
    ComponentDisc,
    Description,
    Signer,
    build,
    read,
    read_private_key,
)
from ansible_collections.isolift.vm.plugins.module_utils.manifest import (
    FIRST_WORD,
    ManifestError,
    parse_platforms,
)

PROBE: dict[str, Any] = {
    "type": "dict",
    "options": {
        "file": {"type": "str"},
        "command": {"type": "list", "elements": "str"},
        "package": {"type": "str"},
        "regex": {"type": "str", "default": FIRST_WORD},
    },
    "mutually_exclusive": [("file", "command", "package")],
    "required_one_of": [("file", "command", "package")],
}

MATCH: dict[str, Any] = {
    "type": "dict",
    "options": {name: {"type": "list", "elements": "str"} for name in ("id", "version_id", "arch")},
}

PLATFORM: dict[str, Any] = {
    "os": {"type": "str", "choices": ["linux", "windows"], "required": True},
    "match": MATCH,
    "detect": {**PROBE, "required": True},
    "install": {"type": "list", "elements": "str", "required": True},
    "timeout_s": {"type": "int", "default": 600},
    "verify": PROBE,
}

ARGUMENTS: dict[str, Any] = {
    "src": {"type": "path", "required": True},
    "dest": {"type": "path", "required": True},
    "component": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "platforms": {"type": "list", "elements": "dict", "required": True, "options": PLATFORM},
    "private_key_path": {"type": "path"},
    "private_key_content": {"type": "str", "no_log": True},
    "private_key_passphrase": {"type": "str", "no_log": True},
}

KEYS = ("private_key_path", "private_key_content")


def without_none(value: Any) -> Any:
    """``value`` without the options that were not given."""
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value] if isinstance(value, list) else value


def description_from(arguments: dict[str, Any]) -> Description:
    """What the options say about the component.

    :raises IsoError: ``bad_description``.
    """
    try:
        platforms = parse_platforms(without_none(arguments["platforms"]))
    except ManifestError as error:
        raise IsoError("bad_description", error.detail) from error
    return Description(arguments["component"], arguments["version"], platforms)


def signer_from(arguments: dict[str, Any]) -> Signer:
    """The key that the options name.

    :raises IsoError: ``bad_key``.
    """
    content = arguments["private_key_content"]
    passphrase = arguments["private_key_passphrase"]
    pem = read_private_key(arguments["private_key_path"]) if content is None else content.encode("utf-8")
    return Signer(pem, None if passphrase is None else passphrase.encode("utf-8"))


def listing(disc: ComponentDisc) -> str:
    """The disc as lines to compare."""
    lines = [f"component {disc.manifest.component}", f"version {disc.manifest.version}"]
    lines.append(f"manifest {disc.manifest_sha256}")
    for entry in disc.manifest.files:
        lines.append(f"{'x' if entry.executable else '-'} {entry.sha256} {entry.size} {entry.path}")
    return "\n".join(lines) + "\n"


def current(path: str, signer: Signer) -> str:
    """The disc at ``path`` as lines to compare; one word if it is none that ``signer`` signed."""
    try:
        return listing(read(path, [signer.public_key]))
    except IsoError as error:
        return "" if error.code == "missing" else f"({error.code})\n"


def run(module: AnsibleModule) -> dict[str, Any]:
    """Build the ISO that the options describe; the module's return values.

    :raises IsoError: nothing was changed.
    """
    path = module.params["dest"]
    description = description_from(module.params)
    signer = signer_from(module.params)
    before = current(path, signer)
    disc, changed = build(
        module.params["src"], description, signer, path, module.tmpdir if module.check_mode else None
    )
    attributes = module.load_file_common_arguments(module.params, path=path)
    return {
        "changed": module.set_fs_attributes_if_different(attributes, changed),
        "diff": {
            "before_header": path,
            "after_header": path,
            "before": before,
            "after": listing(disc),
        },
        "path": path,
        "sha256": disc.iso_sha256,
        "manifest_sha256": disc.manifest_sha256,
        "size": disc.size,
        "component": disc.manifest.component,
        "version": disc.manifest.version,
        "files": len(disc.manifest.files),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        ARGUMENTS,
        add_file_common_args=True,
        mutually_exclusive=[KEYS],
        required_one_of=[KEYS],
        supports_check_mode=True,
    )
    for library, problem in (("pycdlib", PYCDLIB_IMPORT_ERROR), ("cryptography", CRYPTOGRAPHY_IMPORT_ERROR)):
        if problem:
            module.fail_json(msg=missing_required_lib(library), exception=problem)
    try:
        result = run(module)
    except IsoError as error:
        module.fail_json(msg=f"The ISO was not built: {error}", code=error.code)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
