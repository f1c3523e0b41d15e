# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CD-ROM drive: what domain XML says, and which steps bring it to the wanted state."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ansible_collections.isolift.vm.plugins.module_utils.hypervisor import means_lost, reason_of
from ansible_collections.isolift.vm.plugins.module_utils.media import (
    DRIVE_ALIAS,
    NO_DISC,
    Disc,
    DiscKind,
    DomainMedia,
    Drive,
    Plan,
    Reason,
    Refusal,
    Scope,
    parse,
    parse_path,
    plan_eject,
    plan_insert,
)

MEDIA = "/var/lib/isolift/media"
CAMPAIGN = "0198c5a2-7d4e-7b1a-9c3f-2f6e8d0a1b2c"
OTHER = "0198c5a2-7d4e-7b1a-9c3f-2f6e8d0a1b2d"
ISO = f"{MEDIA}/{CAMPAIGN}/{'a' * 64}.iso"
OTHER_ISO = f"{MEDIA}/{OTHER}/{'b' * 64}.iso"
FOREIGN = "/srv/iso/debian.iso"


def drive(
    path: str = "", *, alias: str = "ua-isolift-cdrom", target: str = "sda", tray: str = "", more: str = ""
) -> str:
    source = f"<source file='{path}' startupPolicy='optional' index='4'/><backingStore/>" if path else more
    return (
        f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>{source}"
        f"<target dev='{target}' bus='scsi'{tray and f' tray={tray!r}'}/><readonly/><alias name='{alias}'/>"
        "<address type='drive' controller='0' bus='0' target='0' unit='3'/></disk>"
    )


def domain(*devices: str) -> str:
    hard_disk = "<disk type='file' device='disk'><source file='/srv/vm.qcow2'/><target dev='vda' bus='virtio'/></disk>"
    return f"<domain type='kvm'><name>desk</name><devices>{hard_disk}{''.join(devices)}</devices></domain>"


def media(live: str | None, config: str | None, ghost: bool = False) -> DomainMedia:
    return DomainMedia(
        parse(domain(live), MEDIA) if live is not None else None,
        parse(domain(config), MEDIA) if config is not None else None,
        ghost,
    )


def words(plan: Plan) -> list[str]:
    assert not isinstance(plan, Refusal), plan
    return [f"{step.scope.value} {step.action.value}" for step in plan]


def refusal(plan: Plan) -> Refusal:
    assert isinstance(plan, Refusal), plan
    return plan


def found_drive(*devices: str) -> Drive:
    found = parse(domain(*devices), MEDIA).drive
    assert isinstance(found, Drive), found
    return found


# Reading


def test_the_drive_with_the_alias_goes_before_any_other() -> None:
    found = found_drive(drive(FOREIGN, alias="sata0-0-0", target="sdb"), drive(ISO))
    assert (found.target, found.disc) == ("sda", Disc(DiscKind.OURS, ISO, CAMPAIGN, "a" * 64))


def test_without_the_alias_the_only_drive_is_taken() -> None:
    assert found_drive(drive(alias="ide0-0-0", target="hda")).target == "hda"


def test_several_drives_without_the_alias_are_ambiguous_and_none_is_no_drive() -> None:
    two = parse(domain(drive(alias="a", target="sdx"), drive(alias="b", target="sdy")), MEDIA).drive
    assert isinstance(two, Refusal) and two.reason is Reason.DRIVE_AMBIGUOUS
    assert "sdx, sdy" in two.detail and "ua-isolift-cdrom" in two.detail
    none = parse(domain(), MEDIA).drive
    assert isinstance(none, Refusal) and none.reason is Reason.NO_DRIVE


@pytest.mark.parametrize("left", ["", "<source index='4'/>", "<source startupPolicy='optional'/>"])
def test_what_libvirt_leaves_in_an_empty_drive_is_no_disc(left: str) -> None:
    assert found_drive(drive(more=left)).disc == NO_DISC


@pytest.mark.parametrize(
    "source",
    [
        "<source dev='/dev/sr0'/>",
        "<source protocol='https' name='x.iso'><host name='example.org'/></source>",
        "<source pool='images' volume='x.iso'/>",
        "<source><slices/></source>",
    ],
)
def test_a_disc_that_is_not_a_file_is_foreign(source: str) -> None:
    assert found_drive(drive(more=source)).disc.kind is DiscKind.FOREIGN


@pytest.mark.parametrize(
    "path",
    [
        FOREIGN,
        f"{MEDIA}/{CAMPAIGN}/{'a' * 63}.iso",
        f"{MEDIA}/{CAMPAIGN}/{'A' * 64}.iso",
        f"{MEDIA}/{CAMPAIGN}/{'a' * 64}.iso.part",
        f"{MEDIA}/{CAMPAIGN}/../{CAMPAIGN}/{'a' * 64}.iso",
        f"{MEDIA}2/{CAMPAIGN}/{'a' * 64}.iso",
        f"{MEDIA}/{CAMPAIGN.upper()}/{'a' * 64}.iso",
        f"{MEDIA}/{'a' * 64}.iso",
    ],
)
def test_a_path_that_is_not_exactly_ours_is_foreign(path: str) -> None:
    assert parse_path(path, MEDIA) is None
    assert found_drive(drive(path)).disc == Disc(DiscKind.FOREIGN, path)


def test_a_trailing_slash_of_the_media_directory_does_not_matter() -> None:
    assert parse_path(ISO, MEDIA + "/") == (CAMPAIGN, "a" * 64)


def test_the_channel_is_found_by_its_name_and_its_path_read() -> None:
    def channel(name: str, kind: str = "unix") -> str:
        source = f"<source mode='bind' path='/run/{name}.sock'/>"
        return f"<channel type='{kind}'>{source}<target type='virtio' name='{name}'/></channel>"

    guest_agent = channel("org.qemu.guest_agent.0")
    found = parse(domain(guest_agent, channel("org.isolift.agent.0")), MEDIA)
    assert (found.has_channel, found.channel_path) == (True, "/run/org.isolift.agent.0.sock")
    assert not parse(domain(guest_agent), MEDIA).has_channel
    assert not parse(domain(channel("org.isolift.agent.0", kind="spicevmc")), MEDIA).has_channel


def test_the_persistent_description_of_a_channel_has_no_path() -> None:
    xml = domain("<channel type='unix'><target type='virtio' name='org.isolift.agent.0'/></channel>")
    assert (parse(xml, MEDIA).has_channel, parse(xml, MEDIA).channel_path) == (True, "")


@given(st.text())
def test_anything_that_is_not_xml_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a domain's XML"):
        parse("<domain" + text, MEDIA)


# Planning


def test_a_running_persistent_domain_gets_the_disc_in_both_descriptions() -> None:
    assert words(plan_insert(media(drive(), drive()), ISO, MEDIA)) == ["live insert", "config insert"]


def test_a_transient_domain_gets_it_live_and_one_that_is_shut_off_in_its_definition() -> None:
    assert words(plan_insert(media(drive(), None), ISO, MEDIA)) == ["live insert"]
    assert words(plan_insert(media(None, drive()), ISO, MEDIA)) == ["config insert"]


def test_inserting_twice_does_nothing_the_second_time() -> None:
    assert words(plan_insert(media(drive(ISO), drive(ISO)), ISO, MEDIA)) == []


def test_what_only_one_description_has_is_completed() -> None:
    assert words(plan_insert(media(drive(ISO), drive()), ISO, MEDIA)) == ["config insert"]
    assert words(plan_insert(media(drive(), drive(ISO)), ISO, MEDIA)) == ["live insert"]


def test_a_disc_of_another_campaign_is_ejected_before_the_live_insert() -> None:
    plan = plan_insert(media(drive(OTHER_ISO), drive(OTHER_ISO)), ISO, MEDIA)
    assert words(plan) == ["live eject", "live insert", "config insert"]


@pytest.mark.parametrize(("live", "config"), [(FOREIGN, ""), ("", FOREIGN), (ISO, FOREIGN), (FOREIGN, ISO)])
def test_a_foreign_disc_in_either_description_is_never_replaced(live: str, config: str) -> None:
    found = refusal(plan_insert(media(drive(live), drive(config)), ISO, MEDIA))
    assert found.reason is Reason.DRIVE_IN_USE and FOREIGN in found.detail


def test_a_drive_that_is_empty_under_a_disc_of_that_name_is_emptied_and_loaded() -> None:
    by_tray = media(drive(ISO, tray="open"), drive(ISO))
    by_probe = media(drive(ISO), drive(ISO), ghost=True)
    for found in (by_tray, by_probe):
        assert words(plan_insert(found, ISO, MEDIA)) == ["live eject", "live insert"]


def test_a_running_domain_without_a_drive_is_refused_although_its_definition_has_one() -> None:
    assert refusal(plan_insert(media("", drive()), ISO, MEDIA)).reason is Reason.NO_DRIVE


def test_a_drive_that_the_definition_lacks_is_changed_live_only() -> None:
    assert words(plan_insert(media(drive(), ""), ISO, MEDIA)) == ["live insert"]


def test_an_iso_outside_of_the_media_directory_is_refused() -> None:
    found = refusal(plan_insert(media(drive(), drive()), FOREIGN, MEDIA))
    assert found.reason is Reason.MEDIA_ERROR and FOREIGN in found.detail


def test_ejecting_takes_our_disc_out_of_both_and_no_other() -> None:
    assert words(plan_eject(media(drive(ISO), drive(OTHER_ISO)))) == ["live eject", "config eject"]
    assert words(plan_eject(media(drive(FOREIGN), drive(ISO)))) == ["config eject"]
    assert words(plan_eject(media(drive(FOREIGN), drive(FOREIGN)))) == []
    assert words(plan_eject(media(drive(), drive()))) == []


def test_ejecting_for_a_campaign_leaves_the_disc_of_another() -> None:
    assert words(plan_eject(media(drive(OTHER_ISO), drive(ISO)), CAMPAIGN)) == ["config eject"]


@pytest.mark.parametrize("second", ["b", DRIVE_ALIAS])
def test_our_disc_leaves_the_drive_that_it_is_in_whichever_is_dedicated_now(second: str) -> None:
    def two(path: str) -> str:
        return drive(path, alias="a", target="sdx") + drive(FOREIGN, alias=second, target="sdy")

    assert words(plan_eject(media(two(FOREIGN), two("")))) == []
    (step,) = plan_eject(media(two(ISO), two("")))
    assert step.target == "sdx"
    assert words(plan_eject(media("", drive(ISO)))) == ["config eject"]
    assert words(plan_eject(media("", ""))) == []


def test_a_disc_of_ours_is_seen_in_whichever_drive_it_is() -> None:
    two = drive(ISO, alias="a", target="sdx") + drive(target="sdy")
    assert media(two, two).disc.path == ISO


def test_only_the_disc_of_a_campaign_that_may_be_replaced_is() -> None:
    held = media(drive(OTHER_ISO), drive(OTHER_ISO))
    found = refusal(plan_insert(held, ISO, MEDIA, replace=[]))
    assert found.reason is Reason.DRIVE_TAKEN and OTHER in found.detail
    assert refusal(plan_insert(media(drive(), drive(OTHER_ISO)), ISO, MEDIA, replace=[])) == found
    assert words(plan_insert(held, ISO, MEDIA, replace=[OTHER])) == words(plan_insert(held, ISO, MEDIA))
    assert words(plan_insert(media(drive(), drive(ISO)), ISO, MEDIA, replace=[])) == ["live insert"]


def test_a_step_keeps_the_drive_as_libvirt_described_it_but_for_its_medium() -> None:
    plan = plan_insert(media(drive(OTHER_ISO, tray="open"), None), ISO, MEDIA)
    assert not isinstance(plan, Refusal)
    eject, insert = (ElementTree.fromstring(step.xml) for step in plan)
    for element in (eject, insert):
        assert element.find("target[@dev='sda'][@bus='scsi']") is not None
        assert element.find("target[@tray]") is None
        assert element.find("alias[@name='ua-isolift-cdrom']") is not None
        assert element.find("address[@unit='3']") is not None
        assert element.find("backingStore") is None
    assert eject.find("source") is None
    source = insert.find("source")
    assert source is not None and source.attrib == {"file": ISO, "startupPolicy": "optional"}


def test_a_step_turns_a_drive_for_host_devices_into_one_for_files() -> None:
    host_drive = "<disk type='block' device='cdrom'><target dev='sda' bus='scsi'/></disk>"
    plan = plan_insert(media(None, host_drive), ISO, MEDIA)
    assert not isinstance(plan, Refusal)
    assert ElementTree.fromstring(plan[0].xml).get("type") == "file"


discs = st.sampled_from(["", ISO, OTHER_ISO, FOREIGN])
descriptions = st.one_of(
    st.none(),
    st.just(""),
    st.builds(lambda path, tray: drive(path, tray=tray), discs, st.sampled_from(["", "open"])),
    st.builds(lambda path: drive(path, alias="a", target="sdx") + drive(alias="b", target="sdy"), discs),
)


@given(live=descriptions, config=descriptions, ghost=st.booleans(), campaign=st.sampled_from(["", CAMPAIGN]))
def test_no_plan_ever_touches_a_foreign_disc(
    live: str | None, config: str | None, ghost: bool, campaign: str
) -> None:
    assume(live is not None or config is not None)
    found = media(live, config, ghost)
    sides = {Scope.LIVE: found.live, Scope.CONFIG: found.config}
    insert, eject = plan_insert(found, ISO, MEDIA), plan_eject(found, campaign)
    for plan, may_hold in ((insert, {DiscKind.EMPTY, DiscKind.OURS}), (eject, {DiscKind.OURS})):
        for step in () if isinstance(plan, Refusal) else plan:
            side = sides[step.scope]
            assert side is not None
            (touched,) = (one for one in side.cdroms if one.target == step.target)
            assert touched.disc.kind in may_hold


# libvirt's errors, as it words them


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (8, "invalid argument: target sda doesn't exist.", Reason.NO_DRIVE),
        (1, "internal error: disk 'sda' not found", Reason.NO_DRIVE),
        (38, "Cannot access storage file '/x.iso': No such file or directory", Reason.NO_MEDIA),
        (9, "operation failed: timed out waiting to open tray of 'sda'", Reason.TRAY_LOCKED),
        (55, "Requested operation is not valid: domain is not running", Reason.SHUT_OFF),
        (55, "transient domains do not have any persistent config", Reason.MEDIA_ERROR),
        (84, "Operation not supported: cannot modify field 'bus' of the disk", Reason.MEDIA_ERROR),
        (42, "Domain not found: no domain with matching name 'x'", Reason.NO_DOMAIN),
        (29, "operation forbidden: read only access prevents virDomainUpdateDeviceFlags", Reason.MEDIA_ERROR),
        (1, "internal error: unable to execute QEMU command 'blockdev-add': x", Reason.MEDIA_ERROR),
    ],
)
def test_every_error_of_libvirt_has_its_reason(code: int, text: str, reason: Reason) -> None:
    found, detail = reason_of(code, text)
    assert found is reason and text in detail


def test_a_hot_added_drive_is_explained() -> None:
    text = "internal error: unable to execute QEMU command 'blockdev-remove-medium': Tray of device 'x' is not open"
    reason, detail = reason_of(1, text)
    assert reason is Reason.MEDIA_ERROR and "libvirtd is restarted" in detail


def test_a_lost_daemon_is_told_from_a_lost_disc() -> None:
    assert means_lost(
        38, "Failed to connect socket to '/run/libvirt/libvirt-sock': No such file or directory"
    )
    assert means_lost(1, "internal error: client socket is closed")
    assert not means_lost(38, "Cannot access storage file '/x.iso': No such file or directory")
