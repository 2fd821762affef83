"""One record at a time: what is written is read again, and what can't be is refused."""

import copy
import json
import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import contract, wire
from schemas.codec import Codec
from schemas.contract import Schema
from schemas.errors import (
    InvalidRecordError,
    Reason,
    RefusedError,
    RegistryUnavailableError,
)
from schemas.registry import SchemaRegistry
from schemas.resolution import FieldType, field_types
from tests.fuzz import plain
from tests.schemas.conftest import RegistryServer
from tests.schemas.events import NOON_US, REQUEST, long, request, value

_LONG = st.integers(-(2**63), 2**63 - 1)
_PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": _LONG,
    "double": st.floats(allow_nan=False),
    "string": st.text(),
    "bytes": st.binary(),
    "timestamp-micros": st.datetimes(timezones=st.just(UTC)),
    "array": st.lists(st.text(), max_size=5),
}


def _values(kind: FieldType) -> st.SearchStrategy[Any]:
    plain = st.sampled_from(kind.symbols) if kind.kind == "enum" else _PLAIN[kind.kind]
    return st.none() | plain if kind.nullable else plain


@st.composite
def _records(draw: st.DrawFn) -> tuple[Schema, dict[str, Any]]:
    schema = contract.schema(draw(st.sampled_from(contract.names())))
    return schema, {name: draw(_values(kind)) for name, kind in field_types(schema).items()}


@given(_records())
def test_any_record_comes_back_as_it_was(sample: tuple[Schema, dict[str, Any]]) -> None:
    schema, record = sample
    assert Codec(schema).decode(Codec(schema).encode(record)) == record


def test_the_header_is_the_single_object_one() -> None:
    encoded = Codec(REQUEST).encode(request(1))
    assert encoded[:2] == b"\xc3\x01"
    assert encoded[2:10] == REQUEST.fingerprint


def test_the_fingerprint_is_crc_64_avro_of_the_specification() -> None:
    # From the specification's own test data: the canonical form "int".
    empty = 0xC15D213AA4D7A795
    table = []
    for byte in range(256):
        entry = byte
        for _ in range(8):
            entry = (entry >> 1) ^ (empty & -(entry & 1))
        table.append(entry)

    def rabin(text: bytes) -> int:
        state = empty
        for byte in text:
            state = (state >> 8) ^ table[(state ^ byte) & 0xFF]
        return state

    assert rabin(b'"int"') == 0x7275D51A3F395C8F
    schema = Schema.of({"type": "record", "name": "R", "fields": [{"name": "f", "type": "int", "doc": "x"}]})
    canonical = b'{"name":"R","type":"record","fields":[{"name":"f","type":"int"}]}'
    assert schema.fingerprint == struct.pack("<Q", rabin(canonical))


def test_defaults_fill_in_for_fields_left_out() -> None:
    needed = ("event_id", "request_id", "phase", "occurred_at", "service", "provider", "model")
    codec = Codec(REQUEST)
    decoded = codec.decode(codec.encode({name: request(1)[name] for name in needed}))
    assert decoded["attributes"] == []
    assert decoded["prompt_tokens"] is None
    assert decoded["occurred_at"] == datetime.fromtimestamp(NOON_US // 10**6, UTC).replace(microsecond=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "tell me"}, "prompt"),
        ({"event_id": None}, "event_id"),
        ({"phase": "begun"}, "begun"),
        ({"prompt_tokens": "many"}, "prompt_tokens"),
        ({"prompt_tokens": 2**63}, "prompt_tokens"),
        ({"occurred_at": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001
    ],
)
def test_a_record_that_does_not_fit_is_not_written(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRecordError, match=message):
        Codec(REQUEST).encode(request(1, **changes))


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"{}", Reason.UNKNOWN_FORMAT),
        (b"\xc3", Reason.UNKNOWN_FORMAT),
        (b"\xc3\x01abc", Reason.MALFORMED),
        (b"\x00\x00\x00", Reason.MALFORMED),
        (b"\xc3\x01notknown...", Reason.UNKNOWN_SCHEMA),
        (wire.confluent_header(7) + b"...", Reason.UNKNOWN_SCHEMA),
        (value(request(1))[:-1], Reason.MALFORMED),
        (value(request(1)) + b"\x00", Reason.LEFT_OVER_BYTES),
        (value(request(1))[:10] + long(2**60), Reason.MALFORMED),
        (value(request(1))[:10] + long(-5) + b"12345", Reason.MALFORMED),
        (value(request(1)).replace(b"support", b"sup\xff\xfet\x80"), Reason.MALFORMED),
        (value(request(1, occurred_at=2**62)), Reason.MALFORMED),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(broken: bytes, reason: Reason) -> None:
    with pytest.raises(RefusedError) as refused:
        Codec(REQUEST).decode(broken)
    assert refused.value.reason == reason
    assert refused.value.detail


class TestWithARegistry:
    def test_values_carry_the_registered_id(
        self, registry: SchemaRegistry, registry_server: RegistryServer
    ) -> None:
        registry_server.add('"taken"')
        codec = Codec(REQUEST, registry)
        encoded = codec.encode(request(1))
        assert encoded[:5] == b"\x00\x00\x00\x00\x02"
        assert registry_server.subjects == {"chat.requests-value": [2]}
        assert codec.decode(encoded)["event_id"] == "event-000001"

    def test_single_object_values_are_read_all_the_same(self, registry: SchemaRegistry) -> None:
        assert Codec(REQUEST, registry).decode(value(request(3)))["event_id"] == "event-000003"

    def test_a_record_of_several_topics_wants_to_know_which(
        self, registry: SchemaRegistry, registry_server: RegistryServer
    ) -> None:
        schema = contract.schema("WindowBlock")
        block = dict.fromkeys(("pane", "grouping"), "x") | {"rows": b"", "imported": False, "closed": False}
        block |= dict.fromkeys(("pane_start", "pane_end", "watermark"), 0)
        block |= dict.fromkeys(("bucket", "partition", "since", "offset", "revision"), 0)
        with pytest.raises(ValueError, match="2 topics"):
            Codec(schema, registry).encode(block)
        Codec(schema, registry, topic="chat.usage").encode(block)
        assert list(registry_server.subjects) == ["chat.usage-value"]

    def test_another_records_schema_is_refused(
        self, registry: SchemaRegistry, registry_server: RegistryServer
    ) -> None:
        number = registry_server.add(json.dumps(contract.schema("Sample").definition))
        with pytest.raises(RefusedError, match="is Sample, not RequestEvent"):
            Codec(REQUEST, registry).decode(wire.confluent_header(number) + b"\x00")

    def test_a_registry_that_is_away_refuses_nothing(
        self, registry: SchemaRegistry, registry_server: RegistryServer
    ) -> None:
        registry_server.faults.extend([503] * 4)
        with pytest.raises(RegistryUnavailableError):
            Codec(REQUEST, registry).decode(wire.confluent_header(1) + b"\x00")

    def test_an_older_writer_is_read_as_today(
        self, registry: SchemaRegistry, registry_server: RegistryServer
    ) -> None:
        older = copy.deepcopy(REQUEST.definition)
        older["fields"] = [field for field in older["fields"] if field["name"] != "imported"]
        number = registry_server.add(json.dumps(older))
        record = request(1)
        del record["imported"]
        body = value(record, Schema.of(older))[10:]
        decoded = Codec(REQUEST, registry).decode(wire.confluent_header(number) + body)
        assert decoded["imported"] is False
        assert decoded["total_us"] == 1_500_001


@pytest.mark.parametrize(
    ("field", "spoiled"),
    [
        ("imported", b"\x02"),
        ("phase", b"\x01"),
        ("phase", b"\x04"),
        ("trace_id", b"\x04"),
        ("trace_id", b"\x01"),
    ],
)
def test_what_no_writer_writes_is_refused_rather_than_read_as_something(field: str, spoiled: bytes) -> None:
    """A Boolean of 2, an index beyond or before its enum, a branch that the union doesn't have."""
    whole = value(request(1))
    at = 10 + plain.read(whole[10:], REQUEST, REQUEST.fields).starts[field]
    with pytest.raises(RefusedError, match=field):
        Codec(REQUEST).decode(whole[:at] + spoiled + whole[at + 1 :])
