# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A compute node: its clock, its ISOs, and what its libvirt says of the domains that run on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isolift_relay.media import (
    DEFAULT_MEDIA_DIR,
    NO_DISC,
    Description,
    Disc,
    DiscKind,
    DomainMedia,
    Drive,
    Reason,
    Refusal,
    parse_path,
    plan_eject,
    plan_insert,
)
from simulation.domain import Domain, Iso
from simulation.ground import Ground
from simulation.kinds import Fault

if TYPE_CHECKING:
    from simulation.relay import RelayProcess

FOREIGN_DISC = "/srv/iso/of-somebody-else.iso"

DRIVE = "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>"

TRAY_S = 5.0
"""Seconds after which libvirt gives up on a tray that the guest locks."""


class Node:
    """One compute node.

    :ivar name: what it is called.
    :ivar skew_s: how far its clock is ahead of the true time.
    :ivar isos: the discs that exist, by path; the same on every node.
    :ivar missing: the paths at which this node has no file, each with the fault that makes it so.
    :ivar libvirt_back_at: when its libvirt answers again; the domains run on meanwhile.
    """

    def __init__(self, ground: Ground, number: int, isos: dict[str, Iso]) -> None:
        self.ground = ground
        self.number = number
        self.name = f"node{number}"
        self.isos = isos
        self.skew_s = 0.0
        self.missing: dict[str, Fault] = {}
        self.libvirt_back_at = 0.0
        self.domains: list[Domain] = []
        self.random = ground.random()
        self.relay: RelayProcess

    def clock(self) -> float:
        """What the node's clock shows."""
        return self.ground.now + self.skew_s

    def has_iso(self, path: str) -> bool:
        """Whether there is a file at ``path``."""
        if path in self.missing:
            self.ground.bite(self.missing[path])
            return False
        return path == FOREIGN_DISC or path in self.isos

    @property
    def has_libvirt(self) -> bool:
        """Whether its libvirt answers."""
        return self.ground.now >= self.libvirt_back_at

    def lose_libvirt(self, seconds: float, domains: list[Domain]) -> bool:
        """Its libvirt is gone for some seconds; the relay looks at every domain when it has found it again."""
        if not self.has_libvirt:
            return False
        self.libvirt_back_at = self.ground.now + seconds
        for domain in domains:
            self.ground.at(self.libvirt_back_at, self.domain_changed, domain)
        return True

    def domain_changed(self, domain: Domain) -> None:
        """libvirt says that something happened to a domain; the relay looks at it a moment later."""
        relay = self.relay
        if relay.alive and self.has_libvirt:
            relay.later(self.random.uniform(0.001, 0.3), relay.look, domain)

    def runs(self, domain: Domain) -> bool:
        """Whether the domain runs here now."""
        return domain.is_running and domain.node is self

    def insert(self, domain: Domain, path: str) -> tuple[float, Reason | None]:
        """Put the ISO into the domain's drive: (how long that takes, what prevents it)."""
        if not self.has_libvirt:
            return 0.01, Reason.MEDIA_ERROR
        if not self.runs(domain):
            return 0.01, Reason.NO_DOMAIN
        steps = plan_insert(_media(domain), path, DEFAULT_MEDIA_DIR)
        if isinstance(steps, Refusal):
            return 0.01, steps.reason
        if not steps:
            return 0.01, None
        if not self.has_iso(path):
            return 0.01, Reason.NO_MEDIA
        if domain.disc and domain.is_mounted:
            return TRAY_S, Reason.TRAY_LOCKED
        domain.disc = path
        return self.random.uniform(0.01, 0.5), None

    def eject(self, domain: Domain, campaign_id: str) -> tuple[float, Reason | None]:
        """Take a campaign's ISO out of the domain's drive."""
        if not self.has_libvirt:
            return 0.01, Reason.MEDIA_ERROR
        if domain.node is not self:
            return 0.01, Reason.NO_DOMAIN
        if not plan_eject(_media(domain), campaign_id):
            return 0.01, None
        if domain.is_mounted:
            return TRAY_S, Reason.TRAY_LOCKED
        domain.disc = ""
        return self.random.uniform(0.01, 0.1), None


def _media(domain: Domain) -> DomainMedia:
    """What libvirt says of the domain's drive."""
    drive = Drive(target="sda", disc=_disc(domain.disc), tray_open=False, xml=DRIVE)
    return DomainMedia(live=Description(drive, (drive,), True, domain.port.path), config=None)


def _disc(path: str) -> Disc:
    if not path:
        return NO_DISC
    ours = parse_path(path, DEFAULT_MEDIA_DIR)
    return Disc(DiscKind.OURS, path, *ours) if ours else Disc(DiscKind.FOREIGN, path)
