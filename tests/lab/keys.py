# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's key pairs, made once and kept in the cache: for ssh and for signing manifests."""

from __future__ import annotations

from pathlib import Path

from . import paths
from .shell import run

SSH_KEY = paths.KEYS / "id_ed25519"
SIGNING_PRIVATE = paths.KEYS / "signing.key"
SIGNING_PUBLIC = paths.KEYS / "signing.pem"
_HOST_KEYS = paths.KEYS / "hosts"


def ensure_keys() -> None:
    """Make the key for ssh and the RSA-3072 pair that signs component ISOs, where they are missing.

    :raise LabError: a key cannot be made.
    """
    paths.KEYS.mkdir(parents=True, exist_ok=True)
    paths.KEYS.chmod(0o700)
    _ssh_key(SSH_KEY, "isolift-lab")
    if not SIGNING_PUBLIC.exists():
        run(["openssl", "genrsa", "-out", SIGNING_PRIVATE, "3072"])
        SIGNING_PRIVATE.chmod(0o600)
        run(["openssl", "rsa", "-in", SIGNING_PRIVATE, "-pubout", "-out", SIGNING_PUBLIC])


def host_key(machine: str) -> Path:
    """The ssh host key of ``machine``, made if it is missing; the public half is beside it (``.pub``)."""
    _HOST_KEYS.mkdir(parents=True, exist_ok=True)
    key = _HOST_KEYS / machine
    _ssh_key(key, machine)
    return key


def _ssh_key(path: Path, comment: str) -> None:
    if not path.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path])
