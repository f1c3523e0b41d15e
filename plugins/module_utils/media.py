# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions about a domain's CD-ROM drive, made from its XML alone.

A domain has up to two descriptions: the live one of its running QEMU and the persistent one used at its next start. Each
is read on its own (`parse`), because their drives may differ, and `plan_insert` and `plan_eject` say which changes bring
both to the wanted state. Nothing here talks to libvirt; hypervisor.py performs the steps.
"""

from __future__ import annotations

import copy
import posixpath
import re
from dataclasses import dataclass
from enum import Enum
from typing import Container, NamedTuple, Sequence, Tuple, Union
from xml.etree import ElementTree

CHANNEL_NAME = "org.isolift.agent.0"
"""Name of the agent's virtio-serial port."""

DRIVE_ALIAS = "ua-isolift-cdrom"
"""User alias of the dedicated drive."""

DEFAULT_MEDIA_DIR = "/var/lib/isolift/media"
DEFAULT_URI = "qemu:///system"


class Reason(Enum):
    """Why a domain cannot get, or lose, a disc. The words are stable: they travel in messages and in results."""

    NO_DOMAIN = "no_domain"
    NO_DRIVE = "no_drive"
    DRIVE_AMBIGUOUS = "drive_ambiguous"
    DRIVE_IN_USE = "drive_in_use"
    DRIVE_TAKEN = "drive_taken"
    NO_MEDIA = "no_media"
    TRAY_LOCKED = "tray_locked"
    NO_CHANNEL = "no_channel"
    SHUT_OFF = "shut_off"
    MEDIA_ERROR = "media_error"


class DiscKind(Enum):
    """Whose disc is in a drive."""

    EMPTY = "empty"
    OURS = "ours"
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Disc:
    """What is in a drive. ``campaign_id`` and ``sha256`` are known for a disc of ours only."""

    kind: DiscKind
    path: str = ""
    campaign_id: str = ""
    sha256: str = ""


NO_DISC = Disc(DiscKind.EMPTY)


@dataclass(frozen=True)
class Drive:
    """The dedicated drive as one description has it.

    ``tray_open`` is true where libvirt saw the tray open: the guest ejected the disc, or a failed change left the drive
    empty although the description still names a disc. ``xml`` is the drive's own element.
    """

    target: str
    disc: Disc
    tray_open: bool
    xml: str


class Refusal(NamedTuple):
    """Why nothing can be done, with a detail that a person can act on."""

    reason: Reason
    detail: str


@dataclass(frozen=True)
class Description:
    """What matters here of one domain XML.

    ``drive`` is the dedicated one, or a `Refusal` where no drive can be told apart; ``cdroms`` holds all CD-ROM drives;
    ``channel_path`` is the host's end of the agent's port, known for a running domain only.
    """

    drive: Drive | Refusal
    cdroms: tuple[Drive, ...]
    has_channel: bool
    channel_path: str


class Scope(Enum):
    """Which description a step changes."""

    LIVE = "live"
    CONFIG = "config"


class Action(Enum):
    """What a step does to the drive."""

    INSERT = "insert"
    EJECT = "eject"


@dataclass(frozen=True)
class Step:
    """One device update: ``xml`` is the drive's element as it shall be, in the description ``scope``."""

    scope: Scope
    action: Action
    target: str
    xml: str


Plan = Union[Tuple[Step, ...], Refusal]


@dataclass(frozen=True)
class DomainMedia:
    """Both descriptions of one domain; the one that it does not have is None.

    ``ghost`` is true where the hypervisor sees no medium behind the disc that the live description names.
    """

    live: Description | None
    config: Description | None
    ghost: bool = False

    @property
    def front(self) -> Description:
        """The description that the guest sees, or will see at its next start.

        :raises ValueError: there is neither; libvirt has no such domain.
        """
        description = self.live or self.config
        if description is None:
            raise ValueError("a domain has a live or a persistent description")
        return description

    @property
    def disc(self) -> Disc:
        """The disc that decides what may be done: a foreign one in the dedicated drive before one of ours in any, the live one first."""
        sides = [side for side in (self.live, self.config) if side]
        dedicated = [side.drive.disc for side in sides if isinstance(side.drive, Drive)]
        every = [drive.disc for side in sides for drive in side.cdroms]
        decisive = [disc for disc in dedicated if disc.kind is DiscKind.FOREIGN]
        decisive += [disc for disc in dedicated + every if disc.kind is DiscKind.OURS]
        return decisive[0] if decisive else NO_DISC


class MediaPath(NamedTuple):
    """The parts of ``<media_dir>/<campaign_id>/<sha256>.iso``."""

    campaign_id: str
    sha256: str


_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MEDIA_NAME = re.compile(rf"({_UUID})/([0-9a-f]{{64}})\.iso")


def parse_path(path: str, media_dir: str) -> MediaPath | None:
    """Whose disc ``path`` is, or None if it is not laid out as ours are."""
    prefix = posixpath.normpath(media_dir) + "/"
    if not path.startswith(prefix):
        return None
    found = _MEDIA_NAME.fullmatch(path[len(prefix) :])
    return MediaPath(found.group(1), found.group(2)) if found else None


def parse(xml: str, media_dir: str) -> Description:
    """Reads one domain XML.

    :raises ValueError: ``xml`` is not a domain's XML.
    """
    try:
        domain = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise ValueError(f"not a domain's XML: {error}") from error
    cdroms = domain.findall("./devices/disk[@device='cdrom']")
    has_channel, channel_path = _channel(domain)
    return Description(
        drive=_find_drive(cdroms, media_dir),
        cdroms=tuple(_drive(element, media_dir) for element in cdroms),
        has_channel=has_channel,
        channel_path=channel_path,
    )


def plan_insert(media: DomainMedia, path: str, media_dir: str, replace: Container[str] | None = None) -> Plan:
    """The steps that put the ISO ``path`` into the drive; none if it is there already.

    A disc of ours is replaced if it is of a campaign in ``replace``, of any if that is None; a foreign one never. A running domain
    without a drive is refused even if it will have one at its next start.
    """
    own = parse_path(path, media_dir)
    if own is None:
        return Refusal(
            Reason.MEDIA_ERROR, f"{path} is not <media_dir>/<campaign_id>/<sha256>.iso in {media_dir}"
        )
    if isinstance(media.front.drive, Refusal):
        return media.front.drive
    if media.disc.kind is DiscKind.FOREIGN:
        return Refusal(
            Reason.DRIVE_IN_USE, f"the drive holds {media.disc.path}, which is not ours: left as it is"
        )
    steps: list[Step] = []
    for scope, drive in _drives(media):
        campaign_id = drive.disc.campaign_id
        if replace is not None and campaign_id not in ("", own.campaign_id) and campaign_id not in replace:
            return Refusal(Reason.DRIVE_TAKEN, f"the drive holds the disc of campaign {campaign_id}")
        lost = scope is Scope.LIVE and (drive.tray_open or media.ghost)
        if drive.disc.path == path and not lost:
            continue
        # A live change over a loaded drive that fails leaves the drive empty under the old name, and an insert of the
        # same name is then a no-op: so the drive is always emptied first.
        if scope is Scope.LIVE and drive.disc.kind is not DiscKind.EMPTY:
            steps.append(_step(scope, Action.EJECT, drive, ""))
        steps.append(_step(scope, Action.INSERT, drive, path))
    return tuple(steps)


def plan_eject(media: DomainMedia, campaign_id: str = "") -> tuple[Step, ...]:
    """The steps that take our disc out; none if there is none of ours, or none of ``campaign_id`` where that is given.

    Its path says that it is ours, so it leaves any CD-ROM drive: which one is dedicated may have changed since it was inserted.
    """
    sides = ((Scope.LIVE, media.live), (Scope.CONFIG, media.config))
    return tuple(
        _step(scope, Action.EJECT, drive, "")
        for scope, side in sides
        if side
        for drive in side.cdroms
        if _is_of(drive.disc, campaign_id)
    )


def _drives(media: DomainMedia) -> list[tuple[Scope, Drive]]:
    sides = ((Scope.LIVE, media.live), (Scope.CONFIG, media.config))
    return [(scope, side.drive) for scope, side in sides if side and isinstance(side.drive, Drive)]


def _is_of(disc: Disc, campaign_id: str) -> bool:
    return disc.kind is DiscKind.OURS and campaign_id in ("", disc.campaign_id)


def _find_drive(cdroms: Sequence[ElementTree.Element], media_dir: str) -> Drive | Refusal:
    dedicated = [element for element in cdroms if _attribute(element, "alias", "name") == DRIVE_ALIAS]
    found = dedicated or list(cdroms)
    if not found:
        return Refusal(
            Reason.NO_DRIVE, f"the domain has no CD-ROM drive: add one with the alias {DRIVE_ALIAS}"
        )
    if len(found) > 1:
        names = ", ".join(_attribute(element, "target", "dev") for element in found)
        return Refusal(
            Reason.DRIVE_AMBIGUOUS, f"CD-ROM drives {names}: give one of them the alias {DRIVE_ALIAS}"
        )
    return _drive(found[0], media_dir)


def _drive(element: ElementTree.Element, media_dir: str) -> Drive:
    return Drive(
        target=_attribute(element, "target", "dev"),
        disc=_disc(element, media_dir),
        tray_open=_attribute(element, "target", "tray") == "open",
        xml=ElementTree.tostring(element, encoding="unicode"),
    )


def _disc(element: ElementTree.Element, media_dir: str) -> Disc:
    source = element.find("source")
    # libvirt leaves <source index='4'/> or <source startupPolicy='optional'/> in an empty drive.
    named = (
        []
        if source is None
        else [value for key, value in source.items() if key not in ("index", "startupPolicy")]
    )
    if source is None or (not named and not len(source)):
        return NO_DISC
    path = source.get("file", "")
    ours = parse_path(path, media_dir)
    if ours is None:
        return Disc(DiscKind.FOREIGN, path or " ".join(named))
    return Disc(DiscKind.OURS, path, ours.campaign_id, ours.sha256)


def _channel(domain: ElementTree.Element) -> tuple[bool, str]:
    """Whether the domain has the agent's port, and the host's end of it."""
    for channel in domain.findall("./devices/channel[@type='unix']"):
        if (
            _attribute(channel, "target", "type") == "virtio"
            and _attribute(channel, "target", "name") == CHANNEL_NAME
        ):
            return True, _attribute(channel, "source", "path")
    return False, ""


def _attribute(element: ElementTree.Element, child: str, name: str) -> str:
    found = element.find(child)
    return "" if found is None else found.get(name, "")


def _step(scope: Scope, action: Action, drive: Drive, path: str) -> Step:
    """The drive as libvirt described it, with another medium: its bus, target, alias and address must not change."""
    element = copy.deepcopy(ElementTree.fromstring(drive.xml))
    for name in ("source", "backingStore"):
        for child in element.findall(name):
            element.remove(child)
    target = element.find("target")
    if target is not None:
        target.attrib.pop("tray", None)
    element.set("type", "file")
    if path:
        # optional: a missing ISO must never stop a domain from booting or migrating
        ElementTree.SubElement(element, "source", {"file": path, "startupPolicy": "optional"})
    return Step(scope, action, drive.target, ElementTree.tostring(element, encoding="unicode"))
