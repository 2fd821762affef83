"""Rows from outside: what isn't a block's rows is refused, and takes no memory."""

import resource
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import zstandard

from schemas.errors import Reason, RefusedError
from streams.catalogue.groupings import GROUPINGS
from streams.windows.block import pack_rows, read_rows, row_schema

SPACE = row_schema(GROUPINGS["space"])


def rows(spaces: list[str]) -> pa.Table:
    columns = {
        field.name: pa.array(np.zeros(len(spaces), np.int64))
        if not field.nullable
        else pa.nulls(len(spaces), field.type)
        for field in SPACE
    }
    return pa.table(columns | {"space_id": spaces}, schema=SPACE)


def framed(stream: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(stream)


def streamed(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)
    ) as out:
        out.write(table)
    return bytes(sink.getvalue().to_pybytes())


def sketch(keys: list[int] | None, counts: list[int] | None) -> pa.Table:
    table = rows(["s1"])
    for name, values in (("total_us_keys", keys), ("total_us_counts", counts)):
        place = SPACE.get_field_index(name)
        table = table.set_column(place, SPACE.field(place), pa.array([values], SPACE.types[place]))
    return table


REFUSED: dict[str, Callable[[], bytes]] = {
    "a gigabyte of zeros in a few bytes": lambda: framed(bytes(10**9)),
    "a frame that says it is a terabyte": lambda: b"\x28\xb5\x2f\xfd\xe0" + (2**40).to_bytes(8, "little"),
    "buffers that are compressed once more": lambda: framed(
        streamed(pa.table({"requests": np.zeros(50_000_000, np.int64)}), "zstd")
    ),
    "a stream that ends early": lambda: framed(streamed(rows(["s1", "s2"]))[:-300]),
    "texts that lie outside of their buffer": lambda: framed(
        streamed(rows(["aaaa"] * 2)).replace(bytes([4, 0, 0, 0, 8, 0, 0, 0]), b"\x04\0\0\0\0\0\0\x7f")
    ),
    "no key": lambda: pack_rows(rows(["s1"]).drop_columns(["space_id"])),
    "a key that is null": lambda: pack_rows(rows(["s1"]).set_column(0, "space_id", pa.nulls(1, pa.string()))),
    "text for a sum": lambda: pack_rows(rows(["s1"]).set_column(1, "requests", pa.array(["many"]))),
    "keys that do not ascend": lambda: pack_rows(sketch([5, 3], [1, 1])),
    "a key that no sketch has": lambda: pack_rows(sketch([10**6], [1])),
    "keys without counts": lambda: pack_rows(sketch([1, 2], [1])),
}


@pytest.mark.parametrize("packed", REFUSED.values(), ids=REFUSED)
def test_what_is_no_block_is_refused(packed: Callable[[], bytes]) -> None:
    value = packed()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RefusedError) as refused:
        read_rows(value, "space")
    assert refused.value.reason is Reason.MALFORMED
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_rows_of_a_version_that_had_fewer_columns_are_filled_up_and_others_left_out() -> None:
    older = pa.concat_tables([rows(["s1"]), rows(["s2", "s3"])]).drop_columns(["unpriced", "total_us_keys"])
    packed = framed(streamed(older.append_column("of_tomorrow", pa.array([1, 2, 3]))))
    found = read_rows(packed, "space")
    assert found.schema.equals(SPACE)
    assert found["space_id"].to_pylist() == ["s1", "s2", "s3"]
    assert found["unpriced"].to_pylist() == [0, 0, 0]
