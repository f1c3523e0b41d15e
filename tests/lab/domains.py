# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The libvirt XML of a guest's domain."""

from __future__ import annotations

from pathlib import PurePosixPath
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from . import paths, state_disk
from .cast import GUEST_MEMORY_MIB, Guest

KERNEL = paths.BOOT / "vmlinuz"
INITRAMFS = paths.BOOT / "initrd.img"
CONSOLES_ON_NODE = PurePosixPath("/run/isolift-lab")
# How libvirt is told, and says, which CD-ROM drive is the dedicated one.
DRIVE_ALIAS = "ua-isolift-cdrom"
DRIVE_TARGET = "sdz"
# Named, so that a guest can move to a node with another QEMU and back.
_MACHINE = "pc-q35-7.2"
_BOOT_OPTIONS = "console=ttyS0 quiet panic=5 audit=0 mitigations=off nokaslr cryptomgr.notests no_timer_check"


def domain_xml(guest: Guest) -> str:
    """The definition of ``guest``'s domain: software emulation, direct kernel boot, nothing it does not use."""
    domain = Element("domain", type="qemu")
    SubElement(domain, "name").text = guest.name
    SubElement(domain, "uuid").text = str(guest.uuid)
    SubElement(domain, "memory", unit="MiB").text = str(GUEST_MEMORY_MIB)
    SubElement(domain, "vcpu").text = "1"
    _add_boot(domain, guest)
    _add_features(domain)
    devices = SubElement(domain, "devices")
    _add_state_disk(devices, guest)
    if guest.has_cdrom:
        _add_drive(devices)
    _add_serials(devices, guest)
    _add_channel(devices)
    SubElement(devices, "controller", type="usb", model="none")
    SubElement(devices, "memballoon", model="none")
    indent(domain)
    return tostring(domain, encoding="unicode") + "\n"


def serial_log(guest: Guest) -> str:
    """The name of ``guest``'s log in the lab's directory of logs."""
    return f"{guest.name}.log"


def console_socket(domain: str) -> str:
    """The socket, on its node, of the root shell in the guest of ``domain``."""
    return str(CONSOLES_ON_NODE / f"{domain}.console")


def _add_boot(domain: Element, guest: Guest) -> None:
    system = SubElement(domain, "os")
    SubElement(system, "type", arch="x86_64", machine=_MACHINE).text = "hvm"
    SubElement(system, "kernel").text = str(paths.on_node(KERNEL))
    SubElement(system, "initrd").text = str(paths.on_node(INITRAMFS))
    SubElement(system, "cmdline").text = f"{_BOOT_OPTIONS} hostname={guest.name}"


def _add_features(domain: Element) -> None:
    features = SubElement(domain, "features")
    SubElement(features, "acpi")
    # Emulated code is cached; QEMU's own default would take a large part of the memory of the machine.
    SubElement(SubElement(features, "tcg"), "tb-cache", unit="MiB").text = "64"
    cpu = SubElement(domain, "cpu", mode="custom", match="exact", check="none")
    SubElement(cpu, "model", fallback="forbid").text = "qemu64"
    # Without it the kernel waits for randomness.
    SubElement(cpu, "feature", policy="require", name="rdrand")


def _add_state_disk(devices: Element, guest: Guest) -> None:
    disk = SubElement(devices, "disk", type="file", device="disk")
    SubElement(disk, "driver", name="qemu", type="qcow2")
    SubElement(disk, "source", file=str(paths.on_node(state_disk.disk_path(guest))))
    SubElement(disk, "target", dev="vda", bus="virtio")


def _add_drive(devices: Element) -> None:
    SubElement(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    drive = SubElement(devices, "disk", type="file", device="cdrom")
    SubElement(drive, "driver", name="qemu", type="raw")
    SubElement(drive, "target", dev=DRIVE_TARGET, bus="scsi")
    SubElement(drive, "readonly")
    SubElement(drive, "alias", name=DRIVE_ALIAS)
    # Without an address libvirt adds controllers until one has a place for a disk with so late a letter.
    SubElement(drive, "address", type="drive", controller="0", bus="0", target="0", unit="0")


def _add_serials(devices: Element, guest: Guest) -> None:
    log = SubElement(devices, "serial", type="file")
    SubElement(log, "source", path=str(paths.on_node(paths.LOGS / serial_log(guest))), append="on")
    SubElement(log, "target", port="0")
    console = SubElement(devices, "serial", type="unix")
    SubElement(console, "source", mode="bind", path=console_socket(guest.name))
    SubElement(console, "target", port="1")


def _add_channel(devices: Element) -> None:
    SubElement(devices, "controller", type="virtio-serial", index="0")
    channel = SubElement(devices, "channel", type="unix")
    # No path: libvirt chooses one per running domain, so that nobody can rely on it.
    SubElement(channel, "source", mode="bind")
    SubElement(channel, "target", type="virtio", name=state_disk.CHANNEL)
