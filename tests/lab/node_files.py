# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes one node differ from another: the files that are written over the shared root file system."""

from __future__ import annotations

import time
from collections.abc import Iterable
from os import utime
from pathlib import Path

from . import domains, keys, network
from .cast import Node

_ADDRESS_UNIT = "isolift-lab-address.service"

_QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
seccomp_sandbox = 0
"""


def write(root: Path, node: Node, everybody: Iterable[Node]) -> None:
    """Write ``node``'s own files below ``root``; ``everybody`` is in its hosts file."""
    for name, content in _contents(node, everybody).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    _enable(root, "multi-user.target", f"/etc/systemd/system/{_ADDRESS_UNIT}")
    # Guests move from node to node: libvirt talks to its peer by TCP, on a network that leads nowhere else.
    _enable(root, "sockets.target", "/lib/systemd/system/libvirtd-tcp.socket")
    _write_ssh(root, node)
    with (root / "etc/libvirt/libvirtd.conf").open("a") as conf:
        # Two nodes see the same DMI UUID; libvirt refuses to migrate "to the same host" unless told another.
        conf.write(f'host_uuid = "{node.uuid}"\nauth_tcp = "none"\n')
    # Package lists count as fresh, so that tasks with a cache_valid_time do not look for a way out.
    now = time.time()
    utime(root / "var/lib/apt/lists", (now, now))


def _enable(root: Path, target: str, unit: str) -> None:
    wants = root / f"etc/systemd/system/{target}.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / Path(unit).name).symlink_to(unit)


def _contents(node: Node, everybody: Iterable[Node]) -> dict[str, str]:
    hosts = ["127.0.0.1 localhost", *(f"{other.address} {other.name}" for other in everybody)]
    return {
        "etc/hostname": f"{node.name}\n",
        "etc/hosts": "\n".join(hosts) + "\n",
        "etc/machine-id": f"{node.uuid.hex}\n",
        "etc/libvirt/qemu.conf": _QEMU_CONF,
        "etc/tmpfiles.d/isolift-lab.conf": f"d {domains.CONSOLES_ON_NODE} 0700 root root\n",
        f"etc/systemd/system/{_ADDRESS_UNIT}": _address_unit(node),
    }


def _address_unit(node: Node) -> str:
    return f"""\
[Unit]
Description=Address of this lab host
DefaultDependencies=no
Before=network.target network-online.target ssh.service libvirtd.service rabbitmq-server.service epmd.service
Wants=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ip link set lo up
ExecStart=/usr/sbin/ip address add {node.address}/{network.NETWORK.prefixlen} dev host0
ExecStart=/usr/sbin/ip link set host0 up
"""


def _write_ssh(root: Path, node: Node) -> None:
    host_key = keys.host_key(node.name)
    target = root / "etc/ssh/ssh_host_ed25519_key"
    target.write_bytes(host_key.read_bytes())
    target.chmod(0o600)
    authorized = root / "root/.ssh/authorized_keys"
    authorized.parent.mkdir(mode=0o700, exist_ok=True)
    authorized.write_bytes(keys.SSH_KEY.with_suffix(".pub").read_bytes())
    authorized.chmod(0o600)
