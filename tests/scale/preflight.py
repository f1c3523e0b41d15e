# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does this machine allow so many emulated VMs? Every shortcoming is named, with what to do about it."""

from __future__ import annotations

import resource
from pathlib import Path

from lab.errors import LabError
from scale import fleet

_DESCRIPTORS_PER_VM = 2
_DESCRIPTORS_BESIDES = 512
_MB_BESIDES = 1500
_KB_PER_VM = 100


def check(vms: int) -> None:
    """Return if ``vms`` VMs can be emulated here; raises this process's limit of open files, which its children inherit.

    :raise LabError: they cannot; the text has one line for each reason.
    """
    problems = [*_file_problems(min(vms, fleet.VMS_PER_PROCESS)), *_memory_problems(vms)]
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise LabError(f"this machine cannot emulate {vms} VMs:\n{lines}")


def _file_problems(vms: int) -> list[str]:
    needed = _DESCRIPTORS_PER_VM * vms + _DESCRIPTORS_BESIDES
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        return [f"a process may have {hard} open files, {needed} are needed: `ulimit -H -n {needed}` as root"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return []


def available_mb() -> int:
    """Memory that can be had without swapping, in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024 // 10**6


def _memory_problems(vms: int) -> list[str]:
    needed, available = _MB_BESIDES + vms * _KB_PER_VM // 1000, available_mb()
    if available < needed:
        return [f"{available} MB of memory are available, {needed} MB are needed: fewer VMs, or more memory"]
    return []
