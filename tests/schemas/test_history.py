"""Every version that was ever published writes what every version reads, mixed as it comes."""

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas import contract, wire
from schemas.batch import Batch
from schemas.codec import Codec
from schemas.columnar import ColumnarReader
from schemas.contract import Schema
from schemas.raw import RawReader, Source
from schemas.record_batch import committed, split
from schemas.validity import refuse_invalid
from tests.schemas.batches import batch
from tests.schemas.events import NOON_US, REQUEST, body, offsets, request, rows, value

READERS = [
    pytest.param(name, version, id=f"{name}-{version}")
    for name in contract.names()
    for version in range(1, len(contract.history(name)) + 1)
]
ROWS = 40
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Registry:
    """Knows every version of a record by its number."""

    name: str

    def schema(self, schema_id: int) -> Schema:
        return contract.history(self.name)[schema_id - 1]


def drawn(avro: Any, chance: random.Random) -> Any:
    """A value of a field's type, as fastavro takes it; instants in microseconds."""
    if isinstance(avro, list):
        return None if chance.random() < 0.3 else drawn(avro[1], chance)
    if isinstance(avro, dict) and avro["type"] == "enum":
        return chance.choice(avro["symbols"])
    if isinstance(avro, dict) and avro["type"] == "array":
        return [f"item {number}" for number in range(chance.randrange(4))]
    if isinstance(avro, dict):
        return NOON_US + chance.randrange(10**9)
    return {
        "string": f"text {chance.randrange(1_000)} é",
        "bytes": chance.randbytes(chance.randrange(20)),
        "boolean": chance.random() < 0.5,
        "int": chance.randrange(-(2**31), 2**31),
        "long": chance.randrange(-(2**63), 2**63),
        "float": float(chance.randrange(1_000)),
        "double": chance.random(),
    }[avro]


def seen(record: Mapping[str, Any], reader: Schema) -> dict[str, Any]:
    """The record as the specification has the reader see it: its own fields, with its own defaults."""
    found = {}
    for name, field in reader.fields.items():
        avro = field["type"]
        if name in record:
            found[name] = record[name]
            if isinstance(avro, dict) and avro["type"] == "enum" and record[name] not in avro["symbols"]:
                found[name] = avro["default"]
        else:
            default = field["default"]
            octets = isinstance(default, str) and "bytes" in (avro, *(avro if isinstance(avro, list) else ()))
            found[name] = default.encode("latin-1") if octets else default
    return found


def written(name: str) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Records of all versions in turns, in both wire formats, and their values."""
    versions = contract.history(name)
    chance = random.Random(name)
    records, values = [], []
    turns = itertools.cycle(itertools.product(range(len(versions)), (False, True)))
    for version, confluent in itertools.islice(turns, ROWS):
        writer = versions[version]
        record = {field: drawn(of["type"], chance) for field, of in writer.fields.items()}
        header = wire.single_object_header(writer.fingerprint)
        records.append(record)
        values.append((wire.confluent_header(version + 1) if confluent else header) + body(writer, record))
    return records, values


def in_micros(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: (held - _EPOCH) // timedelta(microseconds=1) if isinstance(held, datetime) else held
        for name, held in record.items()
    }


@pytest.mark.parametrize(("name", "version"), READERS)
class TestEveryVersionReadsEveryOther:
    def test_one_by_one(self, name: str, version: int) -> None:
        reader = contract.history(name)[version - 1]
        codec = Codec(reader, Registry(name))  # type: ignore[arg-type]
        records, values = written(name)
        assert [in_micros(codec.decode(one)) for one in values] == [seen(one, reader) for one in records]

    def test_mixed_in_one_batch(self, name: str, version: int) -> None:
        reader = contract.history(name)[version - 1]
        records, values = written(name)
        found = ColumnarReader(reader, registry=Registry(name)).read(values, offsets(values))  # type: ignore[arg-type]
        assert found.refused == []
        assert rows(found.frame) == [seen(one, reader) for one in records]

    @pytest.mark.parametrize("few", [0, 10**9], ids=["at once", "one by one"])
    def test_mixed_in_one_fetch(self, name: str, version: int, few: int) -> None:
        """Batches of one version each, and of all, of two partitions, packed by every codec."""
        reader = contract.history(name)[version - 1]
        records, values = written(name)
        apart = 2 * len(contract.history(name))
        order = [at for turn in range(apart) for at in range(turn, ROWS, apart)]
        sorted_values = [values[at] for at in order]
        octets = [
            b"".join(batch(some[at : at + 5], at, codec=at // 5 % 5) for at in range(0, ROWS, 5))
            for some in (values, sorted_values)
        ]
        sources = [Source(list(committed(split(one))), 0) for one in octets]
        found = RawReader(reader, registry=Registry(name), few=few).read(sources)  # type: ignore[arg-type]
        assert found.batch.refused == []
        expected = [records, [records[at] for at in order]]
        assert [rows(part.frame) for part in found.apart(found.batch)] == [
            [seen(one, reader) for one in some] for some in expected
        ]


ADDED = {
    "RequestEvent": [
        "conversation_id",
        "region",
        "operation",
        "experiment",
        "variant",
        "retries",
        "finish_reason",
        "cache_write_tokens",
        "cache_write_1h_tokens",
        "prompt_audio_tokens",
        "completion_audio_tokens",
        "last_token_us",
        "output_chunks",
    ],
    "SpanEvent": [
        "depends_on",
        "links",
        "conversation_id",
        "region",
        "provider",
        "model",
        "operation",
        "prompt_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "cache_write_1h_tokens",
        "prompt_audio_tokens",
        "completion_tokens",
        "reasoning_tokens",
        "completion_audio_tokens",
        "cost_nano_usd",
    ],
}


@pytest.mark.parametrize("name", ADDED)
def test_what_the_first_version_did_not_have_is_unknown_and_never_zero(name: str) -> None:
    first, second = contract.history(name)[:2]
    assert [field for field in second.fields if field not in first.fields] == ADDED[name]
    record = {field: drawn(of["type"], random.Random(1)) for field, of in first.fields.items()}
    (found,) = read(second, value(record, first)).frame.select(ADDED[name]).to_dicts()
    assert found == {field: [] if field in ("depends_on", "links") else None for field in ADDED[name]}


def test_a_reader_of_the_first_version_steps_over_what_came_later() -> None:
    first = contract.history("RequestEvent")[0]
    found = read(first, value(request(1)), value(request(2), first), value(request(3)))
    assert rows(found.frame) == [
        {name: request(number)[name] for name in first.fields} for number in (1, 2, 3)
    ]


def test_the_rules_of_new_fields_refuse_nothing_that_an_old_writer_wrote() -> None:
    first = contract.history("RequestEvent")[0]
    found = read(REQUEST, value(request(1), first), value(request(2)), value(request(3, retries=-1)))
    judged = refuse_invalid(found, "RequestEvent")
    assert [refusal.detail for refusal in judged.refused] == ["retries is negative"]
    assert judged.frame["region"].to_list() == [None, "eu-central-1"]


def read(schema: Schema, *values: bytes) -> Batch:
    found = ColumnarReader(schema).read(values, offsets(values))
    assert found.refused == []
    return found
