# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's parts that start nothing."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lab import cast, cli, debs, domains, inventory, kernel_modules, mounts
from lab.console import parse_answer
from lab.cpio import CpioWriter
from lab.errors import LabError
from lab.waiting import wait_until


def guest_named(name: str) -> cast.Guest:
    return {guest.name: guest for guest in cast.GUESTS}[name]


def definition_of(name: str) -> ElementTree.Element:
    return ElementTree.fromstring(domains.domain_xml(guest_named(name)))


def test_every_guest_has_a_node_and_every_ending_a_guest() -> None:
    assert {guest.node for guest in cast.GUESTS} == {node.name for node in cast.NODES}
    assert {guest.ending for guest in cast.GUESTS} == set(cast.Ending)
    assert len({guest.uuid for guest in cast.GUESTS}) == len(cast.GUESTS)


def test_a_domain_has_the_dedicated_drive_empty_and_a_channel_whose_path_libvirt_chooses() -> None:
    domain = definition_of("desk-01")
    drive = domain.find("devices/disk[@device='cdrom']")
    assert drive is not None and drive.find("source") is None
    assert drive.find("alias[@name='ua-isolift-cdrom']") is not None
    assert drive.find("target[@dev='sdz'][@bus='scsi']") is not None
    source = domain.find("devices/channel[@type='unix']/source")
    assert source is not None and source.attrib == {"mode": "bind"}


def test_the_guest_without_a_drive_has_none() -> None:
    assert definition_of("desk-04").find("devices/disk[@device='cdrom']") is None


def test_modules_are_loaded_behind_what_they_need() -> None:
    depends = {"disk": ["bus", "core"], "bus": ["core"], "core": [], "port": ["bus"]}
    assert kernel_modules.load_order(["disk", "port"], depends) == ["core", "bus", "disk", "port"]


def test_a_module_names_what_it_needs() -> None:
    assert kernel_modules.read_depends(b"\0license=GPL\0depends=cdrom,scsi_mod\0x") == ["cdrom", "scsi_mod"]
    assert kernel_modules.read_depends(b"\0depends=\0") == []
    with pytest.raises(LabError, match="no .modinfo"):
        kernel_modules.read_depends(b"text")


def test_only_sources_of_debian_itself_are_taken() -> None:
    targets = """\
Debian|bookworm|http://mirror.example/debian/|bookworm|main
Debian|bookworm|http://mirror.example/debian/|bookworm|contrib
Debian|bookworm-security|http://mirror.example/security/|bookworm-security|main
Debian|trixie|http://mirror.example/debian/|trixie|main
Someone|bookworm|http://packages.example/|bookworm|main
"""
    assert debs.parse_sources(targets) == [
        "deb http://mirror.example/debian/ bookworm main contrib",
        "deb http://mirror.example/security/ bookworm-security main",
    ]


def test_what_an_abandoned_command_left_is_not_taken_for_the_answer() -> None:
    assert parse_answer("late output\nMARK\n1.0.0\nMARK 0\n", "MARK") == ("1.0.0\n", 0)
    assert parse_answer("MARK\nno newlineMARK 3\n", "MARK") == ("no newline", 3)


def archive_of(tree: Path) -> bytes:
    stream = io.BytesIO()
    writer = CpioWriter(stream)
    writer.tree(tree)
    writer.close()
    return stream.getvalue()


def test_an_archive_unpacks_to_the_tree_it_was_made_of(tmp_path: Path) -> None:
    tree, unpacked = tmp_path / "tree", tmp_path / "unpacked"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/tool").write_bytes(b"\0odd")
    (tree / "bin/tool").chmod(0o755)
    (tree / "link").symlink_to("bin/tool")
    unpacked.mkdir()
    names = ["bin", "bin/tool", "link"]
    command = ["cpio", "--quiet", "-i", "-d"]
    subprocess.run(command, cwd=unpacked, input=archive_of(tree), check=True, capture_output=True)
    assert sorted(str(path.relative_to(unpacked)) for path in unpacked.rglob("*")) == names
    assert (unpacked / "link").read_bytes() == b"\0odd"
    assert (unpacked / "bin/tool").stat().st_mode & 0o777 == 0o755


def test_the_same_tree_gives_the_same_archive(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    first = archive_of(tmp_path)
    (tmp_path / "file").touch()
    assert archive_of(tmp_path) == first


def test_the_inventory_names_the_broker_and_both_nodes() -> None:
    found = inventory.lab_inventory()
    assert found["broker"] == {"hosts": {"node1": {}}}
    assert inventory.host_variables(cast.NODES[1])["ansible_host"] == "10.99.0.12"


def test_waiting_names_what_did_not_come() -> None:
    with pytest.raises(LabError, match="in vain for the moon"):
        wait_until(lambda: False, what="the moon", timeout=0.01, every=0.001)


def test_a_tree_with_a_mount_below_it_is_not_deleted() -> None:
    with pytest.raises(LabError, match="still mounted"):
        mounts.remove_tree(Path("/proc"))


@pytest.mark.parametrize("name", ["Node", "a-b", "", "1a", "x" * 13])
def test_a_host_name_that_no_interface_could_bear_is_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["host", "up", name])
    assert "not a lower-case letter" in capsys.readouterr().err
