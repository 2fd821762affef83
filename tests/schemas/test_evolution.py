"""Values of other versions of a schema are read as the reader has it."""

import copy
import json
import random
from typing import Any

import polars as pl
import pytest

from schemas import wire
from schemas.columnar import ColumnarReader
from schemas.contract import Schema
from schemas.errors import Reason, RegistryUnavailableError
from schemas.registry import SchemaRegistry
from tests.schemas.conftest import RegistryServer
from tests.schemas.events import REQUEST, body, long, mutated, offsets, request, rows, value

HEADER = wire.single_object_header(REQUEST.fingerprint)


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
