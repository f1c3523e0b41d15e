# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent knows and must not forget, and how it is written to the journal.

A `Memory` is a value: the lifecycle makes a new one from the old. A journal record holds the parts that changed, so the
memory is what the records say when read in order.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from typing import Any, Callable, Iterable, Mapping

from .states import State
from .wire import (
    COMMANDS,
    REPORTS,
    Message,
    Request,
    Result,
    Start,
    WireError,
    altered,
    decode,
    encode,
    registry,
)

CLAIMS_LIMIT = 64
"""Most campaigns whose highest claim is kept."""

FINISHED_LIMIT = 64
"""Most finished upgrades that are kept with their results."""

OUTBOX_LIMIT = 64
"""Unacknowledged messages beyond which no new upgrade is taken."""

_MESSAGES = registry(*COMMANDS, *REPORTS)


def is_upgrade_id(text: str) -> bool:
    """Whether ``text`` looks like an upgrade ID, and so may name a directory."""
    return re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) is not None


@dataclass(frozen=True)
class Upgrade:
    """One upgrade that has no outcome yet.

    ``command`` is its start (or what else made it known, of one that never began), with the epoch of the newest command.
    ``consent`` says that the user agreed. ``permit`` is the number of the newest permit (0: none) and ``expires_at`` its end by
    the host's clock. ``unmounted`` is false after the disc could not be unmounted.
    """

    command: Message
    state: State = State.IDLE
    consent: bool = False
    permit: int = 0
    expires_at: float = 0.0
    installed_version: str = ""
    unmounted: bool = True

    @property
    def upgrade_id(self) -> str:
        """The ID that is on every message of this upgrade."""
        return self.command.upgrade_id

    @property
    def start(self) -> Start:
        """What the start asked for."""
        assert isinstance(self.command.payload, Start)
        return self.command.payload


@dataclass(frozen=True)
class Finished:
    """An upgrade that is over. ``result`` is None where it ended silently, at its deadline."""

    upgrade_id: str
    result: Message | None = None


@dataclass(frozen=True)
class Memory:
    """Everything that outlives the process.

    ``generation`` names the journal; ``counter`` is the number of the last message made. Numbers follow the host's clock in
    milliseconds, so that they go on rising in a guest that was set back to a snapshot. ``vm`` is the UUID that the host told
    last. ``clock`` is the host's time at the last message made. ``claims`` holds the highest (epoch, nonce) by
    campaign. Upgrades up to the ID ``forgotten`` may be over without being among the finished.
    """

    generation: str
    counter: int = 0
    vm: str = ""
    clock: float = 0.0
    claims: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    current: Upgrade | None = None
    waiting: Upgrade | None = None
    finished: tuple[Finished, ...] = ()
    forgotten: str = ""
    outbox: tuple[Message, ...] = ()

    def finished_upgrade(self, upgrade_id: str) -> Finished | None:
        """The finished upgrade with this ID, if it is still known."""
        return next((item for item in self.finished if item.upgrade_id == upgrade_id), None)

    @property
    def unsaid(self) -> str:
        """The ID of an upgrade whose result was not taken yet: only when it was does the next one's disc come. Empty if there is none."""
        owed = (message.upgrade_id for message in self.outbox if isinstance(message.payload, Result))
        return next(owed, "")

    def with_claim(self, campaign_id: str, epoch: int, nonce: str) -> Memory:
        """The memory after a claim was seen; the oldest campaigns are dropped beyond the limit."""
        if self.claims.get(campaign_id) == (epoch, nonce):
            return self
        claims = {**self.claims, campaign_id: (epoch, nonce)}
        while len(claims) > CLAIMS_LIMIT:
            del claims[min(claims)]  # campaign IDs begin with their time
        return altered(self, claims=claims)

    def with_finished(self, upgrade_id: str, result: Message | None) -> Memory:
        """The memory after an upgrade ended. The oldest ones are forgotten beyond the limit, but never taken anew."""
        if result is not None and isinstance(result.payload, Result):
            result = altered(result, payload=altered(result.payload, log_tail=""))
        finished = sorted((*self.finished, Finished(upgrade_id, result)), key=lambda item: item.upgrade_id)
        excess = max(0, len(finished) - FINISHED_LIMIT)
        forgotten = max([self.forgotten, *(item.upgrade_id for item in finished[:excess])])
        return altered(self, finished=tuple(finished[excess:]), forgotten=forgotten)

    def with_sent(self, message: Message) -> Memory:
        """The memory with ``message`` in the outbox. It replaces one that it makes pointless."""
        kept = (item for item in self.outbox if not _supersedes(message, item))
        return altered(self, outbox=(*kept, message))

    def with_renumbered(self, message_id: str, message: Message) -> Memory:
        """The memory with ``message`` in place of the one with this ID, wherever that is kept."""

        def renumbered(old: Message) -> Message:
            if old.message_id != message_id:
                return old
            return altered(old, message_id=message.message_id, created_at=message.created_at)

        finished = (
            altered(item, result=renumbered(item.result)) if item.result else item for item in self.finished
        )
        return altered(self, outbox=tuple(renumbered(item) for item in self.outbox), finished=tuple(finished))

    def without_sent(self, message_id: str) -> Memory:
        """The memory after a message of the outbox was taken; itself if it holds no such message."""
        kept = tuple(item for item in self.outbox if item.message_id != message_id)
        return self if len(kept) == len(self.outbox) else altered(self, outbox=kept)


def _supersedes(new: Message, old: Message) -> bool:
    """Whether nobody needs ``old`` any more: the same kind of word about the same upgrade, said again, or a request for leave that was
    answered since. Heard late, that would pass for asking anew, by an agent that installs nothing meanwhile.
    """
    if new.upgrade_id != old.upgrade_id:
        return False
    if isinstance(old.payload, Request):
        return True
    if type(new.payload) is not type(old.payload):
        return False
    return getattr(new.payload, "stage", "") == getattr(old.payload, "stage", "")


class BadRecords(Exception):
    """Journal records that do not make a memory; the detail says why."""


def changes(old: Memory | None, new: Memory) -> dict[str, Any]:
    """The journal record that leads from ``old`` to ``new``; empty if they are equal, everything if ``old`` is None."""
    record = {}
    for item in fields(Memory):
        value = getattr(new, item.name)
        if old is None or value != getattr(old, item.name):
            record[item.name] = _dump(value)
    return record


def restore(records: Iterable[Mapping[str, Any]]) -> Memory:
    """The memory that journal records add up to. What a newer agent added is ignored.

    :raises BadRecords: they are none of ours.
    """
    body: dict[str, Any] = {}
    for record in records:
        body.update(record)
    try:
        return Memory(**{name: load(body[name]) for name, load in _LOADERS.items() if name in body})
    except (KeyError, TypeError, ValueError, WireError) as error:
        raise BadRecords(f"{type(error).__name__}: {error}") from error


def _dump(value: Any) -> Any:
    if isinstance(value, Message):
        return json.loads(encode(value))
    if isinstance(value, (Upgrade, Finished)):
        return {item.name: _dump(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, tuple):
        return [_dump(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _dump(item) for key, item in value.items()}
    return value


def _load_message(body: Any) -> Message:
    return decode(json.dumps(body, ensure_ascii=False).encode("utf-8"), _MESSAGES)


def _load_upgrade(body: Any) -> Upgrade | None:
    if body is None:
        return None
    command = _load_message(body["command"])
    if not isinstance(command.payload, Start):
        raise TypeError(f"an upgrade does not begin with a {type(command.payload).__name__}")
    known = {item.name: body[item.name] for item in fields(Upgrade) if item.name in body}
    return Upgrade(**{**known, "command": command, "state": State(body["state"])})


def _load_finished(body: Any) -> Finished:
    result = body["result"]
    return Finished(body["upgrade_id"], None if result is None else _load_message(result))


_LOADERS: dict[str, Callable[[Any], Any]] = {
    "generation": str,
    "counter": int,
    "vm": str,
    "clock": float,
    "claims": lambda body: {campaign: (int(epoch), str(nonce)) for campaign, (epoch, nonce) in body.items()},
    "current": _load_upgrade,
    "waiting": _load_upgrade,
    "finished": lambda body: tuple(_load_finished(item) for item in body),
    "forgotten": str,
    "outbox": lambda body: tuple(_load_message(item) for item in body),
}
