# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's command line does, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path

from . import (
    guest_image,
    guests,
    inventory,
    keys,
    mounts,
    network,
    paths,
    plays,
    preflight,
    rootfs,
    ssh,
    traces,
)
from .cast import GUESTS, NODES, Guest, Node
from .errors import LabError
from .locking import locked
from .machine import Machine
from .progress import Progress

_FIRST_EXTRA_ADDRESS = IPv4Address("10.99.0.21")
_EXTRA_HOSTS = 9


def up(progress: Progress, *, nodes_only: bool) -> None:
    """Bring up the nodes, and broker, relays and guests unless ``nodes_only``; what is up stays as it is.

    :raise LabError: the machine does not allow it, or a part does not come up.
    """
    with locked(paths.LOCK):
        _boot_nodes(progress)
    if not nodes_only:
        guests_start(progress)
        plays.deploy(progress)
        guests_wait(progress)


def nodes_are_up() -> bool:
    """Whether all nodes run and answer."""
    return all(Machine(node).is_up() for node in NODES)


def build(progress: Progress) -> None:
    """Fill the cache and start nothing.

    :raise LabError: the machine does not allow a lab, or a part cannot be built.
    """
    with locked(paths.LOCK):
        preflight.check(light=True)
        _fill_cache(progress)
    progress.say("cache: complete")


def down(progress: Progress) -> None:
    """Remove all that runs, extra hosts included, and make sure that nothing of it is left; the cache stays.

    :raise LabError: something cannot be removed, or is left.
    """
    with locked(paths.LOCK):
        machines = Machine.known()
        links = [network.BRIDGE] if paths.BRIDGE_OWNER.exists() else []
        with ThreadPoolExecutor(max_workers=max(1, len(machines))) as pool:
            list(pool.map(Machine.destroy, machines))
        network.remove_bridge()
        for directory in (paths.RUN, paths.HOSTS):
            mounts.remove_tree(directory)
        paths.INVENTORY.unlink(missing_ok=True)
        traces.require_none([machine.node.name for machine in machines], links)
    progress.say("lab: nothing of it runs" if not machines else f"lab: {len(machines)} hosts taken down")


def status(progress: Progress) -> bool:
    """Say what is up; return whether all nodes and all guests that are to run are."""
    complete = True
    for node in NODES:
        found = guests.states(node) if _say_state(progress, Machine(node)) else {}
        for guest in GUESTS:
            if guest.node == node.name:
                state = found.get(guest.name, "undefined")
                progress.say(f"  {guest.name}: {state} ({guest.part})")
                complete &= state == ("running" if guest.is_running else "shut off")
    for machine in Machine.known():
        if machine.node not in NODES:
            _say_state(progress, machine)
    return complete


def guests_start(progress: Progress, cast: Sequence[Guest] = GUESTS) -> None:
    """Define and start the guests of ``cast``, without waiting for them to boot.

    :raise LabError: a node is not up, or a guest cannot be started.
    """
    with locked(paths.LOCK):
        for node in NODES:
            if not Machine(node).is_up():
                raise LabError(f"{node.name} is not up: run `lab.py up --nodes-only` first")
        started = guests.start(guest_image.ensure_image(progress), cast)
    names = ", ".join(guest.name for guest in started)
    progress.say(f"guests: booting {names}" if started else "guests: already running")


def guests_wait(progress: Progress, cast: Sequence[Guest] = GUESTS) -> None:
    """Wait until the guests of ``cast`` have booted.

    :raise LabError: one does not.
    """
    guests.wait_until_up(cast)
    progress.say("guests: up")


def guests_stop(progress: Progress) -> None:
    """Destroy and undefine the guests; the next start gives them fresh disks.

    :raise LabError: libvirt refuses.
    """
    with locked(paths.LOCK):
        guests.stop()
    progress.say("guests: gone")


def host_up(progress: Progress, name: str) -> Path:
    """Boot one extra host called ``name`` and return its inventory.

    :raise LabError: the machine does not allow it, or the host does not come up.
    """
    with locked(paths.LOCK):
        target = paths.HOSTS / f"{name}.yml"
        known = {machine.node.name: machine for machine in Machine.known()}
        if name in known and known[name].is_up():
            progress.say(f"{name}: already up")
            return target
        preflight.check(light=True)
        keys.ensure_keys()
        tree = rootfs.ensure_rootfs(progress)
        node = Node(name, _free_address([machine.node for machine in known.values()]))
        known_hosts = paths.RUN / f"known_hosts.{name}"
        paths.SHARED.mkdir(parents=True, exist_ok=True)
        network.ensure_bridge()
        ssh.write_known_hosts([node], known_hosts)
        Machine(node).boot(tree, [*NODES, node])
        inventory.write(inventory.host_inventory(node, known_hosts), target)
    progress.say(f"{name} ({node.address}): up; inventory {target}")
    return target


def host_down(progress: Progress, name: str) -> None:
    """Remove the extra host ``name``, and the bridge if it was the last.

    :raise LabError: ``name`` is one of the lab's own nodes, or something cannot be removed.
    """
    if name in (node.name for node in NODES):
        raise LabError(f"{name} belongs to the lab: `lab.py down` takes it down")
    with locked(paths.LOCK):
        Machine(Node(name, "")).destroy()
        (paths.RUN / f"known_hosts.{name}").unlink(missing_ok=True)
        (paths.HOSTS / f"{name}.yml").unlink(missing_ok=True)
        if not Machine.known():
            network.remove_bridge()
    progress.say(f"{name}: gone")


def _boot_nodes(progress: Progress) -> None:
    machines = [Machine(node) for node in NODES]
    waiting = [machine for machine in machines if not machine.is_up()]
    if not waiting:
        progress.say("nodes: already up")
        return
    preflight.check(light=len(waiting) < len(machines))
    progress.say("preflight: this machine can run the lab")
    root = _fill_cache(progress)
    paths.SHARED.mkdir(parents=True, exist_ok=True)
    network.ensure_bridge()
    ssh.write_known_hosts(NODES)
    inventory.write(inventory.lab_inventory(), paths.INVENTORY)
    with ThreadPoolExecutor(max_workers=len(waiting)) as pool:
        list(pool.map(lambda machine: machine.boot(root, NODES), waiting))
    progress.say(f"nodes: up ({', '.join(node.name for node in NODES)})")


def _fill_cache(progress: Progress) -> Path:
    """Make what is missing of the cache, in parallel, and return the root file system."""
    with ThreadPoolExecutor(max_workers=3) as pool:
        root = pool.submit(rootfs.ensure_rootfs, progress)
        image = pool.submit(guest_image.ensure_image, progress)
        pool.submit(keys.ensure_keys).result()
        image.result()
        return root.result()


def _say_state(progress: Progress, machine: Machine) -> bool:
    is_up = machine.is_up()
    progress.say(f"{machine.node.name} ({machine.node.address}): {'up' if is_up else 'down'}")
    return is_up


def _free_address(taken: list[Node]) -> str:
    used = {node.address for node in taken}
    for offset in range(_EXTRA_HOSTS):
        address = str(_FIRST_EXTRA_ADDRESS + offset)
        if address not in used:
            return address
    raise LabError(f"{_EXTRA_HOSTS} extra hosts run already: take one down")
