"""Rows from outside: what isn't a block's rows is refused, and takes no memory."""

import resource
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pytest
import zstandard

from schemas.errors import Reason, RefusedError
from streams.catalogue.groupings import GROUPINGS
from streams.windows.block import pack_rows, read_rows, row_schema
from streams.windows.packing import Shape

SPACE = row_schema(GROUPINGS["space"])
LARGEST_KEY = 2183
"""The bucket of the largest int64: floor(log 2^63 / log (101/99))."""

Values = Sequence[int | None] | None


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


def sketch(keys: Values, counts: Values) -> pa.Table:
    return sketches([keys], [counts])


def sketches(keys: Sequence[Values], counts: Sequence[Values]) -> pa.Table:
    """A row for each of the sketches."""
    return with_sketches(pa.array(keys, pa.list_(pa.int32())), pa.array(counts, pa.list_(pa.int64())))


def with_sketches(keys: pa.Array, counts: pa.Array) -> pa.Table:
    table = rows([f"s{number}" for number in range(len(keys))])
    for name, column in (("total_us_keys", keys), ("total_us_counts", counts)):
        place = SPACE.get_field_index(name)
        table = table.set_column(place, SPACE.field(place), column)
    return table


def lists(ends: list[int], values: list[int], kind: pa.DataType, null: list[bool]) -> pa.ListArray:
    """Lists of which some are null, whatever lies there."""
    return pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()), pa.array(values, kind), mask=pa.array(null, pa.bool_())
    )


REFUSED: dict[str, Callable[[], bytes]] = {
    "300 MB of zeros in a few bytes": lambda: framed(bytes(3 * 10**8)),
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


def claims(size: int) -> bytes:
    """A frame that says it has this size, and has nothing."""
    return b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little")


MIB_256 = 268_435_456


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (claims(MIB_256), "did not decompress full frame"),
        (claims(MIB_256 + 1), "they say to have 268435457 bytes: at most 268435456 are taken"),
        (zstandard.ZstdCompressor(write_content_size=False).compress(b"rows"), "they say to have -1 bytes"),
        (framed(b""), "Tried reading schema message, was null or length 0"),
        (b"no frame", "error when determining content size"),
        (framed(b"no stream"), "can't be read"),
        (framed(streamed(rows(["s1"]), "zstd")), "their buffers are compressed$"),
        (framed(streamed(rows(["s1"]), "lz4")), "their buffers are compressed$"),
        (
            framed(streamed(pa.table({"space_id": pa.array(["s1"]).dictionary_encode()}))),
            "a dictionary is among them",
        ),
    ],
)
def test_a_frame_that_is_not_taken_is_told_why(packed: bytes, said: str) -> None:
    with pytest.raises(RefusedError, match=said) as refused:
        read_rows(packed, "space")
    assert refused.value.reason is Reason.MALFORMED
    assert refused.value.detail.startswith("the rows of a block can't be read: ")


def test_what_lies_in_several_batches_is_taken_also_where_one_is_empty() -> None:
    parts = [sketch([1], [1]), rows([]), sketch([5, 6], [2, 3]), rows([])]
    found = read_rows(framed(streamed(pa.concat_tables(parts))), "space")
    assert found.schema.equals(SPACE)
    assert found["total_us_keys"].to_pylist() == [[1], [5, 6]]
    assert found["total_us_counts"].to_pylist() == [[1], [2, 3]]


@pytest.mark.parametrize("missing", ["total_us_keys", "total_us_counts"])
def test_no_rows_of_a_version_with_other_columns_are_no_rows(missing: str) -> None:
    found = read_rows(framed(streamed(rows([]).drop_columns([missing]))), "space")
    assert (found.num_rows, found.schema.equals(SPACE)) == (0, True)


def test_columns_come_in_any_order_and_as_any_numbers_that_fit() -> None:
    narrow = rows(["s1"]).set_column(1, "requests", pa.array([7], pa.int16()))
    found = read_rows(framed(streamed(narrow.select(narrow.column_names[::-1]))), "space")
    assert found.schema.equals(SPACE)
    assert (found["space_id"].to_pylist(), found["requests"].to_pylist()) == (["s1"], [7])


def test_a_key_may_be_packed_as_views_of_text() -> None:
    """Their record batches say more of their buffers than others do."""
    views = rows(["s1", "s2"]).set_column(0, "space_id", pa.array(["s1", "s2"], pa.string_view()))
    assert read_rows(framed(streamed(views)), "space").equals(rows(["s1", "s2"]))


def test_a_key_that_is_no_text_is_refused() -> None:
    stream = streamed(rows(["aaaa"])).replace(b"aaaa", b"\xff\xfe\xfd\xfc")
    with pytest.raises(RefusedError, match="Invalid UTF8"):
        read_rows(framed(stream), "space")


def test_figures_of_a_version_that_had_none_are_0_or_null() -> None:
    found = read_rows(framed(streamed(rows(["s1", "s2"]).select(["space_id"]))), "space")
    for field in SPACE:
        if field.name != "space_id":
            assert found[field.name].to_pylist() == [None if field.nullable else 0] * 2, field.name


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (rows(["s1"]).append_column("requests", pa.array([1])), "requests is there 2 times"),
        (rows(["s1"]).drop_columns(["space_id"]), "the key space_id is missing"),
        (rows(["s1"]).set_column(1, "requests", pa.array(["many"])), "requests is string: "),
        (rows(["s1"]).set_column(0, "space_id", pa.nulls(1, pa.string())), "space_id is null"),
        (rows(["s1"]).set_column(1, "requests", pa.nulls(1, pa.int64())), "requests is null"),
        (sketch([1], None), "total_us_keys and their counts are no sketches"),
    ],
)
def test_rows_with_a_column_that_is_not_as_it_should_be_are_told_which(table: pa.Table, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        read_rows(framed(streamed(table)), "space")


INT32, INT64 = pa.int32(), pa.int64()
SOUND = {
    "none": sketches([None], [None]),
    "empty ones": sketches([[], []], [[], []]),
    "some without values": sketches([None, [], [4, 9], None, [2]], [None, [], [1, 1], None, [7]]),
    "the least key and count": sketch([0], [1]),
    "the largest key and count": sketch([LARGEST_KEY], [2**40 - 1]),
    "each beginning anew": sketches([[1, 5], [2, 3], [3], [3], [1, 2]], [[1, 1], [1, 1], [1], [1], [1, 1]]),
    "single keys that fall": sketches([[5], [3], [1]], [[1], [1], [1]]),
    "ones behind others that are cut off": sketches([[9, 9], [1, 2], [0, 1, 2]], [[0, 0], [3, 4], [1, 1, 1]])[
        1:
    ],
    "ones whose parts lie in different places": with_sketches(
        pa.array([[8], [1, 2]], pa.list_(INT32))[1:], pa.array([[3, 4]], pa.list_(INT64))
    ),
    "ones whose counts lie behind others": with_sketches(
        pa.array([[1, 2]], pa.list_(INT32)), pa.array([[8], [3, 4]], pa.list_(INT64))[1:]
    ),
}
UNSOUND = {
    "fewer counts than keys": sketch([1, 2], [1]),
    "more counts than keys": sketch([1], [1, 1]),
    "counts of another row": sketches([[1, 2], [3]], [[1], [1, 1]]),
    "no counts at all": sketch([], None),
    "no keys at all": sketch(None, []),
    "no counts for one of two": sketches([[], None], [None, []]),
    "a key that is null": sketch([1, None], [1, 1]),
    "a count that is null": sketch([1, 2], [1, None]),
    "keys and counts that are null": sketch([None], [None]),
    "null, with values": with_sketches(
        lists([0, 2, 3], [1, 2, 5], INT32, [True, False]), lists([0, 2, 3], [1, 1, 1], INT64, [True, False])
    ),
    "a negative key": sketch([-1, 3], [1, 1]),
    "a single negative key": sketch([-1], [1]),
    "a key beyond the largest": sketch([3, LARGEST_KEY + 1], [1, 1]),
    "a count of 0": sketch([1, 2], [1, 0]),
    "a negative count": sketch([1], [-1]),
    "a count beyond any": sketch([1], [2**40]),
    "the same key twice": sketch([3, 3], [1, 1]),
    "keys that fall at the start": sketch([2, 1, 3], [1, 1, 1]),
    "keys that fall at the end": sketch([1, 3, 2], [1, 1, 1]),
    "keys that fall behind an empty one": sketches([[], [1, 3, 2]], [[], [1, 1, 1]]),
    "keys that fall before an empty one": sketches([[1, 3, 2], []], [[1, 1, 1], []]),
    "keys that fall in the second": sketches([[1, 2], [4, 3]], [[1, 1], [1, 1]]),
    "keys that fall behind ones that are cut off": sketches([[1, 2], [3, 5, 4]], [[1, 1], [1, 1, 1]])[1:],
    "one of several": sketches([[1], [2, 1], [1]], [[1], [1, 1], [1]]),
}


@pytest.mark.parametrize("table", SOUND.values(), ids=SOUND)
def test_keys_that_ascend_with_a_count_each_are_a_sketch(table: pa.Table) -> None:
    assert Shape.of(SPACE).conform(table).equals(table)


@pytest.mark.parametrize("table", UNSOUND.values(), ids=UNSOUND)
def test_anything_else_is_none(table: pa.Table) -> None:
    with pytest.raises(RefusedError, match="total_us_keys and their counts are no sketches"):
        Shape.of(SPACE).conform(table)


def test_a_sketch_of_any_latency_and_in_any_batch_is_looked_at() -> None:
    for name in ("context_us", "first_token_us"):
        renamed = {"total_us_keys": f"{name}_keys", "total_us_counts": f"{name}_counts"}
        swapped = renamed | {new: old for old, new in renamed.items()}
        bad = sketch([2, 1], [1, 1])
        bad = bad.rename_columns([swapped.get(column, column) for column in bad.column_names])
        with pytest.raises(RefusedError, match=f"{name}_keys and their counts are no sketches"):
            read_rows(framed(streamed(pa.concat_tables([rows(["s1"]), bad.select(SPACE.names)]))), "space")
