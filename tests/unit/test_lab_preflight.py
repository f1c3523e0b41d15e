# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine lacks is named before the lab is started on it, each with what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab import cgroups, guest_image, network, paths, preflight, rootfs
from lab.errors import LabError

MIB = 2**20


class MachineDouble:
    """A machine that has all that the lab needs, until a test takes something away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._meminfo = folder / "meminfo"
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(preflight, "run", lambda _command: "")
        monkeypatch.setattr(cgroups, "hierarchies", lambda: [Path("/sys/fs/cgroup")])
        monkeypatch.setattr(rootfs, "disk_mib_needed", lambda: 1500)
        monkeypatch.setattr(guest_image, "disk_mib_needed", lambda: 1000)
        monkeypatch.setattr(network, "overlapping_routes", list)
        monkeypatch.setattr(network, "bridge_exists", lambda: False)
        monkeypatch.setattr(paths, "BRIDGE_OWNER", folder / "bridge")
        monkeypatch.setattr(preflight, "_MEMINFO", self._meminfo)
        self.lacks_commands()
        self.has_disk(3000)
        self.has_memory(3500)

    def has_disk(self, mebibytes: int) -> None:
        self._monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=mebibytes * MIB))

    def has_memory(self, mebibytes: int) -> None:
        self._meminfo.write_text(f"MemTotal:  9999999 kB\nMemAvailable:  {mebibytes * 1024} kB\n")

    def lacks_commands(self, *names: str) -> None:
        self._monkeypatch.setattr(shutil, "which", lambda name: None if name in names else f"/bin/{name}")

    def refuses(self, word: str) -> None:
        """Every attempt with ``word`` among its arguments fails."""

        def run(command: list[str]) -> str:
            if word in command:
                raise LabError(f"{word}: Operation not permitted")
            return ""

        self._monkeypatch.setattr(preflight, "run", run)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MachineDouble:
    return MachineDouble(monkeypatch, tmp_path)


def complaints(*, light: bool = False) -> list[str]:
    """The lines behind the first one."""
    with pytest.raises(LabError, match="this machine cannot run the lab:") as raised:
        preflight.check(light=light)
    return str(raised.value).splitlines()[1:]


@pytest.mark.usefixtures("machine")
def test_a_machine_that_has_everything_is_let_through() -> None:
    preflight.check()


@pytest.mark.usefixtures("machine")
def test_who_is_not_root_is_told_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (line,) = complaints()
    assert "not root" in line and "run the command as root" in line


@pytest.mark.usefixtures("machine")
def test_another_processor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    (line,) = complaints()
    assert "the processor is aarch64" in line


def test_missing_commands_are_named_with_the_packages_to_install(machine: MachineDouble) -> None:
    machine.lacks_commands("mmdebstrap", "ip")
    (line,) = complaints()
    assert "missing commands: ip, mmdebstrap;" in line
    assert "apt-get install --no-install-recommends" in line
    assert {"mmdebstrap", "iproute2"} <= set(line.rstrip("`").split())


def test_what_a_container_may_not_do_is_named_with_what_allows_it(machine: MachineDouble) -> None:
    machine.refuses("--net")
    (line,) = complaints()
    assert "cannot make network namespaces" in line and "--privileged" in line
    assert line.endswith("Operation not permitted")


@pytest.mark.usefixtures("machine")
def test_without_control_groups_it_says_what_to_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "hierarchies", list)
    (line,) = complaints()
    assert "mount cgroup2 on /sys/fs/cgroup" in line


def test_a_full_disk_is_named_with_what_is_needed(machine: MachineDouble) -> None:
    machine.has_disk(2999)
    (line,) = complaints()
    assert "2999 MiB free, the lab needs 3000 MiB: free some" in line


def test_too_little_memory_is_named_unless_little_is_needed(machine: MachineDouble) -> None:
    machine.has_memory(3499)
    (line,) = complaints()
    assert "3499 MiB of memory are available" in line and "need 3500 MiB" in line
    preflight.check(light=True)


@pytest.mark.usefixtures("machine")
def test_a_network_that_is_in_use_is_named_with_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "overlapping_routes", lambda: [network.Route("10.99.0.0/16", "vpn0")])
    (line,) = complaints()
    assert "10.99.0.0/16 is reached by vpn0" in line


@pytest.mark.usefixtures("machine")
def test_the_bridge_of_another_lab_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "bridge_exists", lambda: True)
    (line,) = complaints()
    assert "the interface isolift0 exists" in line and "take down the other lab" in line


def test_every_shortcoming_has_a_line_of_its_own(machine: MachineDouble) -> None:
    machine.has_disk(10)
    machine.has_memory(10)
    disk, memory = complaints()
    assert "free" in disk and "memory" in memory
