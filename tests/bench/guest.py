# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One real guest on the benchmark's own host, with our agent and QEMU's, each on a virtio-serial port."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from integration.compute_host import ComputeHost

from lab import console, domains, guest_image, mounts, paths, state_disk
from lab.cast import Ending, Guest
from lab.cpio import CpioWriter
from lab.progress import Progress
from lab.waiting import wait_until

from . import qemu_ga

NAME = "bench-guest"
AGENT_SOCKET = "/run/isolift-bench-qga.sock"
"""The host's end of the port of QEMU's agent."""

_FILES = paths.SHARED / NAME
_LOG = paths.LOGS / f"{NAME}.log"
_SNAPSHOT = "opt/bench/snapshot.py"
_BOOT_SECONDS = 180.0
_COMMAND_SECONDS = 60.0


class BenchGuest:
    """The guest on ``host``."""

    def __init__(self, host: ComputeHost) -> None:
        self.host = host
        self.guest = Guest(NAME, host.name, "is watched", Ending.SUCCEEDED)
        self.layer = _FILES / "layer"
        """What only this benchmark has in the guest."""

    def start(self, progress: Progress) -> None:
        """Make and boot it, and return when our agent was started in it.

        :raise LabError: it cannot be made or does not boot.
        """
        for directory in (paths.DISKS, paths.LOGS):
            directory.mkdir(parents=True, exist_ok=True)
        self._write_boot_files(guest_image.ensure_image(progress))
        state_disk.create(self.guest)
        _LOG.unlink(missing_ok=True)
        self.host.run("virsh define /dev/stdin", stdin=_domain_xml(self.guest))
        self.host.run(f"virsh start {NAME}")
        wait_until(lambda: self.said("the port is open") > 0, what="the guest's agent", timeout=_BOOT_SECONDS)

    def remove_files(self) -> None:
        """Remove what `start` wrote; a guest that still runs keeps what it has open."""
        mounts.remove_tree(_FILES)
        for path in (_LOG, state_disk.disk_path(self.guest)):
            path.unlink(missing_ok=True)

    def said(self, text: str) -> int:
        """How often the guest's console, on which our agent logs, has said ``text``."""
        return _LOG.read_text(errors="replace").count(text) if _LOG.exists() else 0

    def shell(self, command: str) -> str:
        """Run a shell command in the guest as root and return what it printed.

        :raise LabError: it failed, or the guest does not answer.
        """
        return console.run_by(self.host.run, NAME, command, _COMMAND_SECONDS)

    def spawn(self, command: str) -> int:
        """Start a program that stays, and return its process ID."""
        return int(self.shell(f"{command} > /dev/null 2>&1 & echo $!"))

    def snapshot(self, pids: list[int]) -> str:
        """What snapshot.py prints about processes of the guest."""
        return self.shell(" ".join(["python3", f"/{_SNAPSHOT}", *map(str, pids)]))

    def _write_boot_files(self, image: guest_image.GuestImage) -> None:
        """Kernel and initramfs with our agent, as the lab has them, and what only this benchmark needs."""
        mounts.remove_tree(_FILES)
        snapshot = self.layer / _SNAPSHOT
        snapshot.parent.mkdir(parents=True)
        shutil.copy(Path(__file__).parent / "snapshot.py", snapshot)
        qemu_ga.install(self.host, self.layer)
        agent = _FILES / "agent.pyz"
        guest_image.build_agent(agent)
        shutil.copyfile(image.kernel, _FILES / "vmlinuz")
        guest_image.write_initramfs(image, agent, _FILES / "initrd.img")
        with (_FILES / "initrd.img").open("ab") as stream:
            archive = CpioWriter(stream)
            archive.tree(self.layer)
            archive.close()


def _domain_xml(guest: Guest) -> str:
    """The lab's definition with boot files of our own and a second port."""
    domain = fromstring(domains.domain_xml(guest))
    _child(domain, "os/kernel").text = str(paths.on_node(_FILES / "vmlinuz"))
    _child(domain, "os/initrd").text = str(paths.on_node(_FILES / "initrd.img"))
    channel = SubElement(_child(domain, "devices"), "channel", type="unix")
    SubElement(channel, "source", mode="bind", path=AGENT_SOCKET)
    SubElement(channel, "target", type="virtio", name=qemu_ga.PORT)
    return tostring(domain, encoding="unicode")


def _child(domain: Element, path: str) -> Element:
    found = domain.find(path)
    if found is None:
        raise ValueError(f"the guest's definition has no {path}")
    return found
