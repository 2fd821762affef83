"""The heads of window blocks: what has to be known of each when the state is taken up."""

import logging
import re

import pytest

from schemas.errors import RefusedError
from schemas.time import MINUTE
from streams.catalogue.groupings import TOTAL
from streams.counting.heads import Head, read_heads
from streams.windows.block import Block, BlockKey, pack_rows, read_block, row_schema, write_block
from tests.streams.windows.requests import NOON

MANY = 20_000
"""Blocks that are read at once."""


def entry(
    offset: int, minute: int = 0, revision: int = 0, closed: bool = False, remembers_from: int = -1
) -> tuple[bytes, bytes]:
    start = NOON + minute * MINUTE
    key = BlockKey(0, False, "1m", start, "total", 0)
    rows = pack_rows(row_schema(TOTAL).empty_table())
    block = Block(key, start + MINUTE, 0, offset, start, revision, closed, rows, remembers_from)
    return key.encode(), write_block(block)


def test_heads_say_what_blocks_say() -> None:
    key, value = entry(10, minute=3, revision=2, closed=True, remembers_from=4)
    [head] = read_heads({key: value})
    block = read_block(value)
    for name in head._fields:
        assert getattr(head, name) == getattr(block, name), name
    assert head == Head(
        BlockKey(0, False, "1m", NOON + 3 * MINUTE, "total", 0),
        pane_end=NOON + 4 * MINUTE,
        offset=10,
        revision=2,
        closed=True,
        watermark=NOON + 3 * MINUTE,
        remembers_from=4,
    )


def test_no_blocks_have_no_heads() -> None:
    assert list(read_heads({})) == []


def test_an_entry_that_is_no_block_is_named_and_the_others_are_read(caplog: pytest.LogCaptureFixture) -> None:
    key = BlockKey(0, False, "1m", 0, "total", 0).encode()
    good, other = entry(10), entry(20, minute=1)
    with caplog.at_level(logging.ERROR):
        heads = list(read_heads(dict([good, (key, b"\xc3\x01nonsense"), (b"no key", good[1]), other])))
    assert [(head.key.pane_start, head.offset) for head in heads] == [(NOON, 10), (NOON + MINUTE, 20)]
    no_key, no_block = caplog.messages
    assert re.fullmatch(
        r"the entry b'no key' is no window block, and is left alone: not enough values to unpack .*\)", no_key
    )
    with pytest.raises(RefusedError) as refused:
        read_block(b"\xc3\x01nonsense")
    block = "the window block b'0|live|1m|0|total|0' can't be read, and is left alone"
    assert no_block == f"{block}: {refused.value.detail}"
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


def test_a_state_of_many_blocks_is_read_whole_each_once(caplog: pytest.LogCaptureFixture) -> None:
    _, value = entry(10)
    _, other = entry(20)
    keys = [BlockKey(0, False, "1m", n, "total", 0).encode() for n in range(MANY + 3)]
    blocks = {key: value if n < MANY else other for n, key in enumerate(keys)} | {keys[-2]: b"nonsense"}
    with caplog.at_level(logging.ERROR):
        heads = list(read_heads(blocks))
    assert [head.key.encode() for head in heads] == [*keys[:-2], keys[-1]]
    assert [head.offset for head in heads] == [10] * MANY + [20] * 2
    assert len(caplog.messages) == 1
    assert f"the window block {keys[-2]!r} can't be read" in caplog.text
