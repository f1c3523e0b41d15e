# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wire format: every message between controller, relay and guest agent, and its limits.

A `Message` is an envelope around one payload; the payload's class is the message's type. The same bytes travel through
the broker and, inside a `Carry` frame, over the virtio-serial socket. This file needs the standard library only and
Python 3.8, because the guest agent shares it.

Every text field is bounded, unknown fields are ignored, and whatever else is wrong with received bytes raises
`WireError`, which says why. Text that came from a guest may hold any character: sanitise it before showing it.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Callable, Mapping, Sequence, Tuple, Type, TypeVar, Union, cast

SCHEMA = 1
"""Version of the format. It changes only when an old reader could misread a new message."""

MESSAGE_LIMIT = 64 * 1024
"""Most bytes that one encoded message may have."""

FRAME_LIMIT = MESSAGE_LIMIT + 1024
"""Most bytes that one line on the socket may have, its newline not counted."""

BUNDLE_LIMIT = MESSAGE_LIMIT
"""Most bytes of a bundle: messages of one stream that are published together, one on each line."""

LOG_TAIL_LIMIT = 4096
"""Most characters of an installer's log that a result carries."""

Scalar = Union[str, int, float, bool]
Facts = Mapping[str, Scalar]
Check = Callable[[Any], Any]
T = TypeVar("T")


class WireError(Exception):
    """Bytes that are not a valid message, or a message that cannot be encoded.

    :ivar code: a short stable word: ``not_json``, ``too_long``, ``unknown_type``, ``bad_schema`` or ``bad_field``.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class _Unfit(Exception):
    """A value that its field does not take; the text says what was expected."""


# Checks: each takes a decoded JSON value and returns it, or raises _Unfit saying what was expected.


def _check_text(limit: int) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise _Unfit("expected text")
        if len(value) > limit:
            raise _Unfit(f"expected at most {limit} characters, got {len(value)}")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise _Unfit("holds a lone surrogate")
        return value

    return check


def _check_integer(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _Unfit("expected an integer")
        if not low <= value <= high:
            raise _Unfit(f"expected {low} to {high}")
        return value

    return check


def _check_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Unfit("expected a number")
    if not -1e15 < value < 1e15:  # also refuses NaN and infinities
        raise _Unfit("expected a finite number below 1e15")
    return float(value)


def _check_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Unfit("expected true or false")
    return value


def _check_rows(limit: int, check: Check) -> Check:
    def check_rows(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise _Unfit("expected a list")
        if len(value) > limit:
            raise _Unfit(f"expected at most {limit} items, got {len(value)}")
        return tuple(check(item) for item in value)

    return check_rows


_fact_key = _check_text(64)
_fact_text = _check_text(256)


def _check_facts(value: Any) -> dict[str, Scalar]:
    if not isinstance(value, Mapping):
        raise _Unfit("expected an object")
    if len(value) > 64:
        raise _Unfit(f"expected at most 64 facts, got {len(value)}")
    facts: dict[str, Scalar] = {}
    for key, fact in value.items():
        if isinstance(fact, str):
            facts[_fact_key(key)] = _fact_text(fact)
        elif isinstance(fact, bool):
            facts[_fact_key(key)] = fact
        elif isinstance(fact, int):
            facts[_fact_key(key)] = _fact_integer(fact)
        else:
            facts[_fact_key(key)] = _check_number(fact)
    return facts


_fact_integer = _check_integer(-(2**63), 2**63 - 1)


# Field kinds: the metadata of a payload's field, which says how `encode` and `decode` check it.

Kind = Mapping[str, Check]


def text(limit: int) -> Kind:
    """Text of at most ``limit`` characters."""
    return {"check": _check_text(limit)}


def integer(low: int, high: int) -> Kind:
    """An integer from ``low`` to ``high``, both included."""
    return {"check": _check_integer(low, high)}


def number() -> Kind:
    """A finite number; times are seconds since the Unix epoch."""
    return {"check": _check_number}


def flag() -> Kind:
    """True or false."""
    return {"check": _check_flag}


def texts(count: int, limit: int) -> Kind:
    """A list of at most ``count`` texts of at most ``limit`` characters each."""
    return {"check": _check_rows(count, _check_text(limit))}


def rows(count: int, width: int, limit: int) -> Kind:
    """A list of at most ``count`` rows, each of at most ``width`` texts of at most ``limit`` characters."""
    return {"check": _check_rows(count, _check_rows(width, _check_text(limit)))}


def fact_map() -> Kind:
    """An object of at most 64 scalars by name."""
    return {"check": _check_facts}


@dataclass(frozen=True)
class Payload:
    """Base of all payloads. ``TYPE`` is the word that names the class on the wire."""

    TYPE = ""


# Down: controller to guest agent. ``nonce`` tells apart two coordinators that claimed the same epoch.


@dataclass(frozen=True)
class Start(Payload):
    """The component's ISO is in the drive: compare versions and ask for the upgrade if they differ."""

    TYPE = "start"
    component: str = field(metadata=text(64))
    target_version: str = field(metadata=text(64))
    manifest_sha256: str = field(metadata=text(64))
    media_path: str = field(metadata=text(512))
    deadline: float = field(metadata=number())
    consent: str = field(metadata=text(16))
    prompt: str = field(default="", metadata=text(500))
    nonce: str = field(default="", metadata=text(64))


@dataclass(frozen=True)
class Notification(Payload):
    """The permit: leave to install until ``expires_at``. ``permit`` counts the permits of one upgrade from 1."""

    TYPE = "notification"
    permit: int = field(metadata=integer(1, 2**53))
    expires_at: float = field(metadata=number())
    nonce: str = field(default="", metadata=text(64))


@dataclass(frozen=True)
class Cancel(Payload):
    """Do not start this upgrade any more."""

    TYPE = "cancel"
    reason: str = field(default="", metadata=text(200))
    nonce: str = field(default="", metadata=text(64))


# Up: guest agent to controller.


@dataclass(frozen=True)
class Request(Payload):
    """The installed version differs from the disc's. ``installed_version`` is empty where nothing is installed."""

    TYPE = "request"
    installed_version: str = field(metadata=text(64))
    consent_given: bool = field(default=False, metadata=flag())
    facts: Facts = field(default_factory=dict, metadata=fact_map())


@dataclass(frozen=True)
class Confirmation(Payload):
    """The answer to a permit: ``confirm`` or ``decline``; ``by`` says who gave it (``user`` or ``policy``)."""

    TYPE = "confirmation"
    permit: int = field(metadata=integer(1, 2**53))
    answer: str = field(metadata=text(16))
    by: str = field(default="", metadata=text(64))


@dataclass(frozen=True)
class Progress(Payload):
    """A change of stage that no other message tells: ``installing``, or ``busy`` (``detail`` is then the other upgrade's ID)."""

    TYPE = "progress"
    stage: str = field(metadata=text(32))
    detail: str = field(default="", metadata=text(200))


@dataclass(frozen=True)
class Result(Payload):
    """How the upgrade ended in the guest.

    ``outcome`` is one of succeeded, up_to_date, failed, declined, interrupted and cancelled; ``stage`` and ``code`` say
    where and why it did not succeed. ``exit_code`` is the installer's (-1 where none ran); ``duration_s`` is in seconds.
    """

    TYPE = "result"
    outcome: str = field(metadata=text(16))
    stage: str = field(default="", metadata=text(32))
    code: str = field(default="", metadata=text(64))
    detail: str = field(default="", metadata=text(300))
    version_before: str = field(default="", metadata=text(64))
    version_after: str = field(default="", metadata=text(64))
    exit_code: int = field(default=-1, metadata=integer(-(2**31), 2**31 - 1))
    duration_s: float = field(default=0.0, metadata=number())
    log_tail: str = field(default="", metadata=text(LOG_TAIL_LIMIT))
    unmounted: bool = field(default=True, metadata=flag())


# Up: relay to controller.


@dataclass(frozen=True)
class Presence(Payload):
    """An agent said hello. It belongs to a VM, not to an upgrade, and is not journaled."""

    TYPE = "presence"
    node: str = field(metadata=text(253))
    agent_version: str = field(default="", metadata=text(64))
    generation: str = field(default="", metadata=text(64))
    counter: int = field(default=0, metadata=integer(0, 2**63 - 1))


@dataclass(frozen=True)
class Delivered(Payload):
    """The agent acknowledged the command ``command_id``; ``command`` is its type."""

    TYPE = "delivered"
    command: str = field(metadata=text(16))
    command_id: str = field(metadata=text(96))


@dataclass(frozen=True)
class Undeliverable(Payload):
    """The relay could not hand the command over. ``reason`` is a code of `Reason` in media.py and the relay."""

    TYPE = "undeliverable"
    command: str = field(metadata=text(16))
    command_id: str = field(metadata=text(96))
    reason: str = field(metadata=text(64))
    detail: str = field(default="", metadata=text(300))


@dataclass(frozen=True)
class Refused(Payload):
    """The relay refused what the guest sent: ``reason`` is a WireError code, ``wrong_upgrade`` or ``too_fast``."""

    TYPE = "refused"
    reason: str = field(metadata=text(64))
    detail: str = field(default="", metadata=text(300))


NOT_HERE = "not_here"
"""Reason of an `Undeliverable`: the VM is not on the node whose relay says so. It may have moved to another."""

COMMANDS: tuple[type[Payload], ...] = (Start, Notification, Cancel)
REPORTS: tuple[type[Payload], ...] = (Request, Confirmation, Progress, Result)
RELAY_REPORTS: tuple[type[Payload], ...] = (Presence, Delivered, Undeliverable, Refused)

Registry = Mapping[str, Type[Payload]]


def registry(*classes: type[Payload]) -> Registry:
    """The payload classes by their type word, for `decode`."""
    return {payload.TYPE: payload for payload in classes}


MESSAGES = registry(*COMMANDS, *REPORTS, *RELAY_REPORTS)


@dataclass(frozen=True)
class Message:
    """The envelope. ``vm`` is the domain's UUID as stamped by the relay; ``created_at`` is in Unix seconds."""

    payload: Payload = field()
    message_id: str = field(metadata=text(96))
    upgrade_id: str = field(metadata=text(36))
    campaign_id: str = field(metadata=text(36))
    vm: str = field(metadata=text(36))
    attempt: int = field(metadata=integer(1, 1000))
    epoch: int = field(metadata=integer(0, 2**53))
    created_at: float = field(metadata=number())


# Frames: what one line on the virtio-serial socket holds. Both ends name the session, so that bytes which an earlier
# session left in a buffer are recognised and dropped.


@dataclass(frozen=True)
class Knock(Payload):
    """Relay to agent: somebody listens now; say hello."""

    TYPE = "knock"


@dataclass(frozen=True)
class Hello(Payload):
    """Agent to relay: opens a session. ``vm`` is the UUID the agent was told last (empty if never).

    ``generation`` names the journal on the guest's disk, ``counter`` its number of records.
    """

    TYPE = "hello"
    nonce: str = field(metadata=text(64))
    agent_version: str = field(default="", metadata=text(64))
    vm: str = field(default="", metadata=text(36))
    generation: str = field(default="", metadata=text(64))
    counter: int = field(default=0, metadata=integer(0, 2**63 - 1))


@dataclass(frozen=True)
class Welcome(Payload):
    """Relay to agent: the session is open. ``nonce`` repeats the hello's; ``now`` is the host's clock."""

    TYPE = "welcome"
    nonce: str = field(metadata=text(64))
    session: str = field(metadata=text(64))
    vm: str = field(metadata=text(36))
    now: float = field(metadata=number())


@dataclass(frozen=True)
class Ack(Payload):
    """Either way: ``message_id`` is safe with the sender of this ack. A non-empty ``refused`` says it never will be."""

    TYPE = "ack"
    session: str = field(metadata=text(64))
    message_id: str = field(metadata=text(96))
    refused: str = field(default="", metadata=text(200))


@dataclass(frozen=True)
class Carry(Payload):
    """Either way: a message in a session. ``now`` is the host's clock on the way down and 0 on the way up."""

    TYPE = "carry"
    message: Message = field()
    session: str = field(metadata=text(64))
    now: float = field(metadata=number())


FRAMES = registry(Knock, Hello, Welcome, Ack, Carry)


def encode(message: Message) -> bytes:
    """The message as UTF-8 JSON without a newline.

    :raises WireError: a field breaks its limits, or the whole is longer than `MESSAGE_LIMIT`.
    """
    return _dump(_envelope(message), MESSAGE_LIMIT)


def decode(data: bytes, types: Registry = MESSAGES) -> Message:
    """The message that ``data`` holds.

    :param types: the payload classes that may come here; others are refused as ``unknown_type``.
    :raises WireError: the only exception, for any bytes whatever.
    """
    return _message(_load(data, MESSAGE_LIMIT), types)


def bundled(messages: Sequence[bytes]) -> bytes:
    """Encoded messages as one bundle. None of them holds a newline."""
    return b"\n".join(messages)


def unbundled(bundle: bytes) -> list[bytes]:
    """The encoded messages of a bundle, in their order; a message by itself is a bundle too."""
    return bundle.split(b"\n")


def encode_frame(frame: Payload) -> bytes:
    """The frame as one line, newline included.

    :raises WireError: a field breaks its limits.
    """
    body = {"type": frame.TYPE, **_values(frame)}
    if isinstance(frame, Carry):
        body["message"] = _envelope(frame.message)
    return _dump(body, FRAME_LIMIT) + b"\n"


def decode_frame(line: bytes, types: Registry = MESSAGES) -> Payload:
    """The frame that one line (without its newline) holds.

    :param types: the message types that a `Carry` may bring.
    :raises WireError: the only exception, for any bytes whatever.
    """
    body = _load(line, FRAME_LIMIT)
    frame = _payload_class(body, FRAMES)
    if frame is Carry:
        message = body.get("message")
        if not isinstance(message, dict):
            raise WireError("bad_field", "carry.message: expected an object")
        return _made(Carry, {"message": _message(message, types), **_checked(Carry, body)})
    return _made(frame, _checked(frame, body))


def _envelope(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"type": message.payload.TYPE, "schema": SCHEMA}
    body.update(_values(message))
    body["payload"] = _values(message.payload)
    return body


def _message(body: dict[str, Any], types: Registry) -> Message:
    schema = body.get("schema")
    if isinstance(schema, (bool, float)) or schema != SCHEMA:  # 1.0 and true only equal it
        raise WireError("bad_schema", f"this reader knows schema {SCHEMA}, not {str(schema)[:20]!r}")
    payload_class = _payload_class(body, types)
    values = body.get("payload")
    if not isinstance(values, dict):
        raise WireError("bad_field", f"{payload_class.TYPE}.payload: expected an object")
    payload = _made(payload_class, _checked(payload_class, values))
    return _made(Message, {"payload": payload, **_checked(Message, body)})


def _payload_class(body: dict[str, Any], types: Registry) -> type[Payload]:
    name = body.get("type")
    found = types.get(name) if isinstance(name, str) else None
    if found is None:
        raise WireError("unknown_type", f"{str(name)[:40]!r} is none of {', '.join(sorted(types))}")
    return found


_Plan = Tuple[Tuple[str, Check, Callable[[], Any]], ...]

_plans: dict[type, _Plan] = {}


def _plan(kind: type) -> _Plan:
    """(name, check, default) of each checked field; kept, because looking fields up is slow."""
    plan = _plans.get(kind)
    if plan is None:
        plan = tuple(
            (item.name, item.metadata["check"], _default(item))
            for item in fields(kind)
            if item.metadata.get("check")
        )
        _plans[kind] = plan
    return plan


def _default(item: Any) -> Callable[[], Any]:
    """What makes the value of a field that was left out."""
    if item.default_factory is not MISSING:
        return cast("Callable[[], Any]", item.default_factory)
    if item.default is not MISSING:
        return lambda: item.default
    return _missing


def _missing() -> Any:
    raise _Unfit("missing")


def _checked(kind: type, body: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``kind`` from received JSON."""
    values = {}
    name = ""
    try:
        for name, check, default in _plan(kind):
            values[name] = check(body[name]) if name in body else default()
    except _Unfit as error:
        raise _bad_field(kind, name, error) from error
    return values


def _values(item: Any) -> dict[str, Any]:
    """The fields of ``item`` for JSON."""
    values, own = {}, vars(item)
    name = ""
    try:
        for name, check, _default_of in _plan(type(item)):
            values[name] = check(own[name])
    except _Unfit as error:
        raise _bad_field(type(item), name, error) from error
    return values


def _bad_field(kind: type, name: str, error: _Unfit) -> WireError:
    return WireError("bad_field", f"{kind.__name__.lower()}.{name}: {error}")


def _made(kind: type[T], values: dict[str, Any]) -> T:
    """What ``kind(**values)`` gives, where ``values`` names every field: a frozen dataclass sets each of them by a call."""
    item = object.__new__(kind)
    vars(item).update(values)
    return item


def altered(item: T, **changes: Any) -> T:
    """What `dataclasses.replace` gives for a dataclass that only holds values, in a quarter of the time.

    :raises TypeError: it has no such field.
    """
    values = {**vars(item), **changes}
    if len(values) > len(vars(item)):
        raise TypeError(f"{type(item).__name__} has not all of the fields {', '.join(changes)}")
    return _made(type(item), values)


def _dump(body: dict[str, Any], limit: int) -> bytes:
    data = _ENCODER.encode(body).encode("utf-8")
    if len(data) > limit:
        raise WireError("too_long", f"{len(data)} bytes, at most {limit} are allowed")
    return data


def _load(data: bytes, limit: int) -> dict[str, Any]:
    if len(data) > limit:
        raise WireError("too_long", f"{len(data)} bytes, at most {limit} are allowed")
    try:
        body = _DECODER.decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise WireError("not_json", str(error)[:200]) from error
    if not isinstance(body, dict):
        raise WireError("not_json", "expected a JSON object")
    return body


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


# Made once: json.dumps and json.loads would make new ones for every message.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
