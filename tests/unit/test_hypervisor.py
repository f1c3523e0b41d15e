# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listing domains while some of them vanish or cannot be described; libvirt's binding is played."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from unit.libvirt_error import INVALID_CONNECTION, LibvirtError

from ansible_collections.isolift.vm.plugins.module_utils import hypervisor
from ansible_collections.isolift.vm.plugins.module_utils.hypervisor import (
    INTERNAL_ERROR,
    NO_DOMAIN,
    ConnectionLost,
    Hypervisor,
    MediaError,
    check_iso,
)

UUID = "2a8f1b9e-6f0d-4d5c-8c8a-7a2f3f0e9a11"


class Domain:
    """A running domain that is defined; reading its XML gives ``xml``, or the error."""

    def __init__(self, name: str, xml: str | LibvirtError = "<domain/>") -> None:
        self._name = name
        self._xml = xml

    def name(self) -> str:
        return self._name

    def UUIDString(self) -> str:
        return UUID

    def state(self) -> tuple[int, int]:
        return 1, 1

    def isActive(self) -> bool:
        return True

    def isPersistent(self) -> bool:
        return True

    def XMLDesc(self, _flags: int) -> str:
        if isinstance(self._xml, LibvirtError):
            raise self._xml
        return self._xml


@pytest.fixture(autouse=True)
def played_libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    binding = SimpleNamespace(libvirtError=LibvirtError, VIR_DOMAIN_XML_INACTIVE=2)
    monkeypatch.setattr(hypervisor, "libvirt", binding)


def host(*domains: Domain, alive: bool = True) -> Hypervisor:
    connection = SimpleNamespace(listAllDomains=lambda: list(domains), isAlive=lambda: alive)
    return Hypervisor(connection, "/var/lib/isolift/media")


def test_a_domain_that_vanished_since_it_was_listed_is_left_out() -> None:
    gone = LibvirtError(NO_DOMAIN, "Domain not found")
    found, unreadable = host(Domain("here"), Domain("gone", gone), Domain("too")).domains()
    assert ([info.name for info in found], unreadable) == (["here", "too"], [])


@pytest.mark.parametrize(
    ("xml", "detail"),
    [
        (LibvirtError(INTERNAL_ERROR, "no such luck"), "could not read odd: no such luck"),
        ("<domain", "not a domain's XML: "),
    ],
)
def test_a_domain_that_cannot_be_described_is_named_and_stops_no_other(
    xml: str | LibvirtError, detail: str
) -> None:
    found, unreadable = host(Domain("odd", xml), Domain("here")).domains()
    assert [info.name for info in found] == ["here"]
    assert [(one.uuid, one.name) for one in unreadable] == [(UUID, "odd")]
    assert unreadable[0].detail.startswith(detail)


def test_a_connection_that_was_closed_on_our_side_is_lost() -> None:
    """The binding's ``isAlive`` raises then, too."""

    def closed(*_arguments: object) -> None:
        raise LibvirtError(INVALID_CONNECTION, "invalid connection pointer")

    connection = SimpleNamespace(listAllDomains=closed, isAlive=closed, close=closed)
    lost = Hypervisor(connection, "/var/lib/isolift/media")
    with pytest.raises(ConnectionLost):
        lost.domains()
    lost.close()


def test_a_uuid_is_looked_for_as_a_uuid_only() -> None:
    def unknown(_uuid: str) -> None:
        raise LibvirtError(NO_DOMAIN, "Domain not found")

    connection = SimpleNamespace(lookupByUUIDString=unknown, lookupByName=Domain, isAlive=lambda: True)
    found = Hypervisor(connection, "/var/lib/isolift/media")
    assert found.find(UUID).name() == UUID
    with pytest.raises(MediaError, match="no_domain"):
        found.find_uuid(UUID)


def test_an_iso_is_a_file_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, empty = tmp_path / "good.iso", tmp_path / "empty.iso"
    good.write_bytes(b"disc")
    empty.touch()
    check_iso(str(good))
    for path, why in ((empty, "is empty"), (tmp_path, "is no file"), (tmp_path / "none", "there is no file")):
        with pytest.raises(MediaError, match=f"no_media: .*{why}"):
            check_iso(str(path))
    monkeypatch.setattr(os.path, "isfile", lambda _path: True)  # it goes in this very moment
    with pytest.raises(MediaError, match="no_media"):
        check_iso(str(tmp_path / "none"))


def test_a_libvirt_that_goes_away_meanwhile_is_no_trouble_of_one_domain() -> None:
    lost = LibvirtError(INTERNAL_ERROR, "client socket is closed")
    with pytest.raises(ConnectionLost):
        host(Domain("here"), Domain("odd", lost), alive=False).domains()
