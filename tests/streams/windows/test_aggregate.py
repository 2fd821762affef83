"""Shares of a batch: each group's figures, by pane and bucket, as a count by hand finds them."""

from collections import Counter
from typing import Any
from zlib import crc32

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from schemas.time import MINUTE, SECOND
from streams.catalogue.groupings import (
    ERROR,
    GROUPINGS,
    MODEL,
    SERVICE,
    SPACE,
    TOTAL,
    USER,
    WORKFLOW,
    Grouping,
)
from streams.windows.aggregate import COUNT, MAX, MIN, NO_MAX, NO_MIN, SUM, Events, Share, aggregate
from streams.windows.panes import Pane
from tests.streams.windows.expected import KEYS, MEASURED, windows
from tests.streams.windows.requests import NOON, Request, frame, request, varied

MINUTES = Pane("1m", 0, MINUTE)
SECONDS = Pane("1s", 0, SECOND)
DAYS = Pane("1d", 0)
WIDTH = 2184
"""Buckets of a sketch: one for each power of 101/99 that an int64 reaches."""
SPREAD = Grouping("workflow", ("workflow", "workflow_version"), "workflows", buckets=5)
"""Two keys, and several blocks."""


def of_share(share: Share, grouping: Grouping) -> dict[Any, Any]:
    """The figures of a share in the form of `expected.windows`."""
    found: dict[Any, Any] = {}
    assert share.sums.shape == (len(share.keys), len(grouping.sums))
    assert share.latencies.shape == (len(share.keys), len(grouping.latencies), 4)
    for place, key in enumerate(share.keys):
        row: dict[str, Any] = dict(zip(grouping.sums, share.sums[place].tolist(), strict=True))
        for number, name in enumerate(grouping.latencies):
            figures = share.latencies[place, number].tolist()
            row[f"{name}_count"], row[f"{name}_sum"] = figures[COUNT], figures[SUM]
            row[f"{name}_min"] = None if figures[MIN] == NO_MIN else figures[MIN]
            row[f"{name}_max"] = None if figures[MAX] == NO_MAX else figures[MAX]
            row[f"{name}_sketch"] = Counter()
        assert (grouping.name, share.pane_start, key) not in found
        found[grouping.name, share.pane_start, key] = row
    codes = share.sketch_codes.tolist()
    assert codes == sorted(set(codes))
    for code, count in zip(codes, share.sketch_counts.tolist(), strict=True):
        which, bucket = divmod(code, WIDTH)
        place, number = divmod(which, len(grouping.latencies))
        key = share.keys[place]
        found[grouping.name, share.pane_start, key][f"{grouping.latencies[number]}_sketch"][bucket] = count
    return found


def figures(shares: list[Share], grouping: Grouping) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for share in shares:
        rows = of_share(share, grouping)
        assert rows, "no share without a group"
        assert not rows.keys() & found.keys(), "a group is in one share only"
        found |= rows
    return found


def bucket_of(key: tuple[str, ...], grouping: Grouping) -> int:
    """The block of a group: by the CRC of its keys, with a zero between them."""
    return crc32(b"\0".join(value.encode() for value in key)) % grouping.buckets


@pytest.mark.parametrize("grouping", [*GROUPINGS.values(), SPREAD], ids=lambda each: each.name)
@pytest.mark.parametrize("pane", [MINUTES, SECONDS, DAYS], ids=lambda each: each.name)
def test_each_group_has_its_figures(grouping: Grouping, pane: Pane) -> None:
    requests = varied(300)
    length = pane.length or 24 * 60 * MINUTE

    shares = list(aggregate(Events(frame(requests)), grouping, pane))

    assert figures(shares, grouping) == windows(requests, grouping.name, length)
    places = [(share.pane_start, share.bucket) for share in shares]
    assert places == sorted(set(places)), "by pane and bucket"
    for share in shares:
        assert {bucket_of(key, grouping) for key in share.keys} == {share.bucket}


@pytest.mark.parametrize("grouping", [*GROUPINGS.values(), SPREAD], ids=lambda each: each.name)
@pytest.mark.parametrize("pane", [MINUTES, DAYS], ids=lambda each: each.name)
def test_of_those_selected_alone(grouping: Grouping, pane: Pane) -> None:
    requests = varied(300)
    chosen = [place for place in range(300) if place % 7 in (0, 3)]
    events = Events(frame(requests))

    shares = list(aggregate(events, grouping, pane, np.array(chosen)))

    length = pane.length or 24 * 60 * MINUTE
    selected = [requests[place] for place in chosen]
    assert figures(shares, grouping) == windows(selected, grouping.name, length)
    assert min(share.first_offset for share in shares) == min(
        row["_offset"] for row in selected if None not in [row[name] for name in KEYS[grouping.name]]
    )


def test_what_is_computed_once_serves_all_groupings_and_selections() -> None:
    requests = varied(120)
    events = Events(frame(requests))
    some = np.arange(0, 120, 2)
    for grouping in (USER, TOTAL, SPACE, USER, MODEL, WORKFLOW, SPREAD, ERROR, SERVICE):
        for pane in (DAYS, MINUTES):
            whole = figures(list(aggregate(events, grouping, pane)), grouping)
            part = figures(list(aggregate(events, grouping, pane, some)), grouping)
            length = pane.length or 24 * 60 * MINUTE
            assert whole == windows(requests, grouping.name, length)
            assert part == windows(requests[::2], grouping.name, length)


def test_what_costs_most_is_done_once_for_each_batch() -> None:
    events = Events(frame(varied(50)))
    assert events.codes("service") is events.codes("service")
    assert events.starts(MINUTES)[0] is events.starts(MINUTES)[0]
    assert events.latencies(MEASURED) is events.latencies(MEASURED)
    assert events.column("prompt_tokens") is events.column("prompt_tokens")
    keys = [(value,) for value in events.codes("user_id").values]
    assert events.buckets(USER, keys) is events.buckets(USER, keys)
    assert len(events) == 50


def test_a_share_says_where_its_first_event_is() -> None:
    requests = [request(40, NOON + MINUTE), request(30, NOON), request(20, NOON + MINUTE), request(50, NOON)]
    requests += [request(35, NOON + 2 * MINUTE), request(60, NOON - MINUTE)]
    shares = list(aggregate(Events(frame(requests)), SPACE, MINUTES))
    assert [((share.pane_start - NOON) // MINUTE, share.first_offset) for share in shares] == [
        *((-1, 60), (0, 30)),
        *((1, 20), (2, 35)),
    ]


def test_of_many_events_in_one_group_every_bucket_is_counted() -> None:
    requests = varied(700)
    assert figures(list(aggregate(Events(frame(requests)), TOTAL, DAYS)), TOTAL) == windows(
        requests, "total", 24 * 60 * MINUTE
    )


def test_of_events_without_any_latency_there_is_none() -> None:
    (share,) = aggregate(
        Events(frame([request(0, total_us=None), request(1, total_us=None)])), TOTAL, MINUTES
    )
    assert share.latencies.tolist() == [[[0, 0, NO_MIN, NO_MAX]] * 4]
    assert (share.sketch_codes.tolist(), share.sketch_counts.tolist()) == ([], [])


def test_keys_are_spread_over_as_few_as_two_blocks() -> None:
    requests = varied(60)
    grouping = Grouping("model", ("provider", "model"), "models", buckets=2)
    shares = list(aggregate(Events(frame(requests)), grouping, DAYS))
    assert [share.bucket for share in shares] == [0, 1]
    for share in shares:
        assert {bucket_of(key, grouping) for key in share.keys} == {share.bucket}
    assert figures(shares, grouping) == windows(requests, "model", 24 * 60 * MINUTE)


def test_a_selection_of_keys_is_spread_as_all_of_them_are() -> None:
    requests = [request(n, workflow=f"w{n}", workflow_version="1") for n in range(9)]
    events = Events(frame(requests))
    for some in (np.array([7, 8]), None, np.array([1])):
        for share in aggregate(events, SPREAD, DAYS, some):
            assert {bucket_of(key, SPREAD) for key in share.keys} == {share.bucket}


@pytest.mark.parametrize("grouping", GROUPINGS.values(), ids=lambda each: each.name)
def test_nothing_selected_is_no_share(grouping: Grouping) -> None:
    events = Events(frame([request(0), request(1)]))
    assert list(aggregate(events, grouping, MINUTES, np.zeros(0, np.int64))) == []


def test_who_has_none_of_the_keys_is_in_no_group() -> None:
    events = Events(frame([request(0, space_id=None), request(1, space_id=None)]))
    assert list(aggregate(events, SPACE, MINUTES)) == []
    assert list(aggregate(events, WORKFLOW, MINUTES)) == []


def test_who_lacks_one_of_two_keys_is_in_no_group_whichever_it_is() -> None:
    requests = [
        request(0, workflow="answer", workflow_version=None),
        request(1, workflow=None, workflow_version="1"),
        request(2, workflow="answer", workflow_version="1"),
    ]
    for some in (requests, requests[::2], requests[1:]):
        (share,) = aggregate(Events(frame(some)), WORKFLOW, MINUTES)
        assert (share.keys, share.sums[:, 0].tolist(), share.first_offset) == ([("answer", "1")], [1], 2)


def test_one_request_has_its_own_figures() -> None:
    given = request(
        7,
        error_type="timeout",
        cache_hits=True,
        prompt_tokens=100,
        cached_tokens=40,
        completion_tokens=30,
        reasoning_tokens=20,
        cost_nano_usd=None,
        total_us=1_000,
        context_us=None,
        model_us=1,
        first_token_us=0,
    )
    (share,) = aggregate(Events(frame([given])), TOTAL, MINUTES)
    assert (share.pane_start, share.bucket, share.first_offset, share.keys) == (NOON, 0, 7, [()])
    assert share.sums.tolist() == [[1, 1, 1, 100, 40, 30, 20, 0, 1]]
    assert share.latencies.tolist() == [
        [[1, 1_000, 1_000, 1_000], [0, 0, NO_MIN, NO_MAX], [1, 1, 1, 1], [1, 0, 0, 0]]
    ]
    # floor(log 1000 / log (101/99)) is 345; what is below 1 counts as 1, in bucket 0.
    assert share.sketch_codes.tolist() == [345, 2 * WIDTH, 3 * WIDTH]
    assert share.sketch_counts.tolist() == [1, 1, 1]


def test_users_have_no_latencies() -> None:
    shares = list(aggregate(Events(frame(varied(100))), USER, DAYS))
    assert len(shares) > 1
    for share in shares:
        assert share.latencies.shape == (len(share.keys), 0, 4)
        assert (share.sketch_codes.tolist(), share.sketch_counts.tolist()) == ([], [])
        assert share.sketch_codes.dtype == share.sketch_counts.dtype == np.int64


@pytest.mark.parametrize("value", [2**52, 2**53 - 1, 2**53, 2**53 + 1, 2**61, -(2**53) - 1, -(2**61) - 1])
@pytest.mark.parametrize("selected", [False, True])
def test_sums_are_exact_also_where_those_of_doubles_are_not(value: int, selected: bool) -> None:
    rows: list[Request] = [
        request(0, prompt_tokens=value, total_us=abs(value)),
        request(1, prompt_tokens=1, total_us=1),
        request(2, prompt_tokens=1, total_us=1, space_id="s2"),
        request(3, prompt_tokens=value, total_us=abs(value), space_id="s2"),
        request(4, prompt_tokens=1, total_us=1, space_id="s2"),
    ]
    some = np.array([0, 1, 3, 4]) if selected else None
    (share,) = aggregate(Events(frame(rows)), SPACE, MINUTES, some)
    column = SPACE.sums.index("prompt_tokens")
    more = 1 if selected else 2
    assert dict(zip(share.keys, share.sums[:, column].tolist(), strict=True)) == {
        ("s1",): value + 1,
        ("s2",): value + more,
    }
    assert share.latencies[:, 0, SUM].tolist() == [abs(value) + 1, abs(value) + more]


def test_two_numbers_that_are_exact_doubles_may_have_a_sum_that_is_none() -> None:
    rows = [request(0, prompt_tokens=2**52 + 1), request(1, prompt_tokens=2**52 + 2)]
    (share,) = aggregate(Events(frame(rows)), TOTAL, MINUTES)
    assert share.sums[0, TOTAL.sums.index("prompt_tokens")] == 2**53 + 3


def test_a_thousand_numbers_that_are_exact_doubles_may_have_a_sum_that_is_none() -> None:
    rows = [request(n, prompt_tokens=2**45 + 1) for n in range(1_000)]
    (share,) = aggregate(Events(frame(rows)), TOTAL, MINUTES)
    assert share.sums[0, SPACE.sums.index("prompt_tokens")] == 1_000 * (2**45 + 1)


def test_negative_numbers_are_added_as_exactly() -> None:
    rows = [request(0, prompt_tokens=-(2**53) - 1), request(1, prompt_tokens=5)]
    (share,) = aggregate(Events(frame(rows)), TOTAL, MINUTES)
    assert share.sums[0, SPACE.sums.index("prompt_tokens")] == 5 - 2**53 - 1


def test_a_column_that_is_0_throughout_adds_nothing() -> None:
    events = Events(frame([request(0, prompt_tokens=0), request(1, prompt_tokens=0)]))
    assert events.column("prompt_tokens") is None
    assert events.column("completion_tokens") is not None
    (share,) = aggregate(events, TOTAL, MINUTES)
    assert share.sums[0].tolist() == [2, 0, 0, 0, 0, 20, 0, 2_000, 0]


def test_a_figure_that_is_not_there_adds_nothing_whatever_lies_in_its_place() -> None:
    there = pa.py_buffer(bytes([0b101]))
    values = pa.py_buffer(np.array([3, 1_000, 5]))
    tokens = pl.from_arrow(pa.Array.from_buffers(pa.int64(), 3, [there, values]))
    given = frame([request(n) for n in range(3)]).with_columns(pl.Series("prompt_tokens", tokens))
    (share,) = aggregate(Events(given), TOTAL, MINUTES)
    assert share.sums[0, TOTAL.sums.index("prompt_tokens")] == 8
