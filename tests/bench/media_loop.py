# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bare loop to compare with: ``python3 media_loop.py insert|eject ISO UUID...``, run on a compute node.

What somebody would write who knows libvirt well: one domain after the other, its drive read in both descriptions,
changed in both with one call, and read back. It prints the seconds that the loop took, without imports and connection.
"""

from __future__ import annotations

import sys
import time
from xml.etree import ElementTree

import libvirt

BOTH = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
DRIVE = "./devices/disk[@device='cdrom']"


def drives(domain: libvirt.virDomain) -> list[ElementTree.Element]:
    """The CD-ROM drive as the running machine and the definition have it."""
    if not domain.isActive() or not domain.isPersistent():
        sys.exit(f"{domain.name()} is not a running domain with a definition")
    found = []
    for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
        drive = ElementTree.fromstring(domain.XMLDesc(flags)).find(DRIVE)
        if drive is None:
            sys.exit(f"{domain.name()} has no CD-ROM drive")
        found.append(drive)
    return found


def disc(drive: ElementTree.Element) -> str:
    """The path in the drive, or nothing."""
    source = drive.find("source")
    return "" if source is None else source.get("file", "")


def change(connection: libvirt.virConnect, uuid: str, before: str, after: str) -> None:
    """Put ``after`` into the drive of one domain, which must hold ``before`` or ``after``."""
    domain = connection.lookupByUUIDString(uuid)
    live, config = drives(domain)
    if not {disc(live), disc(config)} <= {before, after}:
        sys.exit(f"{domain.name()} has the disc of somebody else")
    for child in [child for child in live if child.tag in ("source", "backingStore")]:
        live.remove(child)
    if after:
        ElementTree.SubElement(live, "source", {"file": after, "startupPolicy": "optional"})
    domain.updateDeviceFlags(ElementTree.tostring(live, encoding="unicode"), BOTH)
    if {disc(drive) for drive in drives(domain)} != {after}:
        sys.exit(f"{domain.name()} did not take the disc")
    if after and domain.blockInfo(live.find("target").get("dev"))[0] == 0:  # type: ignore[union-attr]
        sys.exit(f"QEMU has no medium in the drive of {domain.name()}")


def main() -> None:
    action, iso, *uuids = sys.argv[1:]
    before, after = ("", iso) if action == "insert" else (iso, "")
    connection = libvirt.open("qemu:///system")
    began = time.perf_counter()
    for uuid in uuids:
        change(connection, uuid, before, after)
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
