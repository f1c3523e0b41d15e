# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Campaign IDs, upgrade IDs, and the journal that an ID names.

A campaign ID is a UUIDv7. An upgrade ID is a UUIDv8 that repeats the campaign's first 48 time bits and 12 random bits,
followed by 62 bits of SHA-256 over (campaign, VM, attempt). So an upgrade ID is the same whoever computes it, anybody can
check it against a VM, and any ID of a campaign names that campaign's journal. Layouts: RFC 9562, sections 5.7 and 5.8.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

_VARIANT = 0b10 << 62


def campaign_id(unix_ms: int, random: bytes) -> str:
    """A campaign ID made at ``unix_ms`` (milliseconds since the Unix epoch) from 10 random bytes.

    :raises ValueError: the time does not fit 48 bits, or there are not 10 random bytes.
    """
    if not 0 <= unix_ms < 2**48:
        raise ValueError(f"unix_ms {unix_ms} does not fit 48 bits")
    if len(random) != 10:
        raise ValueError(f"expected 10 random bytes, got {len(random)}")
    bits = int.from_bytes(random, "big")
    return _uuid(unix_ms, 7, bits & 0xFFF, bits >> 12)


def upgrade_id(campaign: str, vm: str, attempt: int) -> str:
    """The ID of the ``attempt``-th upgrade (from 1) of the VM with UUID ``vm`` in ``campaign``.

    :raises ValueError: ``campaign`` or ``vm`` is not a UUID.
    """
    parent = UUID(campaign)
    digest = hashlib.sha256(parent.bytes + UUID(vm).bytes + attempt.to_bytes(4, "big")).digest()
    bits = parent.int
    return _uuid(bits >> 80, 8, (bits >> 64) & 0xFFF, int.from_bytes(digest[:8], "big"))


def campaign_time(campaign: str) -> float:
    """When ``campaign`` was named, in Unix seconds.

    :raises ValueError: not a campaign ID as `campaign_id` makes them.
    """
    parsed = _parsed(campaign)
    if parsed.version == 8:
        raise ValueError(f"{campaign} is an upgrade ID, not a campaign ID")
    if parsed.version != 7 or str(parsed) != campaign:
        raise ValueError(f"{campaign} is not a campaign ID (a UUIDv7 in lower case)")
    return (parsed.int >> 80) / 1000


def journal_key(any_id: str) -> str:
    """The 15 hexadecimal digits that the IDs of one campaign share: its time and its 12 random bits.

    :raises ValueError: ``any_id`` is neither a campaign ID nor an upgrade ID.
    """
    parsed = _parsed(any_id)
    if parsed.version not in (7, 8):
        raise ValueError(f"{any_id} is neither a campaign ID (UUIDv7) nor an upgrade ID (UUIDv8)")
    return parsed.hex[:12] + parsed.hex[13:16]


def _parsed(any_id: str) -> UUID:
    try:
        return UUID(any_id)
    except ValueError:
        raise ValueError(f"{any_id!r} is not the ID of a campaign or an upgrade") from None


def _uuid(time: int, version: int, middle: int, tail: int) -> str:
    low = _VARIANT | (tail & (2**62 - 1))
    return str(UUID(int=(time << 80) | (version << 76) | (middle << 64) | low))
