"""A block's state: shares that are added, the rows that they make, and the block that is written of them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
import zstandard

from schemas.time import MINUTE
from streams.catalogue.groupings import ERROR, GROUPINGS, MODEL, SPACE, TOTAL, USER, Grouping
from streams.windows.aggregate import Events, aggregate
from streams.windows.block import Block, BlockKey, read_block, row_schema, write_block
from streams.windows.panes import Pane
from streams.windows.state import BlockState, restore
from tests.streams.windows.expected import rows_of, windows
from tests.streams.windows.requests import NOON, Request, frame, request, varied

DAYS = Pane("1d", 0)
DAY_START = NOON - 12 * 60 * MINUTE
GROUPED = [
    *(grouping for grouping in GROUPINGS.values() if grouping is not USER),
    Grouping("user", ("user_id",), "users"),
]
"""All of them in one block each; users with latencies too."""


def empty(grouping: Grouping, since: int = 1_000_000) -> BlockState:
    key = BlockKey(3, False, "1d", DAY_START, grouping.name, 0)
    return BlockState(key, grouping, DAY_START + 24 * 60 * MINUTE, since)


def added(state: BlockState, requests: list[Request]) -> BlockState:
    """All of one pane and one bucket."""
    (share,) = aggregate(Events(frame(requests)), state.grouping, DAYS)
    state.add(share, requests[-1]["_offset"])
    return state


def in_batches(requests: list[Request], *ends: int) -> Iterator[list[Request]]:
    for begin, end in pairwise((0, *ends, len(requests))):
        yield requests[begin:end]


def figures(rows: Any, grouping: Grouping) -> dict[Any, Any]:
    return rows_of(rows, grouping.name, DAY_START)


def counted(requests: list[Request], grouping: Grouping) -> dict[Any, Any]:
    found = windows(requests, grouping.name, 24 * 60 * MINUTE)
    if grouping.name == "user" and grouping.latencies:  # `expected` has no latencies of users
        for key, row in found.items():
            mine = [each for each in requests if each["user_id"] == key[2][0]]
            row |= next(iter(windows(mine, "total", 24 * 60 * MINUTE).values()))
    return found


@pytest.mark.parametrize("grouping", GROUPED, ids=lambda each: each.name)
def test_rows_are_a_count_by_hand_after_every_batch(grouping: Grouping) -> None:
    requests, state, done = varied(240), empty(grouping), 0
    assert len(state) == 0
    for batch in in_batches(requests, 20, 90, 100, 170):
        added(state, batch)
        done += len(batch)
        rows = state.rows()
        rows.validate(full=True)
        assert rows.schema.equals(row_schema(grouping))
        assert figures(rows, grouping) == counted(requests[:done], grouping)
        assert len(state) == rows.num_rows
        assert state.offset == done - 1


@pytest.mark.parametrize("grouping", [*GROUPED[:-1], replace(USER, buckets=1)], ids=lambda each: each.name)
def test_a_block_that_is_written_is_taken_up_as_it_was_and_counts_on(grouping: Grouping) -> None:
    requests = varied(240)
    state = empty(grouping)
    for batch in in_batches(requests[:160], 60, 70):
        added(state, batch)
    state.revision, state.closed, state.remembers_from = 4, True, 17

    taken_up = restore(read_block(write_block(state.block(NOON))), grouping)

    assert taken_up.block(NOON) == state.block(NOON)
    assert len(taken_up) == len(state)
    assert figures(added(taken_up, requests[160:]).rows(), grouping) == counted(requests, grouping)


def test_a_block_says_what_its_state_says() -> None:
    state = added(empty(SPACE), [request(40), request(41), request(60)])
    state.revision, state.closed, state.remembers_from = 2, True, 13
    block = state.block(NOON - 7)
    assert block == Block(
        BlockKey(3, False, "1d", DAY_START, "space", 0),
        DAY_START + 24 * 60 * MINUTE,
        40,
        60,
        NOON - 7,
        2,
        True,
        block.packed_rows,
        13,
    )
    assert block.rows["requests"].to_pylist() == [3]


def test_a_state_is_new_open_and_empty_unless_it_is_said_otherwise() -> None:
    for grouping in GROUPED:
        state = empty(grouping, since=5)
        assert (state.offset, state.revision, state.closed, state.remembers_from) == (-1, 0, False, -1)
        assert len(state) == 0


def test_states_share_nothing() -> None:
    one, other = empty(SPACE), empty(SPACE)
    added(one, [request(0)])
    assert (len(one), len(other)) == (1, 0)


def test_since_is_the_first_event_in_whatever_order_shares_come() -> None:
    state = empty(SPACE, since=50)
    added(state, [request(70)])
    assert state.since == 50
    added(state, [request(20), request(80)])
    assert (state.since, state.offset) == (20, 80)


def test_groups_stay_in_the_rows_in_which_they_first_appeared() -> None:
    state = empty(SPACE)
    added(state, [request(0, space_id="s2"), request(1, space_id="s9")])
    added(state, [request(2, space_id="s1"), request(3, space_id="s9")])
    rows = state.rows()
    assert rows["space_id"].to_pylist() == ["s2", "s9", "s1"]
    assert rows["requests"].to_pylist() == [1, 2, 1]


def test_rows_that_were_given_out_stay_as_they_are_and_are_made_once() -> None:
    state = added(empty(SPACE), [request(0, total_us=5)])
    before = state.rows()
    assert state.rows() is before
    added(state, [request(1, total_us=7)])
    assert before["requests"].to_pylist() == [1]
    assert before["total_us_max"].to_pylist() == [5]
    assert state.rows()["requests"].to_pylist() == [2]


def test_minima_and_maxima_are_null_where_there_is_no_latency() -> None:
    """Of nine groups, so that the bits of one byte do not do."""
    requests = [
        request(n, space_id=f"s{n}", total_us=n if n in (0, 3, 8) else None, model_us=100 + n)
        for n in range(9)
    ]
    rows = added(empty(SPACE), requests).rows()
    for part in ("min", "max"):
        assert rows[f"total_us_{part}"].to_pylist() == [0, None, None, 3, None, None, None, None, 8]
        assert rows[f"total_us_{part}"].null_count == 6
        assert rows[f"model_us_{part}"].to_pylist() == list(range(100, 109))
        assert rows[f"model_us_{part}"].null_count == 0
        assert rows[f"context_us_{part}"].to_pylist() == [None] * 9
    assert rows["total_us_count"].to_pylist() == [1, 0, 0, 1, 0, 0, 0, 0, 1]
    assert rows["total_us_sum"].to_pylist() == [0, 0, 0, 3, 0, 0, 0, 0, 8]


def test_the_buckets_of_each_sketch_are_its_own() -> None:
    """floor(log v / log (101/99)): 0, 34, 115 and 345 for 1, 2, 10 and 1000."""
    state = added(
        empty(SPACE),
        [
            request(0, space_id="a", total_us=10, context_us=2),
            request(1, space_id="b", total_us=1_000, model_us=1),
            request(2, space_id="a", total_us=10),
        ],
    )
    added(
        state,
        [
            request(3, space_id="b", total_us=10, context_us=1_000),
            request(4, space_id="c", total_us=None, first_token_us=2),
            request(5, space_id="a", total_us=1),
        ],
    )
    rows = state.rows()
    found = {
        name: (rows[f"{name}_keys"].to_pylist(), rows[f"{name}_counts"].to_pylist())
        for name in SPACE.latencies
    }
    assert found == {
        "total_us": ([[0, 115], [115, 345], []], [[1, 2], [1, 1], []]),
        "context_us": ([[34], [345], []], [[1], [1], []]),
        "model_us": ([[], [0], []], [[], [1], []]),
        "first_token_us": ([[], [], [34]], [[], [], [1]]),
    }


def test_a_block_of_rows_in_several_pieces_is_taken_up_whole() -> None:
    one = added(empty(MODEL), [request(0, model="small", total_us=3)])
    other = added(empty(MODEL), [request(1, model="large", total_us=None)])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row_schema(MODEL)) as writer:
        writer.write(one.rows())
        writer.write(other.rows())
    packed = zstandard.ZstdCompressor().compress(sink.getvalue())
    taken_up = restore(replace(one.block(NOON), packed_rows=packed, remembers_from=0), MODEL)
    assert taken_up.rows()["model"].to_pylist() == ["small", "large"]
    assert taken_up.rows()["total_us_min"].to_pylist() == [3, None]
    assert (len(taken_up), taken_up.remembers_from) == (2, 0)


def test_a_total_has_one_row_and_errors_only_those_that_failed() -> None:
    requests = [request(0), request(1, error_type="timeout"), request(2, error_type="timeout")]
    assert added(empty(TOTAL), requests).rows()["requests"].to_pylist() == [3]
    errors = added(empty(ERROR), requests).rows()
    assert (errors["error_type"].to_pylist(), errors["errors"].to_pylist()) == (["timeout"], [2])
