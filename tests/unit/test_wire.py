# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wire format: what is sent comes back, and bytes that are no message raise `WireError` and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit import wire_values as values

from ansible_collections.isolift.vm.plugins.module_utils import records, wire
from ansible_collections.isolift.vm.plugins.module_utils.records import RECORDS
from ansible_collections.isolift.vm.plugins.module_utils.wire import WireError

FIELDS = [
    pytest.param(kind, name, id=f"{kind.TYPE}.{name}")
    for kind, described in {**values.PAYLOADS, **values.FRAMES}.items()
    for name in described
]
ENVELOPE = [pytest.param(name, id=name) for name in values.ENVELOPE]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def coded(item: wire.Message | wire.Payload) -> bytes:
    return wire.encode(item) if isinstance(item, wire.Message) else wire.encode_frame(item)[:-1]


def decoded(data: bytes) -> wire.Message | wire.Payload:
    """``data`` as a message or, where it has no schema of its own, as a frame."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict) and "schema" not in body:
        return wire.decode_frame(data, RECORDS)
    return wire.decode(data, RECORDS)


def body_of(item: wire.Message | wire.Payload) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(coded(item))
    return body


def dumped(body: Any) -> bytes:
    return json.dumps(body).encode()


def whole(kind: type[wire.Payload], **changed: Any) -> wire.Message | wire.Payload:
    """A message or frame of ``kind`` with ``changed`` fields of its own."""
    own = replace(values.sample(kind), **changed)
    return own if kind in values.FRAMES else values.message(own)


def altered(kind: type[wire.Payload], name: str, value: Any) -> bytes:
    """The bytes of a message or frame of ``kind`` whose field ``name`` holds ``value``."""
    body = body_of(whole(kind))
    (body if kind in values.FRAMES else body["payload"])[name] = value
    return dumped(body)


def refusal(data: bytes) -> WireError:
    with pytest.raises(WireError) as raised:
        decoded(data)
    return raised.value


# What is sent comes back.


def test_every_type_and_every_field_is_tested_here() -> None:
    assert set(values.PAYLOADS) == set(RECORDS.values())
    assert set(values.FRAMES) == set(wire.FRAMES.values())
    for kind, described in {**values.PAYLOADS, **values.FRAMES}.items():
        assert {each.name for each in fields(kind)} - {"message"} == set(described)
    assert {each.name for each in fields(wire.Message)} == {"payload", *values.ENVELOPE}


@given(values.messages())
def test_a_message_comes_back_as_it_was_sent(message: wire.Message) -> None:
    assert wire.decode(wire.encode(message), RECORDS) == message


@given(values.frames())
def test_a_frame_is_one_line_and_comes_back_as_it_was_sent(frame: wire.Payload) -> None:
    line = wire.encode_frame(frame)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert wire.decode_frame(line[:-1], RECORDS) == frame


@given(values.messages())
def test_a_relay_can_pass_on_whatever_it_could_read(message: wire.Message) -> None:
    taken = wire.decode(wire.encode(message), RECORDS)
    assert wire.encode(taken) == wire.encode(message)


@given(values.messages())
def test_a_message_is_the_same_bytes_in_a_frame(message: wire.Message) -> None:
    carry = wire.Carry(message=message, session="s", now=0.0)
    assert wire.encode(message) in wire.encode_frame(carry)


@given(st.lists(values.messages(), min_size=1, max_size=5))
def test_a_bundle_falls_apart_into_its_messages(messages: list[wire.Message]) -> None:
    encoded = [wire.encode(message) for message in messages]
    assert wire.unbundled(wire.bundled(encoded)) == encoded


@given(values.messages(), st.dictionaries(st.text().map("x-{}".format), JSON, max_size=3))
def test_unknown_fields_are_ignored_everywhere(message: wire.Message, more: dict[str, Any]) -> None:
    body = {**body_of(message), **more}
    body["payload"] = {**body["payload"], **more}
    try:
        assert (
            wire.decode(json.dumps(body, allow_nan=False).encode("utf-8", "surrogatepass"), RECORDS)
            == message
        )
    except ValueError:  # NaN, which is not JSON
        assert refusal(dumped(body)).code == "not_json"


# Limits, both ways.


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_field_takes_the_most_it_may(kind: type[wire.Payload], name: str) -> None:
    for value in {**values.PAYLOADS, **values.FRAMES}[kind][name].fitting():
        item = whole(kind, **{name: value})
        assert decoded(coded(item)) == item


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_what_a_field_does_not_take_is_neither_read_nor_sent(kind: type[wire.Payload], name: str) -> None:
    where = f"bad_field: {kind.TYPE}.{name}: "
    for value in {**values.PAYLOADS, **values.FRAMES}[kind][name].unfit():
        error = refusal(altered(kind, name, value))
        if error.code == "not_json":
            assert "nan" in repr(value) or "inf" in repr(value)
        else:
            assert str(error).startswith(where), value
        with pytest.raises(WireError, match=where):
            coded(whole(kind, **{name: value}))


@pytest.mark.parametrize("name", ENVELOPE)
def test_the_envelopes_fields_have_limits_too(name: str) -> None:
    message = values.message(wire.Cancel())
    for value in values.ENVELOPE[name].fitting():
        changed = replace(message, **{name: value})
        assert wire.decode(wire.encode(changed)) == changed
    for value in values.ENVELOPE[name].unfit():
        assert refusal(dumped({**body_of(message), name: value})).code in ("bad_field", "not_json")
        with pytest.raises(WireError, match=f"bad_field: message.{name}: "):
            wire.encode(replace(message, **{name: value}))


@pytest.mark.parametrize("key", [1, None, True, ("a",)])
def test_a_fact_without_a_name_is_not_sent(key: Any) -> None:
    with pytest.raises(WireError, match="request.facts: expected text"):
        wire.encode(values.message(wire.Request("1", facts={key: 1})))


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_missing_field_has_its_default_or_is_missed(kind: type[wire.Payload], name: str) -> None:
    item = whole(kind)
    body = body_of(item)
    del (body if kind in values.FRAMES else body["payload"])[name]
    optional = {each.name for each in fields(kind) if each.default is not each.default_factory}
    if name in optional:
        taken = decoded(dumped(body))
        own = taken.payload if isinstance(taken, wire.Message) else taken
        assert getattr(own, name) == getattr(kind(**_required(kind)), name)
    else:
        assert str(refusal(dumped(body))) == f"bad_field: {kind.TYPE}.{name}: missing"


def _required(kind: type[wire.Payload]) -> dict[str, Any]:
    return {
        each.name: getattr(values.sample(kind), each.name)
        for each in fields(kind)
        if each.default is each.default_factory
    }


@pytest.mark.parametrize("name", ["type", "schema", "payload", *values.ENVELOPE])
def test_no_part_of_the_envelope_may_be_missing(name: str) -> None:
    body = body_of(values.message(wire.Cancel()))
    del body[name]
    with pytest.raises(WireError):
        wire.decode(dumped(body))


# The size of the whole.


def test_a_message_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    message = values.message(wire.Cancel())
    room = wire.MESSAGE_LIMIT - len(wire.encode(message))
    padded = wire.encode(message) + b" " * room
    assert wire.decode(padded) == message
    with pytest.raises(WireError, match="too_long"):
        wire.decode(padded + b" ")


def test_a_frame_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    line = wire.encode_frame(wire.Knock())[:-1]
    padded = line + b" " * (wire.FRAME_LIMIT - len(line))
    assert wire.decode_frame(padded) == wire.Knock()
    with pytest.raises(WireError, match="too_long"):
        wire.decode_frame(padded + b" ")


def test_a_message_that_would_be_too_long_is_not_sent() -> None:
    facts = {f"{number:064}": "\0" * 256 for number in range(64)}
    with pytest.raises(WireError, match="too_long"):
        wire.encode(values.message(wire.Request("1", facts=facts)))


def test_the_longest_message_fits_into_a_frame_of_the_longest_session() -> None:
    facts = {f"{number:064}": "\U0001f600" * 237 for number in range(64)}
    message = values.message(wire.Request("", facts=facts))
    room = wire.MESSAGE_LIMIT - len(wire.encode(message))
    message = replace(message, message_id="x" * min(room, 96))
    assert len(wire.encode(message)) > wire.MESSAGE_LIMIT - 300
    carry = wire.Carry(message=message, session="\0" * 64, now=-123456789012345.6)
    assert wire.decode_frame(wire.encode_frame(carry)[:-1]) == carry


def test_chunks_of_the_longest_names_fit_into_their_records() -> None:
    rows = tuple(
        records.Row("0" * 36, "桌" * 255, "节" * 255, "因" * 255) for _unused in range(2 * records.CHUNK)
    )
    chunks = list(records.chunks(rows))
    for chunk in chunks:
        assert wire.decode(wire.encode(values.message(chunk)), RECORDS).payload == chunk
    assert sum((chunk.vms for chunk in chunks), ()) == rows


def test_chunks_of_short_names_are_full() -> None:
    rows = tuple(records.Row("0" * 36, f"desk-{number}", "node") for number in range(2 * records.CHUNK + 1))
    assert [len(chunk.vms) for chunk in records.chunks(rows)] == [records.CHUNK, records.CHUNK, 1]


# Bytes that are no message.


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_the_one_error(data: bytes) -> None:
    for decode in (wire.decode, wire.decode_frame):
        with pytest.raises(WireError):
            decode(data)


@given(JSON)
def test_arbitrary_json_raises_nothing_but_the_one_error(body: Any) -> None:
    data = json.dumps(body).encode("utf-8", "surrogatepass")
    for decode in (wire.decode, wire.decode_frame):
        with pytest.raises(WireError):
            decode(data)


@st.composite
def mutated_bodies(draw: st.DrawFn) -> Any:
    """A valid message or frame in which one node was replaced by arbitrary JSON, or given a second value."""
    body = body_of(draw(st.one_of(values.messages(), values.frames())))
    node: Any = body
    while True:
        keys = sorted(node) if isinstance(node, dict) else list(range(len(node)))
        key = draw(st.sampled_from(keys)) if keys else None
        inner = node[key] if key is not None else None
        if not isinstance(inner, (dict, list)) or draw(st.booleans()):
            break
        node = inner
    if key is not None:
        node[key] = draw(JSON)
    return body


@given(mutated_bodies())
def test_a_message_that_was_tampered_with_is_refused_or_can_be_passed_on(body: Any) -> None:
    data = json.dumps(body).encode("utf-8", "surrogatepass")
    try:
        taken = decoded(data)
    except WireError:
        return
    assert decoded(coded(taken)) == taken


@given(st.one_of(values.messages(), values.frames()), st.data())
def test_a_message_with_bytes_changed_cut_or_added_raises_nothing_but_the_one_error(
    item: wire.Message | wire.Payload, data: st.DataObject
) -> None:
    raw = coded(item)
    first = data.draw(st.integers(0, len(raw)))
    last = data.draw(st.integers(first, min(len(raw), first + 8)))
    changed = raw[:first] + data.draw(st.binary(max_size=8)) + raw[last:]
    try:
        taken = decoded(changed)
    except WireError:
        return
    assert decoded(coded(taken)) == taken


DEEP = [b"[" * 60_000, b'{"a":' * 12_000, b'{"a":' * 900 + b"1" + b"}" * 900, b"[" * 990 + b"]" * 990]


@pytest.mark.parametrize("deep", DEEP, ids=["list", "object", "closed object", "closed list"])
@pytest.mark.parametrize("where", ["", "type", "schema", "payload", "vm", "epoch", "unknown"])
def test_deep_nesting_is_refused_wherever_it_stands(deep: bytes, where: str) -> None:
    body = body_of(values.message(wire.Cancel()))
    body[where] = "HERE"
    data = dumped(body).replace(b'"HERE"', deep) if where else deep
    try:
        assert wire.decode(data) == values.message(wire.Cancel())
        assert where in ("payload", "unknown")  # an ignored field may hold what Python can read
    except WireError as error:
        assert len(str(error)) < 400


@pytest.mark.parametrize(
    "number", [b"9" * 60_000, b"9" * 4300, b"1e999", b"-1e999", b"1e-999", b"-0", b"0.1e1"]
)
def test_no_number_is_too_large_to_be_refused(number: bytes) -> None:
    for name in ("attempt", "epoch", "created_at", "schema", "type"):
        body = body_of(values.message(wire.Cancel()))
        body[name] = "HERE"
        data = dumped(body).replace(b'"HERE"', number)
        try:
            taken = wire.decode(data)
        except WireError:
            continue
        assert wire.decode(wire.encode(taken)) == taken


@pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-Infinity"])
def test_words_that_are_no_json_numbers_are_refused_even_where_a_field_is_ignored(word: bytes) -> None:
    data = wire.encode(values.message(wire.Cancel()))[:-1] + b',"ignored":' + word + b"}"
    assert refusal(data).code == "not_json"


@pytest.mark.parametrize("escape", [rb"\ud800", rb"\udfff", rb"\ude00\ud83d", rb"x\ud83d"])
def test_half_a_surrogate_pair_is_refused_because_it_could_not_be_sent_on(escape: bytes) -> None:
    for name, code in (("vm", "bad_field"), ("type", "unknown_type"), ("schema", "bad_schema")):
        body = body_of(values.message(wire.Cancel()))
        body[name] = "HERE"
        error = refusal(dumped(body).replace(b"HERE", escape))
        assert error.code == code
        str(error).encode("utf-8")  # the reason itself can be sent


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"null",
        b"1",
        b'"x"',
        b"[]",
        b"{}{}",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"\x00",
        b"{'a':1}",
        b'{"a":1,}',
    ],
)
def test_what_is_no_json_object_is_refused_as_such(data: bytes) -> None:
    assert refusal(data).code == "not_json"


def test_of_a_key_that_comes_twice_the_last_one_counts_for_everybody() -> None:
    data = wire.encode(values.message(wire.Cancel())).replace(b'"vm":""', b'"vm":7,"vm":"second"')
    assert wire.decode(data).vm == "second"


@pytest.mark.parametrize("schema", [0, 2, 1.5, "1", None, [], "x" * 50_000])
def test_another_schema_is_refused_and_the_reason_names_ours(schema: Any) -> None:
    error = refusal(dumped({**body_of(values.message(wire.Cancel())), "schema": schema}))
    assert error.code == "bad_schema"
    assert "schema 1" in str(error) and len(str(error)) < 200


@pytest.mark.parametrize("schema", [True, 1.0])
def test_what_merely_equals_the_schema_is_not_it(schema: Any) -> None:
    assert refusal(dumped({**body_of(values.message(wire.Cancel())), "schema": schema})).code == "bad_schema"


@pytest.mark.parametrize(
    "name", ["", "Cancel", "hello", "x" * 50_000, "\x1b[2J", "\U0001f600" * 40, 1, None, [], {}]
)
def test_an_unknown_type_is_refused_and_the_reason_fits_into_a_report(name: Any) -> None:
    error = refusal(dumped({**body_of(values.message(wire.Cancel())), "type": name}))
    assert error.code == "unknown_type"
    assert "\x1b" not in str(error)
    wire.encode(values.message(wire.Refused(error.code, error.detail)))


@pytest.mark.parametrize("name", ["", "cancel", "x" * 50_000, None, 1])
def test_an_unknown_frame_is_refused_with_a_reason(name: Any) -> None:
    with pytest.raises(WireError, match="unknown_type"):
        wire.decode_frame(dumped({"type": name}))


def test_a_type_that_may_not_come_here_is_unknown_here() -> None:
    reports = wire.registry(*wire.REPORTS)
    for kind in RECORDS.values():
        data = coded(whole(kind))
        carried = wire.encode_frame(wire.Carry(values.message(values.sample(kind)), "s", 0.0))[:-1]
        if kind in wire.REPORTS:
            assert wire.decode(data, reports) == whole(kind)
            continue
        with pytest.raises(WireError, match="unknown_type"):
            wire.decode(data, reports)
        with pytest.raises(WireError, match="unknown_type"):
            wire.decode_frame(carried, reports)


@pytest.mark.parametrize("message", [None, 1, "x", [], {}])
def test_a_carried_message_is_a_message(message: Any) -> None:
    refusal(dumped({"type": "carry", "session": "s", "now": 0, "message": message}))


def test_a_payload_is_an_object() -> None:
    for payload in (None, 1, "x", [], [["reason", "x"]]):
        error = refusal(dumped({**body_of(values.message(wire.Cancel())), "payload": payload}))
        assert str(error) == "bad_field: cancel.payload: expected an object"


@dataclass(frozen=True)
class Novelty(wire.Payload):
    """A type that a later version may add."""

    TYPE = "novelty"
    name: str = field(metadata=wire.text(4))


def test_a_new_type_needs_nothing_but_its_class() -> None:
    message = values.message(Novelty("new"))
    assert wire.decode(wire.encode(message), {**RECORDS, **wire.registry(Novelty)}) == message
    with pytest.raises(WireError, match="unknown_type"):
        wire.decode(wire.encode(message), RECORDS)


# Alteration.


@given(values.messages(), st.floats(0, 4e9), st.text(max_size=9))
def test_an_altered_message_is_what_replace_makes_of_it(
    message: wire.Message, created_at: float, vm: str
) -> None:
    before = replace(message)
    altered = wire.altered(message, created_at=created_at, vm=vm)
    assert altered == replace(message, created_at=created_at, vm=vm)
    assert message == before


def test_only_fields_that_there_are_can_be_altered() -> None:
    with pytest.raises(TypeError, match="Message has not all of the fields vm, node"):
        wire.altered(values.message(wire.Cancel()), vm="x", node="y")
