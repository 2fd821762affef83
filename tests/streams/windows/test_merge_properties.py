"""Figures add up in any order and any grouping of parts, and the parts make the whole."""

from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.time import MINUTE, SECOND
from streams.catalogue.groupings import GROUPINGS, Grouping
from streams.windows.aggregate import Events, aggregate
from streams.windows.block import BlockKey, read_block, write_block
from streams.windows.merge import merge
from streams.windows.panes import Pane
from streams.windows.state import BlockState, restore
from tests.streams.windows.expected import rows_of
from tests.streams.windows.requests import NOON, Request, frame, many

DAYS = Pane("1d", 0)
MINUTES = Pane("1m", 0, MINUTE)
SECONDS = Pane("1s", 0, SECOND)

groupings = st.sampled_from(list(GROUPINGS.values()))


def states(requests: list[Request], grouping: Grouping, pane: Pane, cuts: list[int]) -> list[BlockState]:
    """The blocks' states when the requests come in batches that are cut there."""
    found: dict[tuple[int, int], BlockState] = {}
    bounds = sorted({0, *(cut for cut in cuts if cut < len(requests)), len(requests)})
    for first, end in pairwise(bounds):
        for share in aggregate(Events(frame(requests[first:end])), grouping, pane):
            where = (share.pane_start, share.bucket)
            if where not in found:
                key = BlockKey(0, False, pane.name, share.pane_start, grouping.name, share.bucket)
                found[where] = BlockState(key, grouping, pane.end(share.pane_start), share.first_offset)
            found[where].add(share, requests[end - 1]["_offset"])
    return list(found.values())


def whole(requests: list[Request], grouping: Grouping, pane: Pane = DAYS) -> dict[Any, Any]:
    """All rows of all panes and buckets, merged."""
    return figures([table(state) for state in states(requests, grouping, pane, [])], grouping)


def table(state: BlockState) -> pa.Table:
    return pa.Table.from_batches([state.rows()])


def figures(tables: list[pa.Table], grouping: Grouping) -> dict[Any, Any]:
    return rows_of(merge(tables, grouping), grouping.name, 0)


def added_up(rows: dict[Any, Any], name: str) -> int:
    return sum(row[name] or 0 for row in rows.values())


@settings(max_examples=15, deadline=None)
@given(many(), groupings, st.lists(st.integers(1, 60), max_size=8), st.data())
@pytest.mark.slow
def test_cuts_order_and_grouping_of_parts_make_no_difference(
    requests: list[Request], grouping: Grouping, cuts: list[int], data: st.DataObject
) -> None:
    expected = whole(requests, grouping)
    assert figures([table(state) for state in states(requests, grouping, DAYS, cuts)], grouping) == expected
    parts = data.draw(st.permutations([table(state) for state in states(requests, grouping, MINUTES, cuts)]))
    at = data.draw(st.integers(0, len(parts)))
    first, second = (merge(some, grouping).to_arrow() for some in (parts[:at], parts[at:]))
    schema = table(states(requests, grouping, DAYS, [])[0]).schema if expected else None
    if schema is not None:
        assert figures([first.cast(schema), second.cast(schema)], grouping) == expected


@settings(max_examples=12, deadline=None)
@given(many(), many(), groupings)
@pytest.mark.slow
def test_a_block_that_is_written_read_and_taken_up_again_goes_on_as_if_nothing_had_been(
    before: list[Request], after: list[Request], grouping: Grouping
) -> None:
    for state in states(before, grouping, DAYS, []):
        taken_up = restore(read_block(write_block(state.block(NOON))), grouping)
        assert table(taken_up).equals(table(state))
        for share in aggregate(Events(frame(after)), grouping, DAYS):
            if (share.pane_start, share.bucket) == (state.key.pane_start, state.key.bucket):
                state.add(share, 1_000)
                taken_up.add(share, 1_000)
        assert table(taken_up).equals(table(state))


@settings(max_examples=6, deadline=None)
@given(many(largest=30))
@pytest.mark.slow
def test_a_pane_is_the_sum_of_its_parts(requests: list[Request]) -> None:
    """Of its groups, where each request is in one; and of its shorter panes."""
    total = whole(requests, GROUPINGS["total"])
    for name in ("requests", "errors", "prompt_tokens", "cost_nano_usd", "unpriced", "total_us_sum"):
        for grouping in ("service", "model"):
            assert added_up(whole(requests, GROUPINGS[grouping]), name) == added_up(total, name)
    for grouping in GROUPINGS.values():
        days = whole(requests, grouping, DAYS)
        assert whole(requests, grouping, MINUTES) == days
        assert whole(requests, grouping, SECONDS) == days
    for grouping, key in (("space", "space_id"), ("user", "user_id")):
        having = [row for row in requests if row[key] is not None]
        of_those = whole(having, GROUPINGS["total"]) if having else {}
        for name in ("requests", "errors", "cache_hits", "prompt_tokens", "cost_nano_usd", "unpriced"):
            assert added_up(whole(requests, GROUPINGS[grouping]), name) == added_up(of_those, name)


@settings(max_examples=12, deadline=None)
@given(many())
def test_every_error_is_in_one_category(requests: list[Request]) -> None:
    categories = whole(requests, GROUPINGS["error"])
    errors = added_up(whole(requests, GROUPINGS["total"]), "errors")
    assert added_up(categories, "errors") == added_up(categories, "requests") == errors
    assert errors == sum(row["error_type"] is not None for row in requests)


@st.composite
def sound(draw: st.DrawFn) -> list[Request]:
    """Requests as `schemas.validity` lets them pass: parts of tokens are no larger than the whole."""
    requests = draw(many())
    for row in requests:
        row["cached_tokens"] = draw(st.none() | st.integers(0, row["prompt_tokens"] or 0))
        row["completion_tokens"] = draw(st.integers(0, 10**6))
        row["reasoning_tokens"] = draw(st.none() | st.integers(0, row["completion_tokens"]))
        row["context_us"], row["model_us"] = (draw(st.none() | st.integers(0, 10**9)) for _ in range(2))
    return requests


@settings(max_examples=12, deadline=None)
@given(sound(), groupings)
@pytest.mark.slow
def test_what_holds_of_each_request_holds_of_every_sum(requests: list[Request], grouping: Grouping) -> None:
    """Context and model may overlap, and are taken by different timers: they are not held against total."""
    for row in whole(requests, grouping).values():
        assert 0 <= row["cached_tokens"] <= row["prompt_tokens"]
        assert 0 <= row["reasoning_tokens"] <= row["completion_tokens"]
        assert all(0 <= row[name] <= row["requests"] for name in ("errors", "cache_hits", "unpriced"))
        for name in grouping.latencies:
            count, total = row[f"{name}_count"], row[f"{name}_sum"]
            assert 0 <= count <= row["requests"]
            assert sum(row[f"{name}_sketch"].values()) == count
            if count:
                assert row[f"{name}_min"] * count <= total <= row[f"{name}_max"] * count
            else:
                assert (total, row[f"{name}_min"], row[f"{name}_max"]) == (0, None, None)
