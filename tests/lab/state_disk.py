# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's small disk: what the guest knows and keeps, made without mounting anything."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from . import keys, paths
from .cast import Guest
from .shell import run

CHANNEL = "org.isolift.agent.0"
_PROMPT = "/etc/isolift/prompt"
# The user of a guest, who answers every question at once.
_ANSWERS = {False: "#!/bin/sh\n# Yes.\nexit 0\n", True: "#!/bin/sh\n# No.\nexit 1\n"}
# Few inodes and a small journal, complete from the start: nothing that the guest would write in the background.
_MKE2FS_OPTIONS = (
    *("-q", "-t", "ext4", "-L", "STATE", "-i", "65536", "-m", "0", "-J", "size=4"),
    *("-E", "lazy_itable_init=0,root_owner=0:0"),
)


def agent_config() -> dict[str, object]:
    """The configuration of the agent in every guest."""
    return {
        "port": f"/dev/virtio-ports/{CHANNEL}",
        "state_dir": "/var/lib/isolift",
        "keys_dir": "/etc/isolift/keys",
        "media": ["/dev/sr0"],
        "mount_point": "/run/isolift/media",
        "work_dir": "/var/lib/isolift/work",
        "control_socket": "/run/isolift/agent.sock",
        "prompt": [_PROMPT],
    }


def disk_path(guest: Guest) -> Path:
    """Where the state disk of ``guest`` is, on this machine."""
    return paths.DISKS / f"{guest.name}.qcow2"


def create(guest: Guest) -> None:
    """Make the state disk of ``guest`` anew, as it is before any upgrade.

    :raise LabError: it cannot be made.
    """
    with tempfile.TemporaryDirectory(dir=paths.RUN) as scratch:
        tree, raw = Path(scratch, "tree"), Path(scratch, "raw")
        _write_tree(guest, tree)
        run(["mke2fs", *_MKE2FS_OPTIONS, "-d", tree, raw, f"{guest.disk_mib}M"])
        run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk_path(guest)])


def _write_tree(guest: Guest, tree: Path) -> None:
    """Lay out the directories that the guest's ``mount-state`` puts into their places."""
    config, state = tree / "agent-config", tree / "guest-tools-state"
    for directory in (tree / "agent", tree / "guest-tools-files", config / "keys", state):
        directory.mkdir(parents=True)
    (config / "agent.json").write_text(json.dumps(agent_config(), indent=2) + "\n")
    (config / "keys" / "lab.pem").write_bytes(keys.SIGNING_PUBLIC.read_bytes())
    (state / "version").write_text(f"{guest.version}\n")
    prompt = config / "prompt"
    prompt.write_text(_ANSWERS[guest.user_declines])
    prompt.chmod(0o755)
    if guest.installer_fails:
        (state / "fail-install").touch()
