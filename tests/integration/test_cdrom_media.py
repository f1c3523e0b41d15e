# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cdrom_media and vm_info, run by Ansible against real libvirt and QEMU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from integration.cheap_domain import ALIAS, CheapDomain
from integration.compute_host import ComputeHost, lab_node

from lab import cast, console

MEDIA = "/var/lib/isolift/media"
CAMPAIGN = "0198c5a2-7d4e-7b1a-9c3f-2f6e8d0a1b2c"
OTHER = "0198c5a2-7d4e-7b1a-9c3f-2f6e8d0a1b2d"
ISO = f"{MEDIA}/{CAMPAIGN}/{'a' * 64}.iso"
OTHER_ISO = f"{MEDIA}/{OTHER}/{'b' * 64}.iso"
EMPTY_ISO = f"{MEDIA}/{OTHER}/{'0' * 64}.iso"
FOREIGN = "/srv/foreign.iso"

Make = Callable[..., CheapDomain]


@pytest.fixture(scope="module")
def isos(host: ComputeHost) -> None:
    """The discs of two campaigns, an empty one of ours, and one of somebody else."""
    host.run(f"mkdir -p {MEDIA}/{CAMPAIGN} {MEDIA}/{OTHER}; : > {EMPTY_ISO}")
    for path in (ISO, OTHER_ISO, FOREIGN):
        host.run(f"head -c 65536 /dev/urandom > {path}")


@pytest.fixture
def make(host: ComputeHost, isos: None) -> Iterator[Make]:
    """Makes cheap domains, which are removed afterwards."""
    made: list[CheapDomain] = []

    def make(name: str, **properties: Any) -> CheapDomain:
        made.append(CheapDomain(host, name, **properties))
        made[-1].remove()
        return made[-1]

    yield make
    for domain in made:
        domain.remove()


def insert(
    host: ComputeHost, *vms: str, path: str = ISO, check: bool = False, **options: Any
) -> dict[str, Any]:
    return host.module("cdrom_media", check=check, vms=list(vms), path=path, **options)


def eject(host: ComputeHost, *vms: str, check: bool = False, **options: str) -> dict[str, Any]:
    return host.module("cdrom_media", check=check, vms=list(vms), state="ejected", **options)


def statuses(result: dict[str, Any]) -> dict[str, str]:
    """Status, or reason where skipped, by what Ansible calls the VM."""
    return {row["name"] or row["vm"]: row["reason"] or row["status"] for row in result["results"]}


def test_one_call_changes_many_domains_and_one_domains_trouble_stops_no_other(
    host: ComputeHost, make: Make
) -> None:
    good = {
        "q35-scsi": make("q35-scsi").define().start(),
        "q35-sata": make("q35-sata", bus="sata").define().start(),
        "pc-ide": make("pc-ide", bus="ide").define().start(),
        "no-alias": make("no-alias", is_alias_given=False).define().start(),
        "transient": make("transient").create(),
        "shut-off": make("shut-off").define(),
        "two-drives": make("two-drives", drives=2).define().start(),
    }
    make("no-drive", drives=0).define().start()
    make("ambiguous", drives=2, is_alias_given=False).define().start()
    foreign = make("foreign", disc=FOREIGN).define().start()
    by_uuid = good["q35-sata"].uuid
    asked = ["q35-scsi", by_uuid, *list(good)[2:], "no-drive", "ambiguous", "foreign", "nowhere", "q35-scsi"]

    before = {name: domain.discs() for name, domain in good.items()}
    planned = insert(host, *asked, check=True)
    assert {name: domain.discs() for name, domain in good.items()} == before

    done = insert(host, *asked)
    expected = {name: "inserted" for name in good} | {
        "no-drive": "no_drive",
        "ambiguous": "drive_ambiguous",
        "foreign": "drive_in_use",
        "nowhere": "no_domain",
    }
    for result in (planned, done):
        assert statuses(result) == expected
        assert [row["vm"] for row in result["results"]][1] == by_uuid
        assert result["changed"] and result["changed_count"] == len(good) and result["failed_count"] == 4
        assert f"+q35-scsi: {ISO}" in result["shown"] and "-q35-scsi: empty" in result["shown"]
        assert "foreign" not in result["shown"]
    for name, domain in good.items():
        live, config = domain.discs()
        assert live == ("" if name == "shut-off" else ISO), name
        assert config == ("" if name == "transient" else ISO), name
        assert name == "shut-off" or domain.medium() == ISO, name
    assert foreign.discs() == (FOREIGN, FOREIGN)

    again = insert(host, *good)
    assert not again["changed"] and set(statuses(again).values()) == {"already_inserted"}

    gone = eject(host, *good, "no-drive", "ambiguous", "foreign")
    assert statuses(gone) == {name: "ejected" for name in good} | dict.fromkeys(
        ["no-drive", "ambiguous", "foreign"], "already_empty"
    )
    assert foreign.discs() == (FOREIGN, FOREIGN)
    assert all(domain.discs() == ("", "") for domain in good.values())
    assert not eject(host, *good)["changed"]


def test_a_disc_of_ours_gives_way_to_that_of_another_campaign(host: ComputeHost, make: Make) -> None:
    domain = make("swap").define().start()
    insert(host, "swap", path=OTHER_ISO)
    assert statuses(insert(host, "swap")) == {"swap": "inserted"}
    assert (domain.discs(), domain.medium()) == ((ISO, ISO), ISO)
    assert statuses(eject(host, "swap", campaign_id=OTHER)) == {"swap": "already_empty"}
    assert statuses(eject(host, "swap", campaign_id=CAMPAIGN, check=True)) == {"swap": "ejected"}
    assert domain.medium() == ISO
    assert statuses(eject(host, "swap", campaign_id=CAMPAIGN)) == {"swap": "ejected"}
    assert (domain.discs(), domain.medium()) == (("", ""), "")


def test_a_disc_of_ours_stays_if_its_campaign_may_not_be_replaced(host: ComputeHost, make: Make) -> None:
    domain = make("kept").define().start()
    insert(host, "kept", path=OTHER_ISO)
    assert statuses(insert(host, "kept", replace=[])) == {"kept": "drive_taken"}
    assert (domain.discs(), domain.medium()) == ((OTHER_ISO, OTHER_ISO), OTHER_ISO)
    assert statuses(insert(host, "kept", replace=[OTHER])) == {"kept": "inserted"}
    assert statuses(insert(host, "kept", replace=[])) == {"kept": "already_inserted"}


def test_a_campaigns_disc_leaves_every_domain_that_holds_it(host: ComputeHost, make: Make) -> None:
    """Also one that no campaign of ours chose, and a drive that is not the dedicated one any more."""
    holding = {name: make(name).define().start() for name in ("held-1", "held-2", "spared")}
    holding["shut-off"] = make("shut-off").define()
    holding["two"] = make("two", drives=2, is_alias_given=False, disc=ISO).define().start()
    other, empty = make("other").define().start(), make("empty").define().start()
    insert(host, "held-1", "held-2", "spared", "shut-off")
    insert(host, "other", path=OTHER_ISO)
    options: dict[str, Any] = {"state": "ejected", "campaign_id": CAMPAIGN, "exclude": ["spared"]}
    expected = {name: "ejected" for name in holding if name != "spared"}
    assert statuses(host.module("cdrom_media", check=True, **options)) == expected
    done = host.module("cdrom_media", **options)
    assert statuses(done) == expected
    assert {domain.uuid for domain in (*holding.values(), other, empty)} <= set(done["domains"])
    assert {name for name, domain in holding.items() if domain.discs() != ("", "")} == {"spared"}
    assert other.discs() == (OTHER_ISO, OTHER_ISO) and empty.discs() == ("", "")
    assert statuses(host.module("cdrom_media", **options)) == {}
    assert statuses(eject(host, "held-1", "spared", campaign_id=CAMPAIGN)) == {
        "held-1": "already_empty",
        "spared": "ejected",
    }


def test_a_drive_that_a_failed_change_left_empty_is_filled_again(host: ComputeHost, make: Make) -> None:
    domain = make("ghost").define().start()
    insert(host, "ghost")
    # QEMU refuses a directory only after it took the old disc out.
    host.run("! virsh change-media ghost sda /srv --update --live")
    assert (domain.discs()[0], domain.medium()) == (ISO, "")
    assert statuses(insert(host, "ghost")) == {"ghost": "inserted"}
    assert domain.medium() == ISO
    assert statuses(insert(host, "ghost")) == {"ghost": "already_inserted"}


def test_an_iso_that_vanishes_never_stops_a_domain_from_starting(host: ComputeHost, make: Make) -> None:
    domain = make("boot").define()
    insert(host, "boot")
    host.run(f"mv {ISO} {ISO}.away")
    try:
        domain.start()
        assert domain.medium() == ""
        assert statuses(eject(host, "boot")) == {"boot": "ejected"}
    finally:
        host.run(f"mv {ISO}.away {ISO}")
    assert domain.discs() == ("", "")


def test_a_drive_that_was_added_to_a_running_domain_says_what_it_needs(host: ComputeHost, make: Make) -> None:
    domain = make("hot", drives=0)
    domain.define().start()
    drive = f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{OTHER_ISO}'/>"
    drive += f"<target dev='sda' bus='scsi'/><readonly/>{ALIAS}</disk>"
    host.run("virsh attach-device hot /dev/stdin --live", stdin=drive)
    [row] = insert(host, "hot")["results"]
    assert row["reason"] == "media_error" and "libvirtd is restarted" in row["detail"]
    assert domain.medium() == OTHER_ISO
    host.run("systemctl restart libvirtd.service")
    assert statuses(insert(host, "hot")) == {"hot": "inserted"}
    assert domain.medium() == ISO


def test_a_foreign_disc_in_the_definition_alone_is_respected(host: ComputeHost, make: Make) -> None:
    domain = make("half").define().start()
    host.run(f"virsh change-media half sda {FOREIGN} --config --insert")
    assert statuses(insert(host, "half")) == {"half": "drive_in_use"}
    assert domain.discs() == ("", FOREIGN)


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (f"{MEDIA}/{CAMPAIGN}/{'f' * 64}.iso", "there is no file"),
        (EMPTY_ISO, "is empty"),
        (FOREIGN, f"put the ISO at {MEDIA}/<campaign_id>/<sha256>.iso"),
        (f"{MEDIA}/{CAMPAIGN}/other.iso", "is not in its place"),
    ],
)
def test_an_iso_that_cannot_serve_fails_the_call_and_changes_nothing(
    host: ComputeHost, make: Make, path: str, named: str
) -> None:
    domain = make("untouched").define().start()
    result = insert(host, "untouched", path=path)
    assert result["failed"] and named in result["msg"] and path in result["msg"]
    assert domain.discs() == ("", "")


def test_check_mode_needs_no_iso_yet(host: ComputeHost, make: Make) -> None:
    make("planned").define().start()
    missing = f"{MEDIA}/{CAMPAIGN}/{'f' * 64}.iso"
    assert statuses(insert(host, "planned", path=missing, check=True)) == {"planned": "inserted"}


@pytest.mark.parametrize("module", ["cdrom_media", "vm_info"])
def test_a_libvirt_that_cannot_be_reached_fails_the_call(host: ComputeHost, isos: None, module: str) -> None:
    uri = "qemu+unix:///system?socket=/run/nowhere"
    arguments: dict[str, Any] = {"vms": ["x"], "path": ISO} if module == "cdrom_media" else {}
    result = host.module(module, uri=uri, **arguments)
    assert result["failed"] and uri in result["msg"] and "/run/nowhere" in result["msg"]


def test_vm_info_lists_every_domain_with_its_drive_and_disc(host: ComputeHost, make: Make) -> None:
    running = make("info-a").define().start()
    make("info-b", disc=FOREIGN).define()
    make("info-c", drives=0).create()
    insert(host, "info-a")
    result = host.module("vm_info")
    assert not result["changed"]
    found = {vm["name"]: vm for vm in result["vms"]}
    assert found["info-a"] == {
        "uuid": running.uuid,
        "name": "info-a",
        "state": "paused",
        "persistent": True,
        "has_channel": True,
        "drive": "sda",
        "drive_reason": "",
        "disc": {"kind": "ours", "campaign_id": CAMPAIGN, "path": ISO},
    }
    assert found["info-b"]["state"] == "shut_off"
    assert found["info-b"]["disc"] == {"kind": "foreign", "campaign_id": "", "path": FOREIGN}
    assert (found["info-c"]["drive"], found["info-c"]["drive_reason"]) == ("", "no_drive")
    assert not found["info-c"]["persistent"]
    assert found["info-c"]["disc"] == {"kind": "empty", "campaign_id": "", "path": ""}


def test_a_disc_that_the_guest_holds_fast_stays_until_the_guest_lets_go() -> None:
    guest = next(guest for guest in cast.GUESTS if guest.has_cdrom and guest.is_running)

    def in_guest(command: str) -> str:
        return console.run(guest.node, guest.name, command)

    with lab_node(cast.node_of(guest.node)) as node:
        node.run(f"mkdir -p {MEDIA}/{CAMPAIGN} && head -c 65536 /dev/urandom > {ISO}")
        try:
            assert statuses(insert(node, guest.name)) == {guest.name: "inserted"}
            in_guest(
                "for i in $(seq 50); do exec 3< /dev/sr0 && break; sleep 0.1; done; sleep 600 <&3 & echo $! > /run/holder"
            )
            [row] = eject(node, guest.name)["results"]
            assert (row["status"], row["reason"]) == ("skipped", "tray_locked"), row
            assert "the guest has the disc mounted" in row["detail"]
            in_guest("kill $(cat /run/holder)")
            assert statuses(eject(node, guest.name)) == {guest.name: "ejected"}
        finally:
            in_guest("kill $(cat /run/holder); rm -f /run/holder; true")
            eject(node, guest.name)
            node.run(f"rm -r {MEDIA}/{CAMPAIGN}")
