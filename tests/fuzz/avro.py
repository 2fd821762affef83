"""The readers of Avro: batches in which some values are bad, against a plain reading of each."""

import io
import math
import random
import struct
from typing import Any

import fastavro
import numpy as np
import polars as pl

from schemas import contract, wire
from schemas.codec import Codec
from schemas.columnar import ColumnarReader
from schemas.contract import Schema
from schemas.errors import RefusedError, RegistryRejectedError
from tests.fuzz import plain
from tests.fuzz.mutation import spoiled
from tests.schemas.events import NOON_US, body

_TEXTS = ("", "a", "gpt-4o-mini", "x" * 300, "日本語 🦊", "\0", "key=value", "ÿ" * 64)
_NUMBERS = (0, 1, -1, 63, 64, 8191, 2**31 - 1, -(2**31), 2**53, 2**63 - 1, -(2**63), NOON_US)
_DOUBLES = (0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 5e-324)
_MOST_INSTANT = 253_402_300_799_999_999
_LEAST_INSTANT = -62_135_596_800_000_000


class _Registry:
    """Ids of all versions of all records, in the place of a registry."""

    def __init__(self) -> None:
        everything = [schema for name in contract.names() for schema in contract.history(name)]
        self.schemas = dict(enumerate(everything, start=1))

    def schema(self, schema_id: int) -> Schema:
        if schema_id not in self.schemas:
            raise RegistryRejectedError(f"no schema has the id {schema_id}")
        return self.schemas[schema_id]

    def id_of(self, schema: Schema) -> int:
        return next(number for number, known in self.schemas.items() if known is schema)


class AvroBatches:
    """No bad value changes what its neighbours say, and each is a row or a refusal, by itself."""

    name = "avro"

    def __init__(self) -> None:
        self._registry: Any = _Registry()
        self._readers: dict[Any, ColumnarReader] = {}
        self._codecs = {name: Codec(contract.schema(name), self._registry) for name in contract.names()}

    def case(self, chance: random.Random) -> tuple[str, list[str], list[bytes | None]]:
        """A record, the columns to read, and values."""
        name = chance.choice((*contract.names(), "RequestEvent", "RequestEvent"))
        fields = list(contract.schema(name).fields)
        columns = fields if chance.random() < 0.6 else chance.sample(fields, chance.randrange(len(fields)))
        versions = [(schema, confluent) for schema in contract.history(name) for confluent in (False, True)]
        if chance.random() < 0.7:
            versions = [chance.choice(versions)]
        pool = [self._good(*chance.choice(versions), chance) for _ in range(chance.choice((2, 6, 24)))]
        values: list[bytes | None] = [value for value, _ in pool]
        for at, (value, places) in enumerate(pool):
            if chance.random() < chance.choice((0.05, 0.3, 1.0)):
                values[at] = self._bad(value, places, [value for value, _ in pool], chance)
        return name, columns, values

    def check(self, case: tuple[str, list[str], list[bytes | None]]) -> None:
        name, columns, values = case
        key = (name, tuple(columns))
        if len(self._readers) > 200:
            self._readers.clear()
        if key not in self._readers:
            self._readers[key] = ColumnarReader(contract.schema(name), columns, self._registry)
        offsets = 1_000 + 3 * np.arange(len(values), dtype=np.int64)
        batch = self._readers[key].read(values, offsets)

        expected = [self._plain(value, name, columns) for value in values]
        good = [at for at, reading in enumerate(expected) if reading is not None]
        bad = [at for at, reading in enumerate(expected) if reading is None]
        assert batch.indices.tolist() == good, "the good values, and no others, are rows"
        assert [refusal.index for refusal in batch.refused] == bad, "one refusal for each other"
        assert batch.frame["_offset"].to_list() == offsets[good].tolist()
        found = _rows(batch.frame)
        for at, row in zip(good, found, strict=True):
            reading = expected[at]
            assert reading is not None
            assert _alike(row, reading.record), f"value {at}: {row} is not {reading.record}"
        for value in values:
            self._check_codec(value, name)

    def _check_codec(self, value: bytes | None, name: str) -> None:
        """One record at a time, both formats are read as fastavro reads them, and more strictly."""
        reading = self._plain(value, name, list(contract.schema(name).fields))
        try:
            record = self._codecs[name].decode(value or b"")
        except RefusedError:
            if reading is not None and not reading.lenient:
                assert not _times_exist(reading.record, name), f"{value!r} should be taken"
            return
        assert value is not None
        assert reading is not None, f"{value!r} should be refused"
        assert not reading.lenient, f"{value!r} should be refused"
        writer, rest = self._writer(value)
        stream = io.BytesIO(rest)
        assert record == _or_nan(
            fastavro.schemaless_reader(stream, writer.parsed, contract.schema(name).parsed), record
        )
        assert stream.tell() == len(rest)

    def _good(self, schema: Schema, confluent: bool, chance: random.Random) -> tuple[bytes, list[int]]:
        record = {name: _some(field["type"], chance) for name, field in schema.fields.items()}
        if confluent:
            header = wire.confluent_header(self._registry.id_of(schema))
        else:
            header = wire.single_object_header(schema.fingerprint)
        encoded = body(schema, record)
        starts = plain.read(encoded, schema, schema.fields).starts.values()
        return header + encoded, [len(header) + start for start in starts]

    def _bad(
        self, value: bytes, places: list[int], others: list[bytes], chance: random.Random
    ) -> bytes | None:
        kind = chance.random()
        if kind < 0.03:
            return None
        if kind < 0.06:
            return value[: chance.randrange(11)]
        if kind < 0.12:
            return spoiled(value[:10], others, chance) + value[10:]
        if kind < 0.16:
            return chance.choice(others) + value
        if kind < 0.2:
            return value[:10] + chance.randbytes(chance.randrange(200))
        return spoiled(value, others, chance, places)

    def _writer(self, value: bytes) -> tuple[Schema, bytes]:
        """By the header, worked out anew."""
        if value[:1] == b"\x00":
            (number,) = struct.unpack(">I", value[1:5])
            return self._registry.schemas[number], value[5:]
        versions = self._registry.schemas.values()
        return next(s for s in versions if value[:10] == b"\xc3\x01" + s.fingerprint), value[10:]

    def _plain(self, value: bytes | None, name: str, columns: list[str]) -> plain.Reading | None:
        try:
            writer, rest = self._writer(value or b"")
            if writer.name != name:
                return None
            reading = plain.read(rest, writer, columns)
        except (plain.BadBodyError, StopIteration, KeyError, struct.error):
            return None
        fields = contract.schema(name).fields
        for column in columns:
            if column not in reading.record:
                reading.record[column] = fields[column]["default"]
        return reading


def _some(kind: Any, chance: random.Random) -> Any:
    if isinstance(kind, list):
        return None if chance.random() < 0.3 else _some(kind[1], chance)
    plain_kind = kind["type"] if isinstance(kind, dict) else kind
    match plain_kind:
        case "enum":
            return chance.choice(kind["symbols"])
        case "array":
            return [chance.choice(_TEXTS) for _ in range(chance.choice((0, 0, 1, 3, 70)))]
        case "boolean":
            return chance.random() < 0.5
        case "double":
            return chance.choice(_DOUBLES)
        case "string":
            return chance.choice(_TEXTS)
        case "bytes":
            return chance.randbytes(chance.choice((0, 1, 70, 2_000)))
        case "int":
            return max(-(2**31), min(chance.choice(_NUMBERS), 2**31 - 1))
    number = chance.choice(_NUMBERS)
    if isinstance(kind, dict):  # an instant: those that Python can tell, and those that it can't
        return number if chance.random() < 0.1 else max(_LEAST_INSTANT, min(number, _MOST_INSTANT))
    return number


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    instants = pl.col(pl.Datetime("us", "UTC")).to_physical()
    return frame.drop("_offset").with_columns(instants, pl.col(pl.Enum).cast(pl.String)).to_dicts()


def _alike(row: dict[str, Any], record: dict[str, Any]) -> bool:
    return row.keys() == record.keys() and all(
        row[name] == value or (value != value and row[name] != row[name]) for name, value in record.items()
    )


def _or_nan(expected: Any, record: dict[str, Any]) -> dict[str, Any]:
    """`expected`, with the record's own NaN where both are one, so that they compare equal."""
    return {
        name: record[name] if value != value and record[name] != record[name] else value
        for name, value in expected.items()
    }


def _times_exist(record: dict[str, Any], name: str) -> bool:
    times = [
        record[field]
        for field, definition in contract.schema(name).fields.items()
        if "timestamp-micros" in str(definition["type"]) and record[field] is not None
    ]
    return all(_LEAST_INSTANT <= time <= _MOST_INSTANT for time in times)
