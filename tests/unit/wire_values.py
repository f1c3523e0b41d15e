# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every field on the wire takes, written down a second time, and strategies for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from ansible_collections.isolift.vm.plugins.module_utils import records, wire

CHARACTERS = st.characters(exclude_categories=["Cs"])
NUMBERS = st.floats(-1e15, 1e15, exclude_min=True, exclude_max=True)


@dataclass(frozen=True)
class Text:
    """Text of at most ``limit`` characters."""

    limit: int

    def values(self) -> st.SearchStrategy[Any]:
        return st.text(CHARACTERS, max_size=self.limit)

    def fitting(self) -> list[Any]:
        return ["", "x" * self.limit]

    def unfit(self) -> list[Any]:
        return ["x" * (self.limit + 1), "\ud800", None, 1, 1.5, True, [], ["x"], {}]


@dataclass(frozen=True)
class Integer:
    """An integer from ``low`` to ``high``."""

    low: int
    high: int

    def values(self) -> st.SearchStrategy[Any]:
        return st.integers(self.low, self.high)

    def fitting(self) -> list[Any]:
        return [self.low, self.high]

    def unfit(self) -> list[Any]:
        return [self.low - 1, self.high + 1, 10**400, float(self.low), 1.5, True, "1", None, [], {}]


@dataclass(frozen=True)
class Number:
    """A finite number."""

    def values(self) -> st.SearchStrategy[Any]:
        return NUMBERS

    def fitting(self) -> list[Any]:
        return [0, -1, 1795460000.25, 999999999999999]

    def unfit(self) -> list[Any]:
        return [1e15, -1e15, 10**400, float("inf"), float("nan"), True, "1", None, [], {}]


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def values(self) -> st.SearchStrategy[Any]:
        return st.booleans()

    def fitting(self) -> list[Any]:
        return [False, True]

    def unfit(self) -> list[Any]:
        return [0, 1, "true", None, [], {}]


@dataclass(frozen=True)
class Rows:
    """Up to ``count`` of what ``of`` takes."""

    count: int
    of: Text | Rows

    def values(self) -> st.SearchStrategy[Any]:
        return st.lists(self.of.values(), max_size=min(self.count, 5)).map(tuple)

    def fitting(self) -> list[Any]:
        return [(), (self.of.fitting()[0],) * self.count]

    def unfit(self) -> list[Any]:
        few = [[value] for value in self.of.unfit()]
        return [[self.of.fitting()[0]] * (self.count + 1), *few, "x", 1, None, {}]


@dataclass(frozen=True)
class Facts:
    """Up to 64 facts: text, whole numbers of 64 bits, numbers and flags."""

    def values(self) -> st.SearchStrategy[Any]:
        fact = st.one_of(Text(256).values(), Integer(-(2**63), 2**63 - 1).values(), NUMBERS, st.booleans())
        return st.dictionaries(Text(64).values(), fact, max_size=8)

    def fitting(self) -> list[Any]:
        return [{}, {str(number): number for number in range(64)}, {"k" * 64: "v" * 256, "t": True, "f": 0.5}]

    def unfit(self) -> list[Any]:
        many = {str(number): number for number in range(65)}
        values = ["v" * 257, "\udfff", 2**63, 10**400, 1e300, float("nan"), None, [], {}, ["x"]]
        return [many, {"k" * 65: 1}, {"\ud800": 1}, *({"k": value} for value in values), [], "x", 1, None]


Kind = Text | Integer | Number | Flag | Rows | Facts

COUNTER = Integer(0, 2**63 - 1)
PERMIT = Integer(1, 2**53)

ENVELOPE: dict[str, Kind] = {
    "message_id": Text(96),
    "upgrade_id": Text(36),
    "campaign_id": Text(36),
    "vm": Text(36),
    "attempt": Integer(1, 1000),
    "epoch": Integer(0, 2**53),
    "created_at": Number(),
}

PAYLOADS: dict[type[wire.Payload], dict[str, Kind]] = {
    wire.Start: {
        "component": Text(64),
        "target_version": Text(64),
        "manifest_sha256": Text(64),
        "media_path": Text(512),
        "deadline": Number(),
        "consent": Text(16),
        "prompt": Text(500),
        "nonce": Text(64),
    },
    wire.Notification: {"permit": PERMIT, "expires_at": Number(), "nonce": Text(64)},
    wire.Cancel: {"reason": Text(200), "nonce": Text(64)},
    wire.Request: {"installed_version": Text(64), "consent_given": Flag(), "facts": Facts()},
    wire.Confirmation: {"permit": PERMIT, "answer": Text(16), "by": Text(64)},
    wire.Progress: {"stage": Text(32), "detail": Text(200)},
    wire.Result: {
        "outcome": Text(16),
        "stage": Text(32),
        "code": Text(64),
        "detail": Text(300),
        "version_before": Text(64),
        "version_after": Text(64),
        "exit_code": Integer(-(2**31), 2**31 - 1),
        "duration_s": Number(),
        "log_tail": Text(4096),
        "unmounted": Flag(),
    },
    wire.Presence: {
        "node": Text(253),
        "agent_version": Text(64),
        "generation": Text(64),
        "counter": COUNTER,
    },
    wire.Delivered: {"command": Text(16), "command_id": Text(96)},
    wire.Undeliverable: {
        "command": Text(16),
        "command_id": Text(96),
        "reason": Text(64),
        "detail": Text(300),
    },
    wire.Refused: {"reason": Text(64), "detail": Text(300)},
    records.Opened: {
        "component": Text(64),
        "target_version": Text(64),
        "iso_sha256": Text(64),
        "manifest_sha256": Text(64),
        "media_path": Text(512),
        "deadline": Number(),
        "permit_s": Number(),
        "consent": Text(16),
        "prompt": Text(500),
        "conditions": Rows(32, Text(500)),
        "opened_by": Text(128),
        "request_s": Number(),
        "verify_s": Number(),
        "install_s": Number(),
        "failures": Rows(16, Text(16)),
        "at_once": Integer(0, 10_000_000),
    },
    records.Selected: {"vms": Rows(records.CHUNK, Rows(4, Text(255)))},
    records.Sealed: {"count": Integer(0, 10_000_000), "digest": Text(64)},
    records.Claim: {"nonce": Text(64), "host": Text(253)},
    records.Control: {
        "action": Text(16),
        "vms": Rows(records.CHUNK, Text(36)),
        "reason": Text(200),
        "by": Text(253),
    },
    records.Held: {"nonce": Text(64), "reason": Text(300), "waits": Flag()},
    records.Notified: {"nonce": Text(64), "permit": PERMIT, "expires_at": Number()},
    records.Ended: {"nonce": Text(64), "outcome": Text(16), "stage": Text(32), "reason": Text(300)},
    records.Closed: {"nonce": Text(64), "counts": Rows(32, Rows(2, Text(32)))},
    records.Removed: {},
}

FRAMES: dict[type[wire.Payload], dict[str, Kind]] = {
    wire.Knock: {},
    wire.Hello: {
        "nonce": Text(64),
        "agent_version": Text(64),
        "vm": Text(36),
        "generation": Text(64),
        "counter": COUNTER,
    },
    wire.Welcome: {"nonce": Text(64), "session": Text(64), "vm": Text(36), "now": Number()},
    wire.Ack: {"session": Text(64), "message_id": Text(96), "refused": Text(200)},
    wire.Carry: {"session": Text(64), "now": Number()},
}


def _build(
    kind: type[Any], fields: dict[str, Kind], **more: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{name: field.values() for name, field in fields.items()}, **more)


def payloads() -> st.SearchStrategy[wire.Payload]:
    """Any payload, of messages and records."""
    return st.one_of([_build(kind, fields) for kind, fields in PAYLOADS.items()])


def messages() -> st.SearchStrategy[wire.Message]:
    """Any message or record."""
    return _build(wire.Message, ENVELOPE, payload=payloads())


def frames() -> st.SearchStrategy[wire.Payload]:
    """Any frame."""
    plain = [_build(kind, fields) for kind, fields in FRAMES.items() if kind is not wire.Carry]
    return st.one_of(*plain, _build(wire.Carry, FRAMES[wire.Carry], message=messages()))


def sample(kind: type[wire.Payload]) -> wire.Payload:
    """A payload or frame with the smallest values."""
    fields = {**PAYLOADS, **FRAMES}[kind]
    values = {name: field.fitting()[0] for name, field in fields.items()}
    if kind is wire.Carry:
        values["message"] = message(wire.Cancel())
    return kind(**values)


def message(payload: wire.Payload) -> wire.Message:
    """``payload`` in an envelope with the smallest values."""
    return wire.Message(payload=payload, **{name: field.fitting()[0] for name, field in ENVELOPE.items()})
