# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A component's disc for the tests of the guest agent, and a guest to put it into.

The kernel that runs the tests may not know ISO 9660, so a `mount` of our own stands first in PATH: its "device" is a directory, which
it mounts read-only. The guest agent's code is the same as everywhere; the tests in the lab mount real ISOs.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from unit.agent_support import DEADLINE

from isolift_agent.config import Config, parse
from isolift_agent.manifest import FileEntry, Manifest, Platform, Probe, render
from isolift_agent.mounts import below, mounted
from isolift_agent.wire import Start

MOUNT = """#!/bin/sh
# mount -t iso9660 -o OPTIONS DEVICE DIRECTORY
PATH={path}
device=$5 directory=$6
[ "$1 $2 $3" = "-t iso9660 -o" ] || exit 64
for option in ro nosuid nodev noexec overriderockperm dmode=0500 mode=0400; do
    case ",$4," in *,$option,*) ;; *) exit 64 ;; esac
done
if [ -e "$device/.fails" ]; then
    rm "$device/.fails"
    echo "mount: wrong fs type, bad option, bad superblock on $device" >&2
    exit 32
fi
[ -d "$device" ] || {{ echo "mount: no medium found on $device" >&2; exit 32; }}
mount --bind "$device" "$directory" && mount -o remount,bind,ro,nosuid,nodev,noexec "$directory" || exit
[ ! -e "$device/.late" ] || {{ echo "mount: ended at its time limit" >&2; exit 32; }}
"""

INSTALL = '#!/bin/sh\necho "installing $ISOLIFT_COMPONENT $ISOLIFT_VERSION"\ncp payload/version "$1"\n'


@lru_cache(maxsize=2)
def key(name: str) -> rsa.RSAPrivateKey:
    """A signing key; making one takes a while."""
    assert name
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(name: str) -> bytes:
    """The public half of a key."""
    return (
        key(name)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


@dataclass
class Guest:
    """A guest with a drive, a pinned key and nothing installed."""

    root: Path
    timeout_s: int = 60
    prompt: list[str] | None = None
    port: str = "/dev/null"
    drives: list[str] = field(default_factory=lambda: ["empty", "drive"])

    def __post_init__(self) -> None:
        for name in ("bin", "keys", "drive", "state"):
            (self.root / name).mkdir(parents=True)
        mount = self.root / "bin" / "mount"
        mount.write_text(MOUNT.format(path=os.environ["PATH"]))
        mount.chmod(0o755)
        (self.root / "keys" / "release.pem").write_bytes(public_pem("release"))

    @property
    def path(self) -> str:
        """PATH with our mount first."""
        return f"{self.root / 'bin'}:{os.environ['PATH']}"

    @property
    def drive(self) -> Path:
        """What is in the drive."""
        return self.root / "drive"

    @property
    def version_file(self) -> Path:
        """The file that says which version is installed."""
        return self.root / "version"

    @property
    def body(self) -> dict[str, object]:
        """The agent's configuration."""
        return {
            "port": self.port,
            "state_dir": str(self.root / "state"),
            "keys_dir": str(self.root / "keys"),
            "media": [str(self.root / name) for name in self.drives],
            "mount_point": str(self.root / "media"),
            "work_dir": str(self.root / "work"),
            "control_socket": str(self.root / "agent.sock"),
            "prompt": self.prompt,
        }

    @property
    def config(self) -> Config:
        """The agent's configuration, parsed."""
        return parse(self.body)

    def write_config(self) -> Path:
        """The configuration in a file."""
        path = self.root / "agent.json"
        path.write_text(json.dumps(self.body))
        return path

    def insert(
        self, version: str = "2.0.0", script: str = INSTALL, signed_by: str = "release", **changed: object
    ) -> Start:
        """Put a disc into the drive; the start that belongs to it."""
        files = {"payload/install.sh": script.encode(), "payload/version": version.encode() + b"\n"}
        for path, data in files.items():
            (self.drive / path).parent.mkdir(exist_ok=True)
            (self.drive / path).write_bytes(data)
        manifest = render(
            Manifest(
                component="guest-tools",
                version=version,
                platforms=(self._platform(),),
                files=tuple(_entry(path, data) for path, data in files.items()),
            )
        )
        return self.label(manifest, version, signed_by, **changed)

    def label(self, manifest: bytes, version: str, signed_by: str = "release", **changed: object) -> Start:
        """Put a manifest, signed, onto the disc in the drive; the start that belongs to it."""
        (self.drive / "isolift").mkdir(exist_ok=True)
        (self.drive / "isolift/manifest.json").write_bytes(manifest)
        signature = key(signed_by).sign(manifest, padding.PKCS1v15(), hashes.SHA256())
        (self.drive / "isolift/manifest.sig").write_bytes(signature)
        values: dict[str, object] = {
            "component": "guest-tools",
            "target_version": version,
            "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
            "media_path": "/media/disc.iso",
            "deadline": DEADLINE,
            "consent": "auto",
            **changed,
        }
        return Start(**values)  # type: ignore[arg-type]

    def _platform(self) -> Platform:
        return Platform(
            os="linux",
            detect=Probe(file=str(self.version_file)),
            install=("/bin/sh", "payload/install.sh", str(self.version_file)),
            match={},
            timeout_s=self.timeout_s,
        )

    def mounted(self) -> bool:
        """Whether a disc is mounted."""
        return mounted(self.root / "media")

    def unmount(self) -> None:
        """Leave nothing mounted behind."""
        for place in below(self.root):
            subprocess.run(["umount", place], check=True, timeout=10)


def _entry(path: str, data: bytes) -> FileEntry:
    return FileEntry(path, len(data), hashlib.sha256(data).hexdigest(), path.endswith(".sh"))


@contextmanager
def guest_in(root: Path) -> Iterator[Guest]:
    """A guest below ``root``, with nothing mounted afterwards."""
    guest = Guest(root / "guest")
    try:
        yield guest
    finally:
        guest.unmount()
