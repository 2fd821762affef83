"""What the workers publish, read as any other program would: Avro around zstd around Arrow."""

import json
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import zstandard

from tests.end_to_end.log import Log, Record
from tests.end_to_end.recomputation import KEYS, LATENCIES, SUMS, Figures, Group, Latency, micros

_HEADER = 10
_SCHEMAS = Path(__file__).parents[2] / "schemas"


def records_of(log: Log, topic: str, schema: str) -> list[tuple[Record, dict[str, Any] | None]]:
    """The topic's records with what they hold, by `schemas/<schema>.avsc`; None for tombstones."""
    definition = json.loads((_SCHEMAS / f"{schema}.avsc").read_text(encoding="utf-8"))
    parsed = fastavro.parse_schema(definition)

    def held(value: bytes | None) -> dict[str, Any] | None:
        if value is None:
            return None
        assert value.startswith(b"\xc3\x01")
        decoded = fastavro.schemaless_reader(BytesIO(value[_HEADER:]), parsed)
        assert isinstance(decoded, dict)
        return decoded

    return [(record, held(record.value)) for record in log.records(topic)]


def newest_blocks(log: Log, topic: str) -> list[dict[str, Any]]:
    """The newest block of every key. One that begins anew after its predecessor expired adds to it."""
    newest: dict[tuple[bytes, int], dict[str, Any]] = {}
    for record, block in records_of(log, topic, "window_block"):
        if block is None:
            continue
        assert record.key == key_of(block), "the key says which block it is"
        identity = (record.key, block["since"])
        held = newest.get(identity)
        if held is None or (held["offset"], held["revision"]) <= (block["offset"], block["revision"]):
            newest[identity] = block
    return list(newest.values())


def key_of(block: dict[str, Any]) -> bytes:
    origin = "import" if block["imported"] else "live"
    start = micros(block["pane_start"])
    parts = (block["partition"], origin, block["pane"], start, block["grouping"], block["bucket"])
    return "|".join(map(str, parts)).encode()


def rows_of(packed: bytes) -> list[dict[str, Any]]:
    """A block's rows."""
    stream = zstandard.ZstdDecompressor().decompress(packed)
    with pa.ipc.open_stream(stream) as reader:
        rows: list[dict[str, Any]] = reader.read_all().to_pylist()
    return rows


def figures_of(blocks: Iterable[dict[str, Any]]) -> dict[Group, Figures]:
    """The figures of each group: of all partitions, live and imported, added up."""
    figures: dict[Group, Figures] = {}
    for block in blocks:
        for group, row in _groups(block):
            _add(figures.setdefault(group, Figures()), row, block["grouping"])
    return figures


def _groups(block: dict[str, Any]) -> Iterator[tuple[Group, dict[str, Any]]]:
    keys = KEYS[block["grouping"]]
    start = micros(block["pane_start"])
    for row in rows_of(block["rows"]):
        yield Group(block["pane"], start, block["grouping"], tuple(row[key] for key in keys)), row


def _add(figures: Figures, row: dict[str, Any], grouping: str) -> None:
    figures.sums = [have + row[name] for have, name in zip(figures.sums, SUMS, strict=True)]
    for name in LATENCIES if grouping != "user" else ():
        if not row[f"{name}_count"]:
            continue
        latency = figures.latencies.setdefault(name, Latency())
        latency.count += row[f"{name}_count"]
        latency.sum += row[f"{name}_sum"]
        for side, choose in (("min", min), ("max", max)):
            known = getattr(latency, side)
            value = row[f"{name}_{side}"]
            setattr(latency, side, value if known is None else choose(known, value))
        for bucket, count in zip(row[f"{name}_keys"], row[f"{name}_counts"], strict=True):
            latency.sketch[bucket] = latency.sketch.get(bucket, 0) + count
