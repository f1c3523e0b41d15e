# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains without an operating system: real QEMU processes with real drives and channels that start in no time."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field

from .compute_host import ComputeHost

MACHINES = {"scsi": "q35", "sata": "q35", "ide": "pc"}
ALIAS = "<alias name='ua-isolift-cdrom'/>"
_QUERY = json.dumps({"execute": "query-block"})


@dataclass
class CheapDomain:
    """One domain of ``host``. ``disc`` is the path that its drive is defined with."""

    host: ComputeHost
    name: str
    bus: str = "scsi"
    drives: int = 1
    is_alias_given: bool = True
    disc: str = ""
    channel_path: str = ""
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def target(self) -> str:
        """The name of the first drive."""
        return "hda" if self.bus == "ide" else "sda"

    def define(self) -> CheapDomain:
        """Defines it and leaves it shut off."""
        self.host.run("virsh define /dev/stdin", stdin=self.xml())
        return self

    def start(self, option: str = "--paused") -> CheapDomain:
        """Starts it, paused at its first instruction, which costs no CPU time."""
        self.host.run(f"virsh start {option} {self.name}")
        return self

    def create(self) -> CheapDomain:
        """Starts it without a definition."""
        self.host.run("virsh create --paused /dev/stdin", stdin=self.xml())
        return self

    def remove(self) -> None:
        """Ends it and its definition, where there are such."""
        self.host.run(f"virsh destroy {self.name}; virsh undefine {self.name}; true")

    def discs(self) -> tuple[str, str]:
        """The paths in the first drive: live and at the next start; empty where there is no disc or no such description."""
        script = f"""
            virsh list --name | grep -qx {self.name} && virsh domblklist {self.name}
            echo MARK
            virsh list --all --persistent --name | grep -qx {self.name} && virsh domblklist --inactive {self.name}
            true"""
        live, _mark, config = self.host.run(script).partition("MARK")
        return _disc_of(live, self.target), _disc_of(config, self.target)

    def medium(self) -> str:
        """The disc that QEMU itself has in the first drive."""
        answer = self.host.run(f"virsh qemu-monitor-command {self.name} '{_QUERY}'")
        drives = json.loads(answer)["return"]
        return str(drives[0].get("inserted", {}).get("file", "")) if drives else ""

    def xml(self) -> str:
        """The definition."""
        drives = "".join(self._drive(number) for number in range(self.drives))
        controller = "<controller type='scsi' model='virtio-scsi'/>" if self.bus == "scsi" else ""
        path = f"<source mode='bind' path='{self.channel_path}'/>" if self.channel_path else ""
        channel = f"<channel type='unix'>{path}<target type='virtio' name='org.isolift.agent.0'/></channel>"
        return f"""
<domain type='qemu'>
  <name>{self.name}</name>
  <uuid>{self.uuid}</uuid>
  <memory unit='MiB'>16</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='{MACHINES[self.bus]}'>hvm</type></os>
  <features><tcg><tb-cache unit='MiB'>8</tb-cache></tcg></features>
  <devices>
    {controller}{drives}{channel}
    <memballoon model='none'/>
  </devices>
</domain>"""

    def _drive(self, number: int) -> str:
        source = f"<source file='{self.disc}'/>" if self.disc and number == 0 else ""
        target = self.target[:2] + "abc"[number]
        alias = ALIAS if self.is_alias_given and number == 0 else ""
        return (
            f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>{source}"
            f"<target dev='{target}' bus='{self.bus}'/><readonly/>{alias}</disk>"
        )


def _disc_of(listing: str, target: str) -> str:
    """The source of ``target`` in what ``virsh domblklist`` printed."""
    sources = dict(line.split(maxsplit=1) for line in listing.splitlines() if len(line.split()) == 2)
    source = sources.get(target, "-").strip()
    return "" if source == "-" else source
