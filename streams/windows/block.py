"""A window block: the envelope (`schemas/window_block.avsc`), its Kafka key, and its rows as Arrow."""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final, NamedTuple

import pyarrow as pa
import zstandard

from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import Reason, RefusedError
from schemas.time import Micros, micros_of
from streams.catalogue.groupings import GROUPINGS, Grouping
from streams.windows import packing


class BlockKey(NamedTuple):
    """Which block: the Kafka key of `chat.windows` and `chat.usage`."""

    partition: int
    imported: bool
    pane: str
    pane_start: Micros
    grouping: str
    bucket: int

    def encode(self) -> bytes:
        """`partition|live-or-import|pane|pane_start|grouping|bucket`, as UTF-8."""
        origin = "import" if self.imported else "live"
        return (
            f"{self.partition}|{origin}|{self.pane}|{self.pane_start}|{self.grouping}|{self.bucket}".encode()
        )

    @classmethod
    def decode(cls, key: bytes) -> "BlockKey":
        """The inverse of `encode`. Raises ValueError for anything else."""
        partition, origin, pane, start, grouping, bucket = key.decode().split("|")
        if origin not in ("live", "import"):
            raise ValueError(f"a block key's second part is live or import, not {origin!r}")
        return cls(int(partition), origin == "import", pane, int(start), grouping, int(bucket))


@dataclass(frozen=True)
class Block:
    """A decoded WindowBlock. Its rows stay packed until they are asked for."""

    key: BlockKey
    pane_end: Micros
    since: int
    offset: int
    watermark: Micros
    revision: int
    closed: bool
    packed_rows: bytes
    remembers_from: int = -1

    @cached_property
    def rows(self) -> pa.Table:
        """One row per group; columns as `row_schema` lists them.

        Raises `schemas.errors.RefusedError` when these bytes are no such rows.
        """
        return read_rows(self.packed_rows, self.key.grouping)


@cache
def row_schema(grouping: Grouping) -> pa.Schema:
    """The columns of a grouping's rows."""
    fields = [pa.field(key, pa.string(), nullable=False) for key in grouping.keys]
    fields += [pa.field(name, pa.int64(), nullable=False) for name in grouping.sums]
    for name in grouping.latencies:
        fields += [pa.field(f"{name}_{part}", pa.int64(), nullable=False) for part in ("count", "sum")]
        fields += [pa.field(f"{name}_{part}", pa.int64()) for part in ("min", "max")]
        fields += [
            pa.field(f"{name}_keys", pa.list_(pa.int32())),
            pa.field(f"{name}_counts", pa.list_(pa.int64())),
        ]
    return pa.schema(fields)


_ZSTD: Final = zstandard.ZstdCompressor(level=1)
"""For one thread: the one that writes blocks."""


def pack_rows(rows: pa.Table | pa.RecordBatch) -> bytes:
    """Rows as an Arrow IPC stream inside one zstd frame.

    The frame holds the stream's schema too: with Arrow's own compression, of buffers, that alone
    would be most of a small block.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write(rows)
    return _ZSTD.compress(sink.getvalue())


def unpack_rows(packed: bytes) -> pa.Table:
    """The inverse of `pack_rows`. Raises `schemas.errors.RefusedError` for bytes that are no rows."""
    return packing.unpack(packed)


def read_rows(packed: bytes, grouping: str) -> pa.Table:
    """The rows of a block of that grouping, in the columns of `row_schema`, whatever wrote them.

    Raises `schemas.errors.RefusedError` when they are no such rows.
    """
    if grouping not in GROUPINGS:
        raise RefusedError(Reason.MALFORMED, f"no grouping is called {grouping!r}")
    return _shape(grouping).conform(unpack_rows(packed))


@cache
def _shape(grouping: str) -> packing.Shape:
    return packing.Shape.of(row_schema(GROUPINGS[grouping]))


_CODEC: Final = Codec(schema("WindowBlock"))


def write_block(block: Block) -> bytes:
    """A block as a Kafka value (Avro single-object encoding)."""
    return _CODEC.encode(
        {
            **block.key._asdict(),
            "pane_end": block.pane_end,
            "since": block.since,
            "offset": block.offset,
            "watermark": block.watermark,
            "revision": block.revision,
            "closed": block.closed,
            "remembers_from": block.remembers_from,
            "rows": block.packed_rows,
        }
    )


def read_block(value: bytes) -> Block:
    """The inverse of `write_block`, for values of this and of earlier versions of the schema.

    Raises `schemas.errors.SchemaError` for values that are no WindowBlock.
    """
    record = _CODEC.decode(value)
    return Block(
        BlockKey(
            record["partition"],
            record["imported"],
            record["pane"],
            micros_of(record["pane_start"]),
            record["grouping"],
            record["bucket"],
        ),
        micros_of(record["pane_end"]),
        record["since"],
        record["offset"],
        micros_of(record["watermark"]),
        record["revision"],
        record["closed"],
        record["rows"],
        record["remembers_from"],
    )
