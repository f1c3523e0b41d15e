# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Define, start and stop the guests on their nodes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from . import domains, guest_image, paths, ssh, state_disk
from .cast import GUESTS, NODES, Guest, Node
from .guest_image import GuestImage
from .waiting import wait_until

# What the guest's init prints when it starts the agent.
_READY_LINE = "isolift-lab: starting the guest agent"
_BOOT_SECONDS = 180.0
_COMMAND_SECONDS = 90.0


def start(image: GuestImage, cast: Sequence[Guest] = GUESTS) -> list[Guest]:
    """Define the guests of ``cast`` that are not defined, with fresh disks, and start those that are to run and do not.

    :return: the guests that were started now.
    :raise LabError: something of a guest cannot be made, or libvirt on a node refuses.
    """
    found = {name: state for node in NODES for name, state in states(node).items()}
    new = [guest for guest in cast if guest.name not in found]
    starting = [guest for guest in cast if guest.is_running and found.get(guest.name) != "running"]
    if starting:
        _write_boot_files(image)
    _write_definitions(new)
    for guest in starting:
        _log(guest).unlink(missing_ok=True)
    _on_each(lambda node: _start_script(node, new, starting))
    return starting


def stop() -> None:
    """Switch off and undefine all guests, as a power cut would.

    :raise LabError: libvirt on a node refuses.
    """
    _on_each(lambda node: _STOP_SCRIPT)


def states(node: Node) -> dict[str, str]:
    """The state of every domain on ``node``, as virsh names it.

    :raise LabError: libvirt on ``node`` does not answer.
    """
    lines = ssh.run_on(node, "virsh -q list --all", timeout=_COMMAND_SECONDS).splitlines()
    return {name: state for _unused, name, state in (line.split(None, 2) for line in lines)}


def wait_until_up(guests: Iterable[Guest] = GUESTS) -> None:
    """Return when every guest that is to run has started its agent.

    :raise LabError: one of them did not; its log is in the lab's directory of logs.
    """
    for guest in guests:
        if guest.is_running:
            what = f"{guest.name} to start its agent (see {_log(guest)})"
            wait_until(partial(_is_up, guest), what=what, timeout=_BOOT_SECONDS)


def _is_up(guest: Guest) -> bool:
    log = _log(guest)
    return log.exists() and _READY_LINE in log.read_text(errors="replace")


def _write_boot_files(image: GuestImage) -> None:
    """Put kernel and initramfs, with the agent as it is in the checkout now, where domains boot from."""
    paths.BOOT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.BOOT) as scratch:
        agent, kernel, initramfs = (Path(scratch, name) for name in ("agent.pyz", "vmlinuz", "initrd.img"))
        guest_image.build_agent(agent)
        shutil.copyfile(image.kernel, kernel)
        guest_image.write_initramfs(image, agent, initramfs)
        os.replace(kernel, domains.KERNEL)
        os.replace(initramfs, domains.INITRAMFS)


def _write_definitions(guests: Sequence[Guest]) -> None:
    for directory in (paths.DISKS, paths.DOMAINS, paths.LOGS):
        directory.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(state_disk.create, guests))
    for guest in guests:
        _definition(guest).write_text(domains.domain_xml(guest))


def _on_each(script_of: Callable[[Node], str]) -> None:
    with ThreadPoolExecutor(max_workers=len(NODES)) as pool:
        list(pool.map(lambda node: ssh.run_on(node, script_of(node), timeout=_COMMAND_SECONDS), NODES))


def _start_script(node: Node, new: Sequence[Guest], starting: Sequence[Guest]) -> str:
    lines = ["set -eu"]
    lines += [
        f"virsh -q define {paths.on_node(_definition(guest))}" for guest in new if guest.node == node.name
    ]
    lines += [f"virsh -q start {guest.name}" for guest in starting if guest.node == node.name]
    return "\n".join(lines)


# Whatever is there, all at once: each QEMU takes more than a second to end.
_STOP_SCRIPT = """\
set -eu
for domain in $(virsh -q list --name); do virsh -q destroy "$domain" & done
wait
for domain in $(virsh -q list --all --name); do virsh -q undefine "$domain"; done
"""


def _definition(guest: Guest) -> Path:
    return paths.DOMAINS / f"{guest.name}.xml"


def _log(guest: Guest) -> Path:
    return paths.LOGS / domains.serial_log(guest)
