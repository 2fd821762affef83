"""A block's key, its envelope and its rows, as others read them."""

from dataclasses import replace

import pyarrow as pa
import pytest
import zstandard

from schemas import contract
from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import Reason, RefusedError, SchemaError
from schemas.time import MINUTE
from streams.catalogue.groupings import GROUPINGS
from streams.windows.block import (
    Block,
    BlockKey,
    pack_rows,
    read_block,
    read_rows,
    row_schema,
    unpack_rows,
    write_block,
)
from tests.streams.windows.requests import NOON, utc

KEY = BlockKey(3, False, "1m", NOON, "space", 7)
BLOCK = Block(
    KEY,
    NOON + MINUTE,
    since=10,
    offset=20,
    watermark=NOON + 30,
    revision=4,
    closed=True,
    packed_rows=b"rows",
    remembers_from=5,
)
RECORD = {
    "pane": "1m",
    "pane_start": utc(NOON),
    "pane_end": utc(NOON + MINUTE),
    "imported": False,
    "grouping": "space",
    "bucket": 7,
    "partition": 3,
    "since": 10,
    "offset": 20,
    "watermark": utc(NOON + 30),
    "revision": 4,
    "closed": True,
    "remembers_from": 5,
    "rows": b"rows",
}


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        (KEY, b"3|live|1m|1763726400000000|space|7"),
        (BlockKey(0, True, "1d", 0, "total", 0), b"0|import|1d|0|total|0"),
    ],
)
def test_a_key_is_text_and_read_again_the_key(key: BlockKey, encoded: bytes) -> None:
    assert key.encode() == encoded
    assert BlockKey.decode(encoded) == key


@pytest.mark.parametrize(
    ("encoded", "said"),
    [
        (b"3|dead|1m|0|space|7", "a block key's second part is live or import, not 'dead'"),
        (b"3|live|1m|0|space", "not enough values"),
        (b"3|live|1m|0|space|7|8", "too many values"),
        (b"three|live|1m|0|space|7", "invalid literal"),
        (b"3|live|1m|noon|space|7", "invalid literal"),
        (b"3|live|1m|0|space|seven", "invalid literal"),
        (b"\xff|live|1m|0|space|7", "can't decode"),
    ],
)
def test_anything_else_is_no_key(encoded: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BlockKey.decode(encoded)


def test_a_block_is_a_record_of_the_contract() -> None:
    assert Codec(schema("WindowBlock")).decode(write_block(BLOCK)) == RECORD
    assert read_block(write_block(BLOCK)) == BLOCK
    imported = replace(BLOCK, key=KEY._replace(imported=True), closed=False)
    assert Codec(schema("WindowBlock")).decode(write_block(imported)) == RECORD | {
        "imported": True,
        "closed": False,
    }
    assert read_block(write_block(imported)) == imported


def test_a_block_of_the_first_version_does_not_say_from_where_ids_are_remembered() -> None:
    first = contract.history("WindowBlock")[0]
    record = {name: value for name, value in RECORD.items() if name != "remembers_from"}
    assert read_block(Codec(first).encode(record)) == replace(BLOCK, remembers_from=-1)
    assert Block(KEY, NOON, 0, 0, 0, 0, False, b"").remembers_from == -1


def test_what_is_no_block_is_refused() -> None:
    with pytest.raises(SchemaError):
        read_block(b"\xc3\x01nonsense")


def rows(requests: int) -> pa.Table:
    columns = [pa.nulls(1, field.type) if field.nullable else pa.array([0]) for field in row_schema(SPACE)]
    columns[:2] = [pa.array(["s1"]), pa.array([requests])]
    return pa.table(columns, schema=row_schema(SPACE))


SPACE = GROUPINGS["space"]


def test_rows_are_an_arrow_stream_in_a_zstd_frame_that_says_how_large_it_is() -> None:
    for given in (rows(5), rows(5).to_batches()[0]):
        packed = pack_rows(given)
        stream = zstandard.ZstdDecompressor().decompress(packed)
        assert zstandard.frame_content_size(packed) == len(stream)
        with pa.ipc.open_stream(stream) as reader:
            assert reader.read_all().equals(rows(5))
        assert unpack_rows(packed).equals(rows(5))
        assert read_rows(packed, "space").equals(rows(5))


def test_a_block_unpacks_its_rows_when_they_are_asked_for() -> None:
    block = replace(BLOCK, packed_rows=pack_rows(rows(5)))
    assert block.rows.equals(rows(5))
    with pytest.raises(RefusedError, match="the rows of a block can't be read"):
        _ = BLOCK.rows


def test_rows_of_a_grouping_that_there_is_not_are_refused() -> None:
    with pytest.raises(RefusedError, match="no grouping is called 'planet'") as refused:
        read_rows(pack_rows(rows(5)), "planet")
    assert refused.value.reason is Reason.MALFORMED


def test_rows_of_one_grouping_are_none_of_another() -> None:
    with pytest.raises(RefusedError, match="the key service is missing"):
        read_rows(pack_rows(rows(5)), "service")
    with pytest.raises(RefusedError, match="the key user_id is missing"):
        read_rows(pack_rows(rows(5)), "user")
