# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt: the connection, its errors, and the steps that media.py plans.

Every call blocks. A `Hypervisor` may be used by several threads at once, but not for the same domain.
"""

from __future__ import annotations

import os
import re
import stat
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Container, Iterator

from .media import (
    Disc,
    DiscKind,
    DomainMedia,
    Plan,
    Reason,
    Refusal,
    Scope,
    Step,
    parse,
    plan_eject,
    plan_insert,
)

try:
    import libvirt

    LIBVIRT_IMPORT_ERROR: str | None = None
except ImportError:
    libvirt = None
    LIBVIRT_IMPORT_ERROR = traceback.format_exc()

INTERNAL_ERROR = 1
INVALID_ARG = 8
OPERATION_FAILED = 9
SYSTEM_ERROR = 38
NO_DOMAIN = 42
OPERATION_INVALID = 55

_REASONS: tuple[tuple[int, str, Reason, str], ...] = (
    (NO_DOMAIN, "", Reason.NO_DOMAIN, ""),
    (INVALID_ARG, r"target \S+ doesn't exist", Reason.NO_DRIVE, ""),
    (INTERNAL_ERROR, r"disk '\S+' not found", Reason.NO_DRIVE, ""),
    (SYSTEM_ERROR, r"Cannot access storage file", Reason.NO_MEDIA, ""),
    (
        OPERATION_FAILED,
        r"timed out waiting to open tray",
        Reason.TRAY_LOCKED,
        "the guest has the disc mounted",
    ),
    (OPERATION_INVALID, r"domain is not running", Reason.SHUT_OFF, ""),
    (
        INTERNAL_ERROR,
        r"[Tt]ray of device '?\S+'? is not open",
        Reason.MEDIA_ERROR,
        "a drive added to a running domain changes its disc only after libvirtd is restarted",
    ),
)
"""libvirt's code, a pattern of its text, what that means for a disc, and what a person should know besides."""

_LOST = ((SYSTEM_ERROR, r"Failed to connect socket"), (INTERNAL_ERROR, r"client socket is closed"))

_PAUSED = 3
_ELSEWHERE = (2, 11, 12)
"""libvirt's reasons for a pause that belong to an arrival or a departure: migration, starting up, post-copy."""

_STATES = ("unknown", "running", "running", "paused", "running", "shut_off", "crashed", "suspended")
"""libvirt's domain states, by number; blocked and being shut down are both running."""


class HypervisorError(Exception):
    """Base of what goes wrong with libvirt. The text says what was tried and what libvirt said."""


class ConnectionLost(HypervisorError):
    """libvirt cannot be reached, or can no longer be."""


class MediaError(HypervisorError):
    """One domain's drive could not be brought to the wanted state.

    :ivar reason: why, in one word.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class DomainInfo:
    """One domain. ``drive`` is the target's name (such as ``sda``) or why there is none.

    ``is_elsewhere`` is true while it is paused here because it is still arriving, or has just moved to another host.
    """

    uuid: str
    name: str
    state: str
    is_elsewhere: bool
    persistent: bool
    has_channel: bool
    channel_path: str
    drive: str | Refusal
    disc: Disc


@dataclass(frozen=True)
class Unreadable:
    """A domain that libvirt lists and cannot describe; ``detail`` says why."""

    uuid: str
    name: str
    detail: str


@dataclass(frozen=True)
class Change:
    """What was done to one domain's drive, or would be: the disc that decided before, and the one wanted after."""

    steps: tuple[Step, ...]
    before: Disc
    after: str

    @property
    def changed(self) -> bool:
        return bool(self.steps)


def reason_of(code: int, text: str) -> tuple[Reason, str]:
    """What libvirt's error ``code`` with ``text`` means for a disc, and a detail for a person."""
    for known, pattern, reason, hint in _REASONS:
        if code == known and re.search(pattern, text):
            return reason, f"{text} ({hint})" if hint else text
    return Reason.MEDIA_ERROR, text


def means_lost(code: int, text: str) -> bool:
    """Whether libvirt's error says that the daemon is gone."""
    return any(code == known and re.search(pattern, text) for known, pattern in _LOST)


class Hypervisor:
    """One connection to libvirt, and the discs of its domains."""

    def __init__(self, connection: Any, media_dir: str) -> None:
        self.connection = connection
        self.media_dir = media_dir

    @classmethod
    def open(cls, uri: str, media_dir: str, read_only: bool = False) -> Hypervisor:
        """Connects to ``uri``.

        :raises ConnectionLost: there is no libvirt binding for this Python, or libvirt does not answer.
        """
        if libvirt is None:
            raise ConnectionLost("Python has no module libvirt: install python3-libvirt")
        libvirt.registerErrorHandler(_silent, None)  # else the binding prints every error to stderr as well
        try:
            connection = libvirt.openReadOnly(uri) if read_only else libvirt.open(uri)
        except libvirt.libvirtError as error:
            raise ConnectionLost(f"cannot connect to libvirt at {uri}: {error}") from error
        return cls(connection, media_dir)

    def close(self) -> None:
        """Ends the connection; one that is already broken is none to end."""
        try:
            self.connection.close()
        except libvirt.libvirtError as error:
            if self._is_alive():
                raise HypervisorError(f"cannot close the connection to libvirt: {error}") from error

    def domains(self) -> tuple[list[DomainInfo], list[Unreadable]]:
        """All domains of this host, running or not, and those that cannot be described. One that vanishes meanwhile is in neither.

        :raises HypervisorError: libvirt cannot be reached or refuses to list them.
        """
        found = self.every()
        described: list[DomainInfo] = []
        unreadable: list[Unreadable] = []
        for domain in found:
            try:
                described.append(self.describe(domain))
            except MediaError as error:
                if error.reason is not Reason.NO_DOMAIN:
                    unreadable.append(Unreadable(domain.UUIDString(), domain.name(), error.detail))
            except ValueError as error:
                unreadable.append(Unreadable(domain.UUIDString(), domain.name(), str(error)))
        return described, unreadable

    def every(self) -> list[Any]:
        """All domains of this host.

        :raises HypervisorError: libvirt cannot be reached or refuses to list them.
        """
        with self._errors("list the domains"):
            return list(self.connection.listAllDomains())

    def find(self, vm: str) -> Any:
        """The domain whose UUID or name is ``vm``; a UUID goes before a name that looks like one.

        :raises MediaError: no_domain.
        """
        lookups: list[Callable[[str], Any]] = [self.connection.lookupByName]
        if re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", vm):
            lookups.insert(0, self.connection.lookupByUUIDString)
        for lookup in lookups:
            try:
                with self._errors(f"look up {vm}"):
                    return lookup(vm)
            except MediaError as error:
                if error.reason is not Reason.NO_DOMAIN:
                    raise
        raise MediaError(Reason.NO_DOMAIN, f"this host has no domain {vm}")

    def find_uuid(self, uuid: str) -> Any:
        """The domain whose UUID is ``uuid``, and none that merely has it for a name.

        :raises MediaError: no_domain.
        """
        with self._errors(f"look up {uuid}"):
            return self.connection.lookupByUUIDString(uuid)

    def describe(self, domain: Any) -> DomainInfo:
        """What matters here of one domain.

        :raises MediaError: libvirt refuses, for example because the domain is gone.
        """
        with self._errors(f"read {domain.name()}"):
            state, cause = domain.state()
        media = self._read(domain)
        front = media.front
        return DomainInfo(
            uuid=domain.UUIDString(),
            name=domain.name(),
            state=_STATES[state] if state < len(_STATES) else _STATES[0],
            is_elsewhere=state == _PAUSED and cause in _ELSEWHERE,
            persistent=media.config is not None,
            has_channel=front.has_channel,
            channel_path=media.live.channel_path if media.live else "",
            drive=front.drive if isinstance(front.drive, Refusal) else front.drive.target,
            disc=media.disc,
        )

    def insert(
        self, domain: Any, path: str, dry_run: bool = False, replace: Container[str] | None = None
    ) -> Change:
        """Puts the ISO ``path`` into the dedicated drive, in the live and the persistent description.

        :param dry_run: plan only; the ISO need not be there yet.
        :param replace: the campaigns whose disc may give way; None means any.
        :raises MediaError: see `Reason`; a drive with a foreign disc is left as it is.
        :raises ConnectionLost: libvirt went away.
        """
        if not dry_run:  # a play in check mode has not copied the ISO
            check_iso(path)
        return self._apply(
            domain, lambda media: plan_insert(media, path, self.media_dir, replace), path, dry_run, probe=True
        )

    def eject(self, domain: Any, campaign_id: str = "", dry_run: bool = False) -> Change:
        """Takes our disc out of the drives: any of ours, or only the one of ``campaign_id``.

        Other discs stay; that is no error. Parameters and errors are those of `insert`.
        """
        return self._apply(domain, lambda media: plan_eject(media, campaign_id), "", dry_run)

    def _apply(
        self,
        domain: Any,
        plan: Callable[[DomainMedia], Plan],
        after: str,
        dry_run: bool,
        probe: bool = False,
    ) -> Change:
        before = self._read(domain, probe)
        steps = _accepted(plan(before))
        if steps and not dry_run:
            try:
                self._perform(domain, steps)
            except MediaError as error:
                if error.reason is not Reason.SHUT_OFF:
                    raise
                self._perform(domain, _accepted(plan(self._read(domain, probe))))  # it stopped meanwhile
            self._check(domain, plan, probe)
        return Change(steps, before.disc, after)

    def _perform(self, domain: Any, steps: tuple[Step, ...]) -> None:
        flags = {Scope.LIVE: libvirt.VIR_DOMAIN_AFFECT_LIVE, Scope.CONFIG: libvirt.VIR_DOMAIN_AFFECT_CONFIG}
        for step in steps:
            with self._errors(
                f"{step.action.value} in {step.target} of {domain.name()} ({step.scope.value})"
            ):
                domain.updateDeviceFlags(step.xml, flags[step.scope])

    def _check(self, domain: Any, plan: Callable[[DomainMedia], Plan], probe: bool) -> None:
        """Reads back: a plan that has something left to do means that libvirt's success was none."""
        left = _accepted(plan(self._read(domain, probe)))
        if left:
            doing = ", ".join(f"{step.action.value} {step.scope.value}" for step in left)
            raise MediaError(
                Reason.MEDIA_ERROR, f"libvirt reported success, but {domain.name()} still needs: {doing}"
            )

    def _read(self, domain: Any, probe: bool = False) -> DomainMedia:
        """Both descriptions of ``domain``. With ``probe``, also asks QEMU whether the live disc is really there."""
        with self._errors(f"read {domain.name()}"):
            live = domain.XMLDesc(0) if domain.isActive() else None
            config = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) if domain.isPersistent() else None
        media = DomainMedia(
            live=parse(live, self.media_dir) if live else None,
            config=parse(config, self.media_dir) if config else None,
        )
        if media.live is None and media.config is None:
            raise MediaError(Reason.NO_DOMAIN, f"{domain.name()} is gone")
        ghost = probe and self._is_ghost(domain, media)
        return DomainMedia(media.live, media.config, ghost)

    def _is_ghost(self, domain: Any, media: DomainMedia) -> bool:
        """Whether QEMU has no medium behind the disc of ours that the live description names.

        libvirt asks QEMU for the capacity, and reports 0 for a medium that QEMU does not have.
        """
        drive = media.live.drive if media.live else None
        if drive is None or isinstance(drive, Refusal) or drive.disc.kind is not DiscKind.OURS:
            return False
        try:
            with self._errors(f"probe {drive.target} of {domain.name()}"):
                return bool(domain.blockInfo(drive.target)[0] == 0)
        except MediaError as error:
            # The ISO was deleted under the domain, or the domain stopped: no medium that anybody could use.
            if error.reason in (Reason.NO_MEDIA, Reason.SHUT_OFF):
                return True
            raise

    def _is_alive(self) -> bool:
        try:
            return bool(self.connection.isAlive())
        except libvirt.libvirtError:  # it was closed on our side, by another thread
            return False

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Turns libvirt's errors into ours: `ConnectionLost`, or `MediaError` with its reason."""
        try:
            yield
        except libvirt.libvirtError as error:
            code, text = error.get_error_code(), error.get_error_message() or str(error)
            if means_lost(code, text) or not self._is_alive():
                raise ConnectionLost(f"libvirt went away, could not {doing}: {text}") from error
            reason, detail = reason_of(code, text)
            raise MediaError(reason, f"could not {doing}: {detail}") from error


def check_iso(path: str) -> None:
    """Refuses what libvirt would accept and the guest could not read.

    :raises MediaError: no_media, because ``path`` is not a file or is empty.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise MediaError(
            Reason.NO_MEDIA, f"there is no file {path} on this host ({error.strerror})"
        ) from error
    if not stat.S_ISREG(found.st_mode):
        raise MediaError(Reason.NO_MEDIA, f"{path} is no file")
    if found.st_size == 0:
        raise MediaError(Reason.NO_MEDIA, f"{path} is empty")


def _accepted(plan: Plan) -> tuple[Step, ...]:
    if isinstance(plan, Refusal):
        raise MediaError(plan.reason, plan.detail)
    return plan


def _silent(_context: object, _error: object) -> None:
    """libvirt's errors are raised as exceptions; printing them too would only confuse."""
