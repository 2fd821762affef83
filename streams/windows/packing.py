"""Rows from outside, made safe: what a message claims to hold is bounded, checked, and of known shape.

Arrow takes the buffers of a stream as they come; offsets that point elsewhere make it read elsewhere.
"""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import zstandard

from schemas.errors import Reason, RefusedError
from streams.windows import sketch

MOST_BYTES: Final = 256 * 2**20
"""Of a block's rows, unpacked: some ten thousand groups with full sketches are 100 MB."""

_MOST_COUNTED: Final = 2**40
"""In a bucket of a sketch: far more than there are, and sums of them stay exact as doubles."""


def unpack(packed: bytes) -> pa.Table:
    """The table in a zstd frame that holds an Arrow IPC stream. Raises RefusedError (malformed)."""
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 <= size <= MOST_BYTES:
            raise _refusal(f"they say to have {size} bytes: at most {MOST_BYTES} are taken")
        stream = zstandard.ZstdDecompressor(max_window_size=MOST_BYTES).decompress(packed)
        _check_messages(stream)
        with pa.ipc.open_stream(stream) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (zstandard.ZstdError, pa.ArrowException, OSError, ValueError, struct.error) as error:
        # Arrow says with OSError, too, that a stream is not as it should be.
        raise _refusal(str(error)) from error
    return table


def _check_messages(stream: bytes) -> None:
    """Refuses what our rows never have: dictionaries, and buffers that are compressed again, of which a
    hundred bytes can become a gigabyte."""
    for message in pa.ipc.MessageReader.open_stream(stream):
        if message.type == "record batch":
            # The third field of the flatbuffer `Message` is the `RecordBatch`, whose fourth is the codec.
            octets = message.metadata.to_pybytes()
            batch = _field(octets, _follow(octets, 0), 2)
            if _field(octets, _follow(octets, batch), 3):
                raise _refusal("their buffers are compressed")
        elif message.type != "schema":
            raise _refusal(f"a {message.type} is among them")


def _follow(octets: bytes, at: int) -> int:
    """Where a flatbuffer's reference points to."""
    return at + int(struct.unpack_from("<I", octets, at)[0])


def _field(octets: bytes, table: int, number: int) -> int:
    """Where a field of a flatbuffer's table stands; 0 if it isn't there."""
    fields = table - int(struct.unpack_from("<i", octets, table)[0])
    (size,) = struct.unpack_from("<H", octets, fields)
    if 4 + 2 * number >= size:
        return 0
    (offset,) = struct.unpack_from("<H", octets, fields + 4 + 2 * number)
    return table + offset if offset else 0


@dataclass(frozen=True)
class Shape:
    """The columns that rows must have, and by their places what must hold of them."""

    schema: pa.Schema
    required: tuple[int, ...]
    """Those without nulls."""
    sketches: tuple[tuple[int, int], ...]
    """The keys and the counts of each sketch."""

    @classmethod
    def of(cls, schema: pa.Schema) -> "Shape":
        """From the columns that `block.row_schema` lists."""
        keys = [name for name in schema.names if name.endswith("_keys")]
        return cls(
            schema,
            tuple(place for place, field in enumerate(schema) if not field.nullable),
            tuple((schema.names.index(n), schema.names.index(f"{n[:-5]}_counts")) for n in keys),
        )

    def conform(self, table: pa.Table) -> pa.Table:
        """The table in these columns: one of another version may lack some, or have more.

        Sums that are missing are 0, other figures null. Raises RefusedError (malformed).
        """
        if not table.schema.equals(self.schema):
            # What is missing is made in one piece, what is there may come in several.
            table = table.combine_chunks()
            table = pa.table([_column(table, field) for field in self.schema], schema=self.schema)
        columns = table.columns
        for place in self.required:
            if columns[place].null_count:
                raise _refusal(f"{self.schema.names[place]} is null")
        for keys, counts in self.sketches if table.num_rows else ():
            for part in zip(columns[keys].chunks, columns[counts].chunks, strict=True):
                if not _is_sketch(*part):
                    raise _refusal(f"{self.schema.names[keys]} and their counts are no sketches")
        return table


def _column(table: pa.Table, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    found = table.schema.get_all_field_indices(field.name)
    if len(found) > 1:
        raise _refusal(f"{field.name} is there {len(found)} times")
    if found:
        try:
            return table.column(found[0]).cast(field.type)
        except pa.ArrowException as error:
            raise _refusal(f"{field.name} is {table.schema.field(found[0]).type}: {error}") from error
    if pa.types.is_string(field.type):
        raise _refusal(f"the key {field.name} is missing")
    if field.nullable:
        return pa.nulls(table.num_rows, field.type)
    return pa.array(np.zeros(table.num_rows, np.int64))


def _is_sketch(keys: pa.ListArray, counts: pa.ListArray) -> bool:
    """Whether each list of keys ascends, within bounds, and has as many counts, of 1 or more."""
    if len(keys) == 0:
        return True
    ends, as_many = keys.offsets.to_numpy(), counts.offsets.to_numpy()
    if not np.array_equal(ends - ends[0], as_many - as_many[0]):
        return False
    if (keys.null_count or counts.null_count) and not keys.is_null().equals(counts.is_null()):
        return False
    flat, weights = keys.flatten(), counts.flatten()
    if flat.null_count or weights.null_count:
        return False
    buckets, many = flat.to_numpy(), weights.to_numpy()
    if buckets.size != ends[-1] - ends[0]:
        return False  # a list that is null, and yet has values
    if buckets.size == 0:
        return True
    rising = buckets[1:] > buckets[:-1]
    borders = ends - ends[0]
    rising[borders[(borders > 0) & (borders < buckets.size)] - 1] = True
    within = (
        buckets.min() >= 0 and buckets.max() < sketch.WIDTH and many.min() > 0 and many.max() < _MOST_COUNTED
    )
    return bool(rising.all() and within)


def _refusal(detail: str) -> RefusedError:
    return RefusedError(Reason.MALFORMED, f"the rows of a block can't be read: {detail}")
