"""Rows that are added up: the merged ones are a count of all their requests."""

import pyarrow as pa
import pytest

from streams.catalogue.groupings import GROUPINGS, SPACE, TOTAL, Grouping
from streams.windows.aggregate import Events, aggregate
from streams.windows.block import BlockKey, row_schema
from streams.windows.merge import merge
from streams.windows.panes import Pane
from streams.windows.state import BlockState
from tests.streams.windows.expected import rows_of, windows
from tests.streams.windows.requests import NOON, Request, frame, request, varied

DAYS = Pane("1d", 0)
DAY = 24 * 3_600 * 1_000_000
DAY_START = NOON - DAY // 2


def tables(requests: list[Request], grouping: Grouping) -> list[pa.Table]:
    """The rows of the day, block by block."""
    found = []
    for share in aggregate(Events(frame(requests)), grouping, DAYS):
        key = BlockKey(0, False, "1d", share.pane_start, grouping.name, share.bucket)
        state = BlockState(key, grouping, share.pane_start + DAY, share.first_offset)
        state.add(share, requests[-1]["_offset"])
        found.append(pa.Table.from_batches([state.rows()]))
    return found


@pytest.mark.parametrize("grouping", GROUPINGS.values(), ids=lambda each: each.name)
def test_merged_rows_are_a_count_by_hand_of_all(grouping: Grouping) -> None:
    requests = varied(200)
    parts = [table for cut in (0, 60, 130) for table in tables(requests[cut : cut + 70], grouping)]
    extra = requests[130:] + requests[60:70]
    expected = windows([*requests[:70], *requests[60:130], *requests[130:200]], grouping.name, DAY)

    merged = merge(parts, grouping)

    assert merged.columns == row_schema(grouping).names
    assert rows_of(merged, grouping.name, DAY_START) == expected
    again = merge([*parts, *tables(extra, grouping)], grouping)
    assert rows_of(again, grouping.name, DAY_START) == windows(
        [*requests[:70], *requests[60:130], *requests[130:200], *extra], grouping.name, DAY
    )


@pytest.mark.parametrize("grouping", GROUPINGS.values(), ids=lambda each: each.name)
def test_no_rows_merge_into_no_row(grouping: Grouping) -> None:
    for none in ([], [row_schema(grouping).empty_table()]):
        merged = merge(none, grouping)
        assert (merged.height, merged.columns) == (0, row_schema(grouping).names)


def test_a_group_without_values_has_an_empty_sketch_and_neither_minimum_nor_maximum() -> None:
    requests = [request(0, space_id="s1", total_us=None), request(1, space_id="s2", total_us=10)]
    merged = merge(tables(requests, SPACE), SPACE).sort("space_id")
    assert merged["total_us_keys"].to_list() == [[], [115]]
    assert merged["total_us_counts"].to_list() == [[], [1]]
    assert merged["total_us_min"].to_list() == merged["total_us_max"].to_list() == [None, 10]
    assert merged["context_us_keys"].to_list() == [[], []]


def test_a_sketch_that_is_null_is_as_one_that_is_empty() -> None:
    """As in rows of a version that had none."""
    (table,) = tables([request(0, total_us=10)], TOTAL)
    columns = {name: table[name] for name in table.column_names}
    for name in ("total_us_keys", "total_us_counts"):
        columns[name] = pa.chunked_array([pa.nulls(1, table.schema.field(name).type)])
    older = pa.table(columns, schema=table.schema)
    merged = merge([older], TOTAL)
    assert (merged["total_us_keys"].to_list(), merged["total_us_counts"].to_list()) == ([[]], [[]])
    merged = merge([older, table], TOTAL)
    assert (merged["total_us_keys"].to_list(), merged["total_us_counts"].to_list()) == ([[115]], [[1]])
    assert merged["requests"].to_list() == [2]


def test_keys_of_a_sketch_ascend_wherever_they_come_from() -> None:
    parts = [
        tables([request(0, total_us=first), request(1, total_us=second)], TOTAL)[0]
        for first, second in ((1_000, 2), (10, 1), (1_000, 10))
    ]
    merged = merge(parts, TOTAL)
    assert merged["total_us_keys"].to_list() == [[0, 34, 115, 345]]
    assert merged["total_us_counts"].to_list() == [[1, 1, 2, 2]]
