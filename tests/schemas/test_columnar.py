"""A batch at a time: the good ones become rows, the bad ones are refused, and none harms another."""

import copy
import json
import random
import resource
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import contract, wire
from schemas.block import Block
from schemas.codec import Codec
from schemas.columnar import Batch, ColumnarReader, refuse_future
from schemas.contract import Schema
from schemas.errors import Reason, RefusedError, RegistryUnavailableError
from schemas.registry import SchemaRegistry
from schemas.resolution import field_types
from schemas.scan import Scan
from tests.schemas.conftest import RegistryServer
from tests.schemas.events import NOON_US, REQUEST, body, long, offsets, request, value
from tests.schemas.test_codec import _values

HEADER = wire.single_object_header(REQUEST.fingerprint)


def read(values: Sequence[bytes | None], columns: Sequence[str] | None = None) -> Batch:
    """Read, with what always holds checked."""
    reader = ColumnarReader(REQUEST, columns)
    batch = reader.read(values, offsets(values))
    assert batch.frame.schema == reader.frame_schema
    assert batch.frame["_offset"].to_list() == offsets(values)[batch.indices].tolist()
    assert all(refusal.offset == offsets(values)[refusal.index] for refusal in batch.refused)
    taken = sorted([*batch.indices.tolist(), *(refusal.index for refusal in batch.refused)])
    assert taken == list(range(len(values))), "every value is a row or a refusal"
    assert batch.indices.tolist() == sorted(batch.indices), "rows are in the order of the values"
    return batch


def reasons(batch: Batch) -> dict[int, Reason]:
    return {refusal.index: refusal.reason for refusal in batch.refused}


def rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """As fastavro would give them, with instants in microseconds."""
    instants = pl.col(pl.Datetime("us", "UTC")).to_physical()
    return frame.drop("_offset").with_columns(instants, pl.col(pl.Enum).cast(pl.String)).to_dicts()


class TestGoodValues:
    def test_rows_are_the_records(self) -> None:
        records = [request(number) for number in range(500)]
        batch = read([value(record) for record in records])
        assert rows(batch.frame) == records
        assert batch.refused == []

    def test_nothing_gives_an_empty_frame(self) -> None:
        batch = read([])
        assert batch.frame.height == 0
        assert batch.refused == []

    def test_columns_are_those_asked_for_in_that_order(self) -> None:
        batch = read([value(request(number)) for number in range(3)], ["total_us", "phase", "attributes"])
        assert batch.frame.columns == ["total_us", "phase", "attributes", "_offset"]
        assert batch.frame["total_us"].to_list() == [1_500_000, 1_500_001, 1_500_002]

    def test_no_columns_at_all_still_tells_good_from_bad(self) -> None:
        batch = read([value(request(0)), value(request(1))[:-1], value(request(2))], [])
        assert batch.frame.columns == ["_offset"]
        assert reasons(batch) == {1: Reason.MALFORMED}

    def test_only_fields_can_be_asked_for_and_each_once(self) -> None:
        with pytest.raises(ValueError, match="prompt_text"):
            ColumnarReader(REQUEST, ["model", "prompt_text"])
        with pytest.raises(ValueError, match="each once"):
            ColumnarReader(REQUEST, ["model", "model"])

    def test_every_value_needs_an_offset(self) -> None:
        with pytest.raises(ValueError, match="2 values, but 1 offsets"):
            ColumnarReader(REQUEST).read([b"", b""], np.array([1]))

    @settings(deadline=None, max_examples=60)
    @given(st.data())
    def test_any_records_of_any_schema_come_back_as_they_were(self, data: st.DataObject) -> None:
        schema = contract.schema(data.draw(st.sampled_from(contract.names())))
        record = st.fixed_dictionaries({name: _values(kind) for name, kind in field_types(schema).items()})
        records = data.draw(st.lists(record, min_size=1, max_size=8))
        encoded = [Codec(schema).encode(record) for record in records]
        batch = ColumnarReader(schema).read(encoded, offsets(encoded))
        decoded = batch.frame.drop("_offset").to_dicts()
        assert decoded == [Codec(schema).decode(one) for one in encoded]
        assert decoded == records


BAD: list[tuple[str, bytes | None, Reason]] = [
    ("null", None, Reason.EMPTY),
    ("no bytes", b"", Reason.EMPTY),
    ("JSON", b'{"event_id": "1"}', Reason.UNKNOWN_FORMAT),
    ("half a marker", b"\xc3", Reason.UNKNOWN_FORMAT),
    ("half a header", HEADER[:7], Reason.MALFORMED),
    ("only a header", HEADER, Reason.MALFORMED),
    ("a stranger's fingerprint", b"\xc3\x01stranger" + b"\x00" * 50, Reason.UNKNOWN_SCHEMA),
    ("a registry id, without a registry", b"\x00\x00\x00\x00\x01" + b"\x00" * 50, Reason.UNKNOWN_SCHEMA),
    ("cut", value(request(5))[:-9], Reason.MALFORMED),
    ("cut by one byte", value(request(5))[:-1], Reason.MALFORMED),
    ("a byte more", value(request(5)) + b"\x00", Reason.LEFT_OVER_BYTES),
    ("twice", value(request(5)) + body(REQUEST, request(5)), Reason.LEFT_OVER_BYTES),
    ("a text of 2^60 bytes", HEADER + long(2**60) + b"abc", Reason.MALFORMED),
    ("a text of minus 5 bytes", HEADER + long(-5) + b"abcdefg", Reason.MALFORMED),
    ("a text that takes in its neighbours", HEADER + long(300) + b"abc", Reason.MALFORMED),
    ("a number without end", HEADER + b"\xff" * 40, Reason.MALFORMED),
    ("text that is not UTF-8", value(request(5)).replace(b"event-", b"event\xff"), Reason.MALFORMED),
    ("half a surrogate pair", value(request(5)).replace(b"event-", b"eve\xed\xa0\x80"), Reason.MALFORMED),
    ("2^60 attributes", value(request(5))[:-1] + long(2**60), Reason.MALFORMED),
    ("-2^60 attributes", value(request(5))[:-1] + long(-(2**60)) + long(3), Reason.MALFORMED),
    ("-2^63 attributes", value(request(5))[:-1] + long(-(2**63)) + long(3), Reason.MALFORMED),
    (
        "an enum's index too large",
        value(request(5)).replace(b"\x02" + long(NOON_US + 5), b"\x04" + long(NOON_US + 5)),
        Reason.MALFORMED,
    ),
    (
        "an enum's index below 0",
        value(request(5)).replace(b"\x02" + long(NOON_US + 5), b"\x01" + long(NOON_US + 5)),
        Reason.MALFORMED,
    ),
    ("zeros", HEADER + bytes(100), Reason.LEFT_OVER_BYTES),
]


class TestBadValues:
    @pytest.mark.parametrize(("bad", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
    @pytest.mark.parametrize("place", [0, 3, 6], ids=["first", "between", "last"])
    def test_one_is_refused_and_its_neighbours_are_all_there(
        self, bad: bytes | None, reason: Reason, place: int
    ) -> None:
        values: list[bytes | None] = [value(request(number)) for number in range(6)]
        values.insert(place, bad)
        batch = read(values)
        assert reasons(batch) == {place: reason}
        assert batch.refused[0].detail
        assert rows(batch.frame) == [request(number) for number in range(6)]

    def test_all_of_them_together(self) -> None:
        batch = read([bad for _, bad, _ in BAD] * 30)
        assert batch.frame.height == 0
        assert reasons(batch) == dict(enumerate([reason for *_, reason in BAD] * 30))

    def test_a_large_batch_is_searched_for_its_few_bad_ones(self) -> None:
        values: list[bytes | None] = [value(request(number)) for number in range(20_000)]
        places = [0, 1, 777, 9_999, 10_000, 19_999]
        for place in places:
            values[place] = values[place][:-3]  # type: ignore[index]
        batch = read(values, ["event_id"])
        assert reasons(batch) == dict.fromkeys(places, Reason.MALFORMED)
        assert batch.frame["event_id"].to_list() == [
            f"event-{number:06d}" for number in range(20_000) if number not in places
        ]

    def test_lengths_that_lie_allocate_nothing(self) -> None:
        lies = [HEADER + long(size) + b"x" for size in (2**31, 2**40, 2**60, 2**62)]
        lies += [value(request(1))[:-1] + long(count) + b"\x00" * 20 for count in (2**31, 2**60, -(2**60))]
        good = [value(request(number)) for number in range(100)]
        read([*good, lies[0]])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert len(read([*good, *lies * 10]).refused) == 70
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown_kib < 64 * 1024

    def test_what_makes_polars_panic_is_refused(self) -> None:
        cut = value(request(1))[:-120]
        block = Block(HEADER, field_types(REQUEST), REQUEST.fields)
        container, _ = block._container([cut])
        with pytest.raises(pl.exceptions.PanicException):
            pl.read_avro(container)
        assert reasons(read([cut, value(request(2))])) == {0: Reason.MALFORMED}

    def test_forged_neighbours_are_seen_through(self) -> None:
        """A body that holds what the reader would put between two values, and a record of its own."""
        forged = value(request(1)) + HEADER + body(REQUEST, request(99))
        swallowing = value(request(1))[:-1] + long(1) + long(len(value(request(2))) + 1)
        for bad in (forged, swallowing):
            batch = read([value(request(0)), bad, value(request(2)), value(request(3))])
            assert rows(batch.frame) == [request(0), request(2), request(3)]


def mutated(original: bytes, chance: random.Random) -> bytes:
    """The value with its body cut, extended, garbled, or one bit of it flipped."""
    octets = bytearray(original)
    at = chance.randrange(len(HEADER), len(octets))
    match chance.randrange(6):
        case 0:
            del octets[at:]
        case 1:
            octets += chance.randbytes(chance.randrange(1, 30))
        case 2:
            octets[at] ^= 1 << chance.randrange(8)
        case 3:
            octets[at] = chance.randrange(256)
        case 4:
            octets[at : at + chance.randrange(12)] = chance.randbytes(chance.randrange(12))
        case _:
            octets[len(HEADER) :] = chance.randbytes(chance.randrange(200))
    return bytes(octets)


class TestMutations:
    @pytest.mark.parametrize("columns", [None, ["occurred_at", "space_id", "total_us"]])
    def test_no_neighbour_is_harmed(self, columns: list[str] | None) -> None:
        chance = random.Random(20260115)
        good = [value(request(number)) for number in range(9)]
        expected = read(good, columns).frame.drop("_offset")
        reader = ColumnarReader(REQUEST, columns)
        refused = 0
        for _ in range(2_500):
            values = list(good)
            at = chance.randrange(9)
            values[at] = mutated(values[at], chance)
            batch = reader.read(values, offsets(values))
            others = batch.frame.filter(pl.Series(batch.indices != at)).drop("_offset")
            keep = [row for row in range(9) if row != at]
            assert others.equals(expected[keep])
            assert {refusal.index for refusal in batch.refused} <= {at}
            refused += len(batch.refused)
        assert 1_000 < refused < 2_500, "mutations are of both kinds"

    @pytest.mark.parametrize("columns", [None, ["occurred_at", "space_id", "total_us"]])
    def test_whether_a_value_is_taken_does_not_depend_on_its_batch(self, columns: list[str] | None) -> None:
        """The scan, which looks for the bad ones, judges exactly as the columnar decoder does."""
        chance = random.Random(1)
        types = field_types(REQUEST)
        decoded = frozenset(types if columns is None else columns)
        block, scan = Block(HEADER, types, decoded), Scan(types, decoded)
        for number in range(4_000):
            mutant = mutated(value(request(number % 100)), chance)
            try:
                scan.check(mutant[len(HEADER) :])
                passed = True
            except RefusedError:
                passed = False
            assert passed == (block.decode([mutant]) is not None), mutant.hex()


def schema_of(**fields: object) -> Schema:
    """A version of the record `Probe`; a field is its type, or its type and default."""
    definition = []
    for name, field in fields.items():
        avro, default = field if isinstance(field, tuple) else (field, None)
        definition.append({"name": name, "type": avro} | ({"default": default[0]} if default else {}))
    return Schema.of({"type": "record", "name": "Probe", "fields": definition})


def enum(*symbols: str, **default: str) -> dict[str, Any]:
    return {"type": "enum", "name": "Kind", "symbols": list(symbols)} | default


class TestEvolution:
    """Values of other versions, which a registry knows by id."""

    @pytest.fixture(autouse=True)
    def _registry(self, registry: SchemaRegistry, registry_server: RegistryServer) -> None:
        self.registry = registry
        self.server = registry_server

    def value(self, schema: Schema, **record: object) -> bytes:
        number = self.server.add(json.dumps(schema.definition))
        return wire.confluent_header(number) + body(schema, record)

    def read(self, reader: Schema, *values: bytes | None) -> tuple[list[dict[str, Any]], list[Any]]:
        batch = ColumnarReader(reader, registry=self.registry).read(values, offsets(values))
        refused = [(refusal.index, refusal.reason, refusal.detail) for refusal in batch.refused]
        return rows(batch.frame), refused

    def test_added_fields_get_their_defaults(self) -> None:
        old = schema_of(a="long")
        new = schema_of(
            a="long",
            text=("string", ["none"]),
            maybe=(["null", "long"], [None]),
            flag=("boolean", [True]),
            octets=("bytes", ["\u00ff"]),
            kind=(enum("x", "y"), ["y"]),
            many=({"type": "array", "items": "string"}, [["p", "q"]]),
            none=({"type": "array", "items": "string"}, [[]]),
            at=({"type": "long", "logicalType": "timestamp-micros"}, [7]),
        )
        expected = {"text": "none", "maybe": None, "flag": True, "octets": b"\xff", "kind": "y"}
        expected |= {"many": ["p", "q"], "none": [], "at": 7}
        found, refused = self.read(new, self.value(old, a=1), self.value(old, a=2))
        assert found == [{"a": 1} | expected, {"a": 2} | expected]
        assert refused == []

    def test_removed_fields_are_stepped_over(self) -> None:
        old = schema_of(text="string", a="long", many={"type": "array", "items": "string"}, b="double")
        found, _ = self.read(
            schema_of(b="double", a="long"), self.value(old, text="t", a=1, many=["m"], b=0.5)
        )
        assert found == [{"b": 0.5, "a": 1}]

    def test_numbers_are_promoted(self) -> None:
        old = schema_of(a="int", b="int", c="long", d="float", e=["null", "int"], f="int")
        new = schema_of(a="long", b="double", c="float", d="double", e=["null", "long"], f=["null", "int"])
        found, _ = self.read(new, self.value(old, a=-3, b=4, c=5, d=0.5, e=None, f=2**31 - 1))
        assert found == [{"a": -3, "b": 4.0, "c": 5.0, "d": 0.5, "e": None, "f": 2**31 - 1}]

    def test_unknown_symbols_become_the_enums_default(self) -> None:
        old = schema_of(kind=enum("a", "b", "c"))
        found, _ = self.read(
            schema_of(kind=enum("c", "other", default="other")),
            *(self.value(old, kind=symbol) for symbol in "abc"),
        )
        assert [row["kind"] for row in found] == ["other", "other", "c"]

    def test_unknown_symbols_without_a_default_are_refused(self) -> None:
        old = schema_of(kind=enum("a", "b"))
        found, refused = self.read(
            schema_of(kind=enum("b")), self.value(old, kind="a"), self.value(old, kind="b")
        )
        assert found == [{"kind": "b"}]
        assert [refusal[:2] for refusal in refused] == [(0, Reason.MALFORMED)]

    def test_null_where_none_may_be_is_refused(self) -> None:
        old = schema_of(a=["null", "long"])
        found, refused = self.read(schema_of(a="long"), self.value(old, a=None), self.value(old, a=2))
        assert found == [{"a": 2}]
        assert refused == [(0, Reason.MALFORMED, "a is null")]

    def test_an_int_of_more_than_32_bits_is_refused(self) -> None:
        schema = schema_of(a="int")
        number = self.server.add(json.dumps(schema.definition))
        header = wire.confluent_header(number)
        found, refused = self.read(
            schema, header + long(2**31), header + long(-(2**31)), header + long(2**40)
        )
        assert found == [{"a": -(2**31)}]
        assert [refusal[0] for refusal in refused] == [0, 2]

    @pytest.mark.parametrize(
        ("writer", "problem"),
        [
            (schema_of(a="string"), "string can't be read as long"),
            (schema_of(b="long"), "no default"),
            (schema_of(a="long", m={"type": "map", "values": "string"}), "map is not taken"),
        ],
    )
    def test_a_writer_that_does_not_resolve_is_an_unknown_schema(self, writer: Schema, problem: str) -> None:
        values = [wire.confluent_header(self.server.add(json.dumps(writer.definition))) + b"\x00"] * 3
        found, refused = self.read(schema_of(a="long"), *values)
        assert found == []
        assert [(index, reason) for index, reason, _ in refused] == [
            (index, Reason.UNKNOWN_SCHEMA) for index in range(3)
        ]
        assert problem in refused[0][2]

    def test_versions_and_formats_may_be_mixed(self) -> None:
        older = copy.deepcopy(REQUEST.definition)
        older["fields"] = [
            field for field in older["fields"] if field["name"] not in ("imported", "instance")
        ]
        before = Schema.of(older)
        records = [request(number, imported=False, instance=None) for number in range(300)]
        values: list[bytes | None] = []
        for number, record in enumerate(records):
            match number % 3:
                case 0:
                    values.append(value(record))
                case 1:
                    values.append(self.value(REQUEST, **record))
                case _:
                    del (shorter := dict(record))["imported"], shorter["instance"]
                    values.append(self.value(before, **shorter))
        values[30:30] = [None, self.value(before, **shorter)[:-2], wire.confluent_header(999) + b"x"]
        found, refused = self.read(REQUEST, *values)
        assert found == records
        assert [refusal[:2] for refusal in refused] == [
            (30, Reason.EMPTY),
            (31, Reason.MALFORMED),
            (32, Reason.UNKNOWN_SCHEMA),
        ]

    def test_no_neighbour_is_harmed_in_the_confluent_format(self) -> None:
        chance = random.Random(7)
        good = [self.value(REQUEST, **request(number)) for number in range(5)]
        reader = ColumnarReader(REQUEST, registry=self.registry)
        expected = reader.read(good, offsets(good)).frame
        for _ in range(500):
            at = chance.randrange(5)
            values = list(good)
            values[at] = values[at][:5] + mutated(HEADER + values[at][5:], chance)[len(HEADER) :]
            batch = reader.read(values, offsets(values))
            keep = [row for row in range(5) if row != at]
            assert batch.frame.filter(pl.Series(batch.indices != at)).equals(expected[keep])

    def test_a_registry_that_is_away_refuses_nothing(self) -> None:
        values = [value(request(0)), self.value(REQUEST, **request(1))]
        reader = ColumnarReader(REQUEST, registry=self.registry)
        self.server.faults.extend([503] * 4)
        with pytest.raises(RegistryUnavailableError):
            reader.read(values, offsets(values))
        assert reader.read(values, offsets(values)).frame.height == 2


class TestTheFuture:
    def test_events_over_five_minutes_ahead_of_their_arrival_are_refused(self) -> None:
        arrived_at = NOON_US + np.array([0, 0, 0, 0])
        ahead = (-(10**12), 300_000_000, 300_000_001)
        values = [None, *(value(request(0, occurred_at=NOON_US + lead)) for lead in ahead)]
        batch = refuse_future(read(values, ["occurred_at"]), arrived_at)
        assert reasons(batch) == {0: Reason.EMPTY, 3: Reason.IN_THE_FUTURE}
        assert batch.indices.tolist() == [1, 2]
        assert "300.0 s after" in batch.refused[1].detail

    def test_the_largest_instant_does_not_wrap_around(self) -> None:
        batch = read([value(request(0, occurred_at=2**63 - 1)), value(request(1))])
        assert reasons(refuse_future(batch, np.array([NOON_US] * 2))) == {0: Reason.IN_THE_FUTURE}
