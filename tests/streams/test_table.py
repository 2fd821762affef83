"""Recovery of the table: by the fetch, and the newest block of a key, whoever wrote last."""

from types import SimpleNamespace
from typing import Any, cast

import faust
import pytest

from schemas.errors import SchemaError
from streams.table import WindowTable
from streams.windows.block import BlockKey, read_block
from tests.streams.test_fence import entry


@pytest.fixture
def table() -> WindowTable:
    app = faust.App("table-tests", broker="kafka://nowhere", store="memory://")
    return WindowTable(app, name="blocks", partitions=1, key_type=bytes, value_type=bytes)


def recover(table: WindowTable, *fetches: list[tuple[bytes, bytes | None]]) -> None:
    table.apply_changelog_batch(
        cast("Any", SimpleNamespace(value=[SimpleNamespace(key=key, value=value) for key, value in fetch]))
        for fetch in fetches
    )


def offsets(table: WindowTable) -> list[int]:
    return [head.offset for head in table.heads(frozenset({0}))]


def test_the_last_of_several_blocks_is_kept(table: WindowTable) -> None:
    recover(table, [entry(10), entry(20)], [entry(30)])
    assert offsets(table) == [30]


def test_a_block_out_of_date_that_was_written_last_is_not_taken(table: WindowTable) -> None:
    recover(table, [entry(30), entry(20)], [entry(10)])
    assert offsets(table) == [30]


def test_what_has_been_overwritten_is_told_once_unless_it_was_written_again(table: WindowTable) -> None:
    key, _ = entry(30)
    recover(table, [entry(30), entry(20)])
    assert (table.overwritten(), table.overwritten()) == ({key}, set())
    recover(table, [entry(20)], [entry(30)])
    assert table.overwritten() == set()
    recover(table, [entry(20), (key, None)])
    assert table.overwritten() == set()


def test_nor_over_one_that_was_kept_from_before(table: WindowTable) -> None:
    recover(table, [entry(30)])
    assert offsets(table) == [30]
    recover(table, [entry(20)])
    assert offsets(table) == [30]


def test_what_is_expired_is_gone_and_may_come_again(table: WindowTable) -> None:
    key, _ = entry(10)
    recover(table, [entry(10), (key, None)])
    assert offsets(table) == []
    recover(table, [(key, None), entry(5)])
    assert offsets(table) == [5]


def test_heads_say_what_blocks_say(table: WindowTable) -> None:
    key, value = entry(10, minute=3, revision=2, closed=True)
    recover(table, [(key, value)])
    [head] = table.heads(frozenset({0}))
    block = read_block(value)
    for name in head._fields:
        assert getattr(head, name) == getattr(block, name), name


def test_blocks_of_partitions_that_have_gone_are_dropped(table: WindowTable) -> None:
    recover(table, [entry(10)])
    assert table.heads(frozenset({1})) == []
    assert len(table.data) == 0


def test_an_entry_that_is_no_block_is_named(table: WindowTable) -> None:
    key = BlockKey(0, False, "1m", 0, "total", 0).encode()
    with pytest.raises(SchemaError, match=r"0\|live\|1m\|0\|total\|0"):
        recover(table, [(key, b"\xc3\x01nonsense")])
