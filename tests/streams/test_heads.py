"""The heads of window blocks: what has to be known of each when the state is taken up."""

import logging

import pytest

from schemas.time import MINUTE
from streams.catalogue.groupings import TOTAL
from streams.heads import read_heads
from streams.windows.block import Block, BlockKey, pack_rows, read_block, row_schema, write_block
from tests.streams.windows.requests import NOON


def entry(offset: int, minute: int = 0, revision: int = 0, closed: bool = False) -> tuple[bytes, bytes]:
    start = NOON + minute * MINUTE
    key = BlockKey(0, False, "1m", start, "total", 0)
    rows = pack_rows(row_schema(TOTAL).empty_table())
    block = Block(key, start + MINUTE, 0, offset, start, revision, closed, rows)
    return key.encode(), write_block(block)


def test_heads_say_what_blocks_say() -> None:
    key, value = entry(10, minute=3, revision=2, closed=True)
    [head] = read_heads({key: value})
    block = read_block(value)
    for name in head._fields:
        assert getattr(head, name) == getattr(block, name), name


def test_an_entry_that_is_no_block_is_named_and_the_others_are_read(caplog: pytest.LogCaptureFixture) -> None:
    key = BlockKey(0, False, "1m", 0, "total", 0).encode()
    good, other = entry(10), entry(20, minute=1)
    with caplog.at_level(logging.ERROR):
        heads = list(read_heads(dict([good, (key, b"\xc3\x01nonsense"), (b"no key", good[1]), other])))
    assert [head.offset for head in heads] == [10, 20]
    assert "0|live|1m|0|total|0" in caplog.text
    assert "no key" in caplog.text
