# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does this machine allow a lab? Every shortcoming is named, with what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from . import cgroups, guest_image, network, paths, rootfs
from .errors import LabError
from .shell import run

PACKAGES_FILE = paths.SOURCES / "packages.txt"
# One command of each package in the file.
_COMMANDS = ("ip", "mke2fs", "mmdebstrap", "openssl", "qemu-img", "ssh", "systemd-nspawn", "unshare")
_RUNNING_DISK_MIB = 500
_MEMORY_MIB = 3500
_MEMINFO = Path("/proc/meminfo")


def check(*, light: bool = False) -> None:
    """Return if the lab can run here; ``light``: only for one more host, or a part of it.

    :raise LabError: it cannot; the text has one line for each reason.
    """
    problems = [*_privilege_problems(), *_command_problems()]
    if not problems:
        problems = [*_kernel_problems(), *_space_problems(), *_address_problems()]
        problems += [] if light else _memory_problems()
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise LabError(f"this machine cannot run the lab:\n{lines}")


def _privilege_problems() -> list[str]:
    problems = []
    if os.geteuid() != 0:
        problems.append("not root: namespaces and mounts need it; run the command as root")
    if platform.machine() != "x86_64":
        problems.append(f"the processor is {platform.machine()}: the guests are x86_64 only")
    return problems


def _command_problems() -> list[str]:
    missing = [command for command in _COMMANDS if shutil.which(command) is None]
    if not missing:
        return []
    packages = " ".join(
        line for line in PACKAGES_FILE.read_text().splitlines() if line and not line.startswith("#")
    )
    return [
        f"missing commands: {', '.join(missing)}; run `apt-get install --no-install-recommends {packages}`"
    ]


def _kernel_problems() -> list[str]:
    """Try what the lab does, in namespaces that vanish with the attempt."""
    overlay = (
        "mount -t tmpfs none /mnt && mkdir /mnt/l /mnt/u /mnt/w /mnt/m && "
        "mount -t overlay -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w none /mnt/m"
    )
    bridge = "ip link add b0 type bridge && ip link add v0 type veth peer name v1 && ip link set v0 master b0"
    attempts = {
        "mount tmpfs and overlay file systems": ["unshare", "--mount", "sh", "-c", overlay],
        "make network namespaces, bridges and veth pairs": ["unshare", "--net", "sh", "-c", bridge],
        "make pid, uts, ipc and cgroup namespaces": ["unshare", "-p", "-f", "-u", "-i", "-C", "true"],
    }
    problems = []
    for what, command in attempts.items():
        try:
            run(command)
        except LabError as error:
            problems.append(f"cannot {what} (a container needs --privileged): {error}")
    if not cgroups.hierarchies():
        problems.append("no control group hierarchy is mounted for writing: mount cgroup2 on /sys/fs/cgroup")
    return problems


def _space_problems() -> list[str]:
    needed = rootfs.disk_mib_needed() + guest_image.disk_mib_needed() + _RUNNING_DISK_MIB
    existing = next(path for path in (paths.CACHE, *paths.CACHE.parents) if path.exists())
    free = shutil.disk_usage(existing).free // 2**20
    if free >= needed:
        return []
    return [f"{existing} has {free} MiB free, the lab needs {needed} MiB: free some, or move the checkout"]


def _memory_problems() -> list[str]:
    fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) // 1024
    if available >= _MEMORY_MIB:
        return []
    return [f"{available} MiB of memory are available, two nodes and their guests need {_MEMORY_MIB} MiB"]


def _address_problems() -> list[str]:
    problems = [
        f"the lab's network {network.NETWORK} is in use: {route.destination} is reached by {route.device}"
        for route in network.overlapping_routes()
    ]
    if network.bridge_exists() and not paths.BRIDGE_OWNER.exists():
        problems.append(f"the interface {network.BRIDGE} exists: take down the other lab that made it")
    return problems
