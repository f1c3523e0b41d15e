# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records that only a campaign's journal holds.

They are messages like all others (see wire.py); those that speak of the whole campaign have an empty ``vm`` and
``upgrade_id``. A decision (`Held`, `Notified`, `Ended`, `Closed`) counts only under the claim in force: its envelope's epoch
and its nonce must be those of the highest claim before it in the journal.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Iterable, Iterator, NamedTuple, Sequence

from .wire import MESSAGES, Payload, flag, integer, number, registry, rows, text, texts

CHUNK = 200
"""Most VMs that one `Selected` record lists."""

CHUNK_BYTES = 48 * 1024
"""Most bytes that the rows of one `Selected` record take, so that with its envelope it stays below the message limit."""


FAILURES = ("failed", "timed_out", "interrupted")
"""Outcomes that count as failures unless the campaign says otherwise."""


@dataclass(frozen=True)
class Opened(Payload):
    """The campaign: what is rolled out, and under which policy. Times are in seconds.

    ``request_s``, ``verify_s`` and ``install_s`` limit the states started, confirmed and installing; ``failures`` are the outcomes
    that count as failures; ``at_once`` is how many VMs may have leave to install at one time, 0 for no limit.
    """

    TYPE = "opened"
    component: str = field(metadata=text(64))
    target_version: str = field(metadata=text(64))
    iso_sha256: str = field(metadata=text(64))
    manifest_sha256: str = field(metadata=text(64))
    media_path: str = field(metadata=text(512))
    deadline: float = field(metadata=number())
    permit_s: float = field(metadata=number())
    consent: str = field(metadata=text(16))
    prompt: str = field(default="", metadata=text(500))
    conditions: tuple[str, ...] = field(default=(), metadata=texts(32, 500))
    opened_by: str = field(default="", metadata=text(128))
    request_s: float = field(default=900.0, metadata=number())
    verify_s: float = field(default=1800.0, metadata=number())
    install_s: float = field(default=7200.0, metadata=number())
    failures: tuple[str, ...] = field(default=FAILURES, metadata=texts(16, 16))
    at_once: int = field(default=0, metadata=integer(0, 10_000_000))


class Row(NamedTuple):
    """A selected VM: its UUID, its domain's name, its compute node, and why it cannot be upgraded; nothing if it can."""

    vm: str
    name: str
    node: str
    unfit: str = ""


@dataclass(frozen=True)
class Selected(Payload):
    """Up to `CHUNK` selected VMs, each as a `Row`."""

    TYPE = "selected"
    vms: tuple[Row, ...] = field(metadata=rows(CHUNK, len(Row._fields), 255))


@dataclass(frozen=True)
class Sealed(Payload):
    """The selection is complete: ``count`` VMs, ``digest`` as of `selection_digest`."""

    TYPE = "sealed"
    count: int = field(metadata=integer(0, 10_000_000))
    digest: str = field(metadata=text(64))


@dataclass(frozen=True)
class Claim(Payload):
    """A coordinator takes the campaign for the envelope's epoch; the first claim of an epoch wins."""

    TYPE = "claim"
    nonce: str = field(metadata=text(64))
    host: str = field(default="", metadata=text(253))


@dataclass(frozen=True)
class Control(Payload):
    """An operator's wish; it counts whatever its envelope's epoch is. ``vms`` are up to `CHUNK` VMs, none meaning all."""

    TYPE = "control"
    action: str = field(metadata=text(16))
    vms: tuple[str, ...] = field(default=(), metadata=texts(CHUNK, 36))
    reason: str = field(default="", metadata=text(200))
    by: str = field(default="", metadata=text(253))


@dataclass(frozen=True)
class Held(Payload):
    """Decision: no permit for now, because ``reason``. ``waits``: nothing stands against it but that it is not its turn."""

    TYPE = "held"
    nonce: str = field(metadata=text(64))
    reason: str = field(metadata=text(300))
    waits: bool = field(default=False, metadata=flag())


@dataclass(frozen=True)
class Notified(Payload):
    """Decision: permit number ``permit`` of this upgrade, valid until ``expires_at`` (Unix seconds)."""

    TYPE = "notified"
    nonce: str = field(metadata=text(64))
    permit: int = field(metadata=integer(1, 2**53))
    expires_at: float = field(metadata=number())


@dataclass(frozen=True)
class Ended(Payload):
    """Decision: the upgrade's outcome, where the coordinator and not the agent says it."""

    TYPE = "ended"
    nonce: str = field(metadata=text(64))
    outcome: str = field(metadata=text(16))
    stage: str = field(metadata=text(32))
    reason: str = field(default="", metadata=text(300))


@dataclass(frozen=True)
class Closed(Payload):
    """Every upgrade has an outcome. ``counts`` are rows (outcome, number)."""

    TYPE = "closed"
    nonce: str = field(metadata=text(64))
    counts: tuple[tuple[str, str], ...] = field(metadata=rows(32, 2, 32))


@dataclass(frozen=True)
class Removed(Payload):
    """In the list of campaigns only: the campaign's journal was deleted."""

    TYPE = "removed"


RECORDS = {
    **MESSAGES,
    **registry(Opened, Selected, Sealed, Claim, Control, Held, Notified, Ended, Closed, Removed),
}
"""Every type that a journal may hold, for `wire.decode`."""


def chunks(vms: Sequence[Row]) -> Iterator[Selected]:
    """The selection as records of at most `CHUNK` rows and `CHUNK_BYTES` bytes."""
    chunk: list[Row] = []
    size = 0
    for row in vms:
        length = len(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if chunk and (len(chunk) == CHUNK or size + length > CHUNK_BYTES):
            yield Selected(vms=tuple(chunk))
            chunk, size = [], 0
        chunk.append(row)
        size += length
    if chunk:
        yield Selected(vms=tuple(chunk))


def selection_digest(vms: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over the selected VMs in the order of their UUIDs, one a line: the UUID, and why it cannot be upgraded."""
    lines = sorted(f"{vm} {unfit}" for vm, unfit in vms)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "replace")).hexdigest()
