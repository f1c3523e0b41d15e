# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel modules a guest loads, and in which order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from .errors import LabError

WANTED = (
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "virtio_scsi",
    "sr_mod",
    "isofs",
)
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


def read_depends(module: bytes) -> list[str]:
    """The names of the modules that the module file ``module`` needs, as its own section ``.modinfo`` says.

    :raise LabError: it says nothing, so it is no kernel module.
    """
    found = _DEPENDS.search(module)
    if found is None:
        raise LabError("a kernel module has no .modinfo section")
    return [name.decode() for name in found.group(1).split(b",") if name]


def load_order(wanted: Iterable[str], depends: Mapping[str, list[str]]) -> list[str]:
    """``wanted`` and all that they need, each behind what it needs."""
    order: list[str] = []

    def add(name: str) -> None:
        if name not in order:
            for needed in depends[name]:
                add(needed)
            order.append(name)

    for name in wanted:
        add(name)
    return order


def files_in_load_order(kernel_tree: Path) -> list[Path]:
    """The module files below ``kernel_tree`` that a guest loads, in order.

    :raise LabError: the kernel has no such module.
    """
    files = {path.name.removesuffix(".ko").replace("-", "_"): path for path in kernel_tree.rglob("*.ko")}
    depends = {}
    todo = list(WANTED)
    while todo:
        name = todo.pop()
        if name not in files:
            raise LabError(f"the guest's kernel has no module {name}")
        if name not in depends:
            depends[name] = [needed.replace("-", "_") for needed in read_depends(files[name].read_bytes())]
            todo += depends[name]
    return [files[name] for name in load_order(WANTED, depends)]
