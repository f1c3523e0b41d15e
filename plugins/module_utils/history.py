# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a journal's records afterwards: fold them, list campaigns, trace one upgrade. No I/O."""

from __future__ import annotations

from dataclasses import asdict
from itertools import chain
from typing import Any, Iterable, Iterator, Mapping, Sequence

from .campaign import Campaign
from .ids import campaign_time
from .records import RECORDS, Closed, Opened, Removed
from .text import printable
from .wire import Message, WireError, decode


def fold(bodies: Iterable[bytes], nonce: str = "") -> Campaign:
    """The campaign that the records of one journal tell, as the writer ``nonce`` sees it: that of the first opening.

    :raises ValueError: there is no record in them.
    """
    messages = _messages(bodies)
    head: list[Message] = []
    for message in messages:
        head.append(message)
        if isinstance(message.payload, Opened):
            break
    if not head:
        raise ValueError("the journal is empty: the campaign was never begun")
    campaign = Campaign(head[-1].campaign_id, nonce)
    for message in chain(head, messages):
        campaign.apply(message)
    return campaign


def campaigns_of(bodies: Sequence[bytes]) -> list[dict[str, Any]]:
    """The campaigns that the records of the campaigns stream list, the newest first."""
    found: dict[str, dict[str, Any]] = {}
    for message in _messages(bodies):
        payload = message.payload
        if isinstance(payload, Opened) and message.campaign_id not in found:
            found[message.campaign_id] = {
                "campaign_id": message.campaign_id,
                "component": payload.component,
                "target_version": payload.target_version,
                "opened_at": message.created_at,
                "opened_by": printable(payload.opened_by, 128),
                "deadline": payload.deadline,
                "closed": False,
                "counts": {},
            }
        elif isinstance(payload, Closed) and message.campaign_id in found:
            counts = {row[0]: int(row[1]) for row in payload.counts if len(row) == 2 and row[1].isdecimal()}
            found[message.campaign_id].update(closed=True, counts=counts)
        elif isinstance(payload, Removed):
            found.pop(message.campaign_id, None)
    return list(reversed(list(found.values())))


def open_ids(campaigns: Iterable[Mapping[str, Any]], now: float) -> list[str]:
    """The IDs of the listed campaigns that may still want their discs: neither closed nor past their deadline."""
    return [
        campaign["campaign_id"]
        for campaign in campaigns
        if not campaign["closed"] and campaign["deadline"] > now
    ]


def ids_over(
    found: Iterable[str], campaigns: Sequence[Mapping[str, Any]], now: float, grace_s: float
) -> list[str]:
    """Those of ``found`` that are IDs of campaigns which want no disc any more.

    An ID that is not listed is of a campaign that was deleted, or never begun because its run was stopped; it counts once it is
    ``grace_s`` seconds old, because a run inserts its discs before it lists its campaign.
    """
    listed = {campaign["campaign_id"] for campaign in campaigns}
    wanted = set(open_ids(campaigns, now))
    over = []
    for candidate in sorted(set(found)):
        try:
            named_at = campaign_time(candidate)
        except ValueError:
            continue  # not ours
        if candidate not in wanted and (candidate in listed or named_at < now - grace_s):
            over.append(candidate)
    return over


def of_upgrade(bodies: Iterable[bytes], upgrade_id: str) -> list[bytes]:
    """Those of one journal's records that are about this upgrade or about the campaign as a whole, told apart without decoding them."""
    wanted = (f'"upgrade_id":"{upgrade_id}"'.encode(), b'"upgrade_id":""')
    return [body for body in bodies if wanted[0] in body or wanted[1] in body]


def history_of(bodies: Iterable[bytes], upgrade_id: str) -> list[dict[str, Any]]:
    """Every record of one upgrade in order, as plain data that is safe to show."""
    return [
        {
            "type": message.payload.TYPE,
            "created_at": message.created_at,
            "epoch": message.epoch,
            "message_id": printable(message.message_id),
            "payload": _safe(asdict(message.payload)),
        }
        for message in _messages(bodies)
        if message.upgrade_id == upgrade_id
    ]


def course(history: Iterable[dict[str, Any]]) -> list[str]:
    """An upgrade's history as lines: seconds since its first record, type, and what the record says."""
    lines: list[str] = []
    began = None
    for record in history:
        began = record["created_at"] if began is None else began
        said = ", ".join(
            f"{key}={value}" for key, value in record["payload"].items() if value not in ("", [], {})
        )
        lines.append(
            f"{record['created_at'] - began:+9.3f} s  {record['type']:<14} {printable(said, 240)}".rstrip()
        )
    return lines


def _messages(bodies: Iterable[bytes]) -> Iterator[Message]:
    for body in bodies:
        try:
            yield decode(body, RECORDS)
        except WireError:
            continue  # fold ignores what it cannot read; so does the trace


def _safe(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value, 4096)
    if isinstance(value, dict):
        return {_safe(key): _safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_safe(item) for item in value]
    return value
