# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root file system that all nodes share: Debian 12 with the packages of a compute node and a broker.

It is built once, kept by the digest of its recipe, and never written to: a node's root is an overlay on it.
"""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

from . import debs, mounts, paths
from .progress import Progress
from .shell import run

_CUSTOMIZE = paths.SOURCES / "rootfs_customize.sh"

PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "kmod",
    "libpam-systemd",
    "libvirt-clients",
    "libvirt-daemon-system",
    "openssh-server",
    "openssl",
    "procps",
    "python3",
    "python3-apt",
    "python3-libvirt",
    "python3-pika",
    "qemu-system-x86",
    "qemu-utils",
    "rabbitmq-server",
    "systemd",
    "systemd-sysv",
)
_DPKG_OPTIONS = (
    "force-unsafe-io",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
)
# A process namespace of its own, killed as a whole when the lab's command ends: no apt or dpkg lives on and writes
# into a directory that the next command has begun to delete.
_UNSHARE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
_DYING_WITH_US = ("setpriv", "--pdeathsig", "KILL", *_UNSHARE, "--")
_BUILD_SECONDS = 900
_BUILD_MIB = 1500


def recipe_digest() -> str:
    """Changes whenever the built file system would."""
    recipe = "\n".join((debs.CODENAME, *PACKAGES, *_DPKG_OPTIONS, _CUSTOMIZE.read_text()))
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def ensure_rootfs(progress: Progress) -> Path:
    """Return the directory of the root file system, built first if the cache has none.

    :raise LabError: it cannot be built.
    """
    directory = _directory()
    if directory.is_dir():
        return directory
    progress.say("root file system of the nodes: building (once; about a minute)")
    debs.update_lists()
    partial = directory.with_name("rootfs.partial")
    mounts.remove_tree(partial)
    paths.CACHE.mkdir(parents=True, exist_ok=True)
    run(_mmdebstrap(partial), timeout=_BUILD_SECONDS)
    partial.rename(directory)
    _drop_outdated(directory)
    progress.say("root file system of the nodes: built")
    return directory


def _mmdebstrap(target: Path) -> list[str]:
    command = [*_DYING_WITH_US, "mmdebstrap", "--mode=root", "--variant=apt", "--format=directory", "--quiet"]
    command += [f"--aptopt={option}" for option in debs.transport_options()]
    command += ["--aptopt=APT::Install-Recommends false"]
    command += [f"--dpkgopt={option}" for option in _DPKG_OPTIONS]
    command += [f"--include={','.join(PACKAGES)}", f'--customize-hook=sh {shlex.quote(str(_CUSTOMIZE))} "$1"']
    return [*command, debs.CODENAME, str(target), *debs.debian_sources()]


def _drop_outdated(current: Path) -> None:
    for other in paths.CACHE.glob("rootfs-*"):
        if other != current:
            mounts.remove_tree(other)


def disk_mib_needed() -> int:
    """MiB that building takes; 0 when the cache has it."""
    return 0 if _directory().is_dir() else _BUILD_MIB


def _directory() -> Path:
    return paths.CACHE / f"rootfs-{recipe_digest()}"
