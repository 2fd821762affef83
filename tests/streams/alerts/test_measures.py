"""A metric's value is what adding up the requests by hand gives; where there is no data, it is null."""

import math
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.alerts.errors import UnknownMetricError
from streams.alerts.measures import (
    AGGREGATIONS,
    GROUPING_KEYS,
    MEASURES,
    QUANTILES,
    SAMPLE_SCHEMA,
    measure,
    quantiles,
)
from streams.catalogue.groupings import GROUPINGS, Grouping
from streams.windows.aggregate import Events, aggregate
from streams.windows.block import BlockKey
from streams.windows.merge import merge
from streams.windows.panes import Pane
from streams.windows.sketch import keys_of, quantile
from streams.windows.state import BlockState
from tests.streams.windows.requests import Request, frame, many, request

DAYS = Pane("1d", 0)
SECONDS = 300.0
LATENCIES = {
    "latency": "total_us",
    "context_latency": "context_us",
    "model_latency": "model_us",
    "first_token_latency": "first_token_us",
}
COUNTED = {
    "requests": lambda row: 1,
    "errors": lambda row: row["errors"],
    "cache_hits": lambda row: row["cache_hits"],
    "tokens": lambda row: (row["prompt_tokens"] or 0) + (row["completion_tokens"] or 0),
    "prompt_tokens": lambda row: row["prompt_tokens"] or 0,
    "cached_tokens": lambda row: row["cached_tokens"] or 0,
    "completion_tokens": lambda row: row["completion_tokens"] or 0,
    "reasoning_tokens": lambda row: row["reasoning_tokens"] or 0,
    "unpriced": lambda row: row["unpriced"],
}


def merged(requests: list[Request], grouping: Grouping) -> pl.DataFrame:
    """The requests' rows as the alert agent sees them: several parts, added up."""
    tables = []
    for some in (requests[::2], requests[1::2]):
        for share in aggregate(Events(frame(some)), grouping, DAYS) if some else ():
            key = BlockKey(0, False, "1d", share.pane_start, grouping.name, share.bucket)
            state = BlockState(key, grouping, DAYS.end(share.pane_start), share.first_offset)
            state.add(share, len(requests))
            tables.append(pa.Table.from_batches([state.rows()]))
    return merge(tables, grouping)


def by_hand(name: str, aggregation: str, requests: list[Request]) -> float | None:
    """The value, request by request."""
    if name in LATENCIES:
        return latency(aggregation, [r[LATENCIES[name]] for r in requests if r[LATENCIES[name]] is not None])
    if name == "cost":
        costs = [r["cost_nano_usd"] for r in requests if r["cost_nano_usd"] is not None]
        if not costs or (len(costs) < len(requests) and not any(costs)):
            return None
        total, over = math.fsum(costs) / 1e9, len(costs)
    else:
        total, over = float(sum(COUNTED[name](r) for r in requests)), len(requests)
    return {"sum": total, "rate": total / SECONDS, "avg": total / over, "ratio": total / over}[aggregation]


def latency(aggregation: str, durations: list[int]) -> float | None:
    if not durations:
        return None
    if aggregation in QUANTILES:
        keys, counts = np.unique(keys_of(np.array(durations)), return_counts=True)
        found = quantile(keys, counts, QUANTILES[aggregation])
        return min(max(found, min(durations)), max(durations)) / 1_000
    return {"avg": sum(durations) / len(durations), "max": max(durations)}[aggregation] / 1_000


def of_group(requests: list[Request], keys: dict[str, Any]) -> list[Request]:
    return [row for row in requests if all(row[key] == value for key, value in keys.items())]


@settings(max_examples=12, deadline=None)
@given(many(), st.sampled_from(list(GROUPINGS)))
def test_every_value_is_that_of_the_requests(requests: list[Request], grouping: str) -> None:
    rows = merged(requests, GROUPINGS[grouping])
    groups = [of_group(requests, keys) for keys in rows.select(GROUPING_KEYS[grouping]).to_dicts()]
    groups = groups or [requests] * len(rows)
    for one in MEASURES.values():
        if grouping not in one.groupings:
            continue
        for aggregation in one.aggregations:
            values = one.value(rows, aggregation, SECONDS)
            assert values.dtype == pl.Float64
            for value, group in zip(values.to_list(), groups, strict=True):
                expected = by_hand(one.name, aggregation, group)
                assert (value is None) == (expected is None)
                assert value is None or math.isclose(value, expected, rel_tol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=300), st.sampled_from(list(QUANTILES)))
@example([1, 2], "p50")  # 1 is the bound of a bucket: all of one percent, and what rounding adds
def test_a_percentile_is_within_one_percent_of_the_requests(durations: list[int], aggregation: str) -> None:
    rows = merged([request(n, total_us=one) for n, one in enumerate(durations)], GROUPINGS["total"])
    exact = float(np.quantile(durations, QUANTILES[aggregation], method="lower")) / 1_000
    value = measure("latency").value(rows, aggregation, SECONDS).item()
    assert value == pytest.approx(exact, rel=0.01 + 1e-9)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 10**8), max_size=40), max_size=12),
    st.sampled_from([0.0, 0.5, 0.95, 1.0]),
)
def test_percentiles_of_many_groups_at_once_are_those_of_each(groups: list[list[int]], q: float) -> None:
    sketches = [
        np.unique(keys_of(np.array(durations, dtype=np.int64)), return_counts=True) for durations in groups
    ]
    keys = pl.Series([keys.tolist() for keys, _ in sketches], dtype=pl.List(pl.Int32))
    counts = pl.Series([counts.tolist() for _, counts in sketches], dtype=pl.List(pl.Int64))
    expected = [quantile(keys, counts, q) for keys, counts in sketches]
    np.testing.assert_array_equal(quantiles(keys, counts, q), expected)


def test_no_group_has_no_value() -> None:
    for grouping in GROUPINGS.values():
        nothing = merge([], grouping)
        for one in MEASURES.values():
            if grouping.name in one.groupings:
                for aggregation in one.aggregations:
                    assert one.value(nothing, aggregation, SECONDS).to_list() == []
                    assert one.lower_bound(nothing, aggregation).to_list() == []


def test_what_nobody_measured_is_null_and_not_0() -> None:
    rows = merged([request(0, total_us=None)], GROUPINGS["total"])
    for aggregation in measure("latency").aggregations:
        assert measure("latency").value(rows, aggregation, SECONDS).to_list() == [None]
    assert measure("errors").value(rows, "ratio", SECONDS).to_list() == [0.0]


@pytest.mark.parametrize(
    ("costs", "sum_", "avg", "at_least"),
    [
        ([2_000_000_000, 1_000_000_000], 3.0, 1.5, False),
        ([3_000_000_000, None], 3.0, 3.0, True),
        ([None, None], None, None, True),
        # A request that failed cost nothing; what the other one cost is not known.
        ([0, None], None, None, True),
        ([0, 0], 0.0, 0.0, False),
    ],
)
def test_a_cost_that_is_known_in_part_is_a_lower_bound_and_never_0(
    costs: list[int | None], sum_: float | None, avg: float | None, at_least: bool
) -> None:
    rows = merged([request(n, cost_nano_usd=cost) for n, cost in enumerate(costs)], GROUPINGS["total"])
    cost = measure("cost")
    assert cost.value(rows, "sum", SECONDS).to_list() == [sum_]
    assert cost.value(rows, "avg", SECONDS).to_list() == [avg]
    assert cost.lower_bound(rows, "sum").to_list() == [at_least]
    assert cost.lower_bound(rows, "rate").to_list() == [at_least]
    assert cost.lower_bound(rows, "avg").to_list() == [False]
    assert measure("tokens").lower_bound(rows, "sum").to_list() == [False]


def test_a_sampled_state_is_its_last_its_mean_or_its_greatest_value() -> None:
    rows = pl.DataFrame(
        {
            "service": ["support", "support"],
            "instance": ["pod-1", "pod-2"],
            "count": [3, 0],
            "sum": [4.0, 0.0],
            "max": [2.0, None],
            "last": [0.0, None],
        },
        schema=SAMPLE_SCHEMA,
    )
    sampled = measure("sample:circuit_breaker")
    assert sampled.groupings == ("sample",)
    assert {name: sampled.value(rows, name, SECONDS).to_list() for name in sampled.aggregations} == {
        "last": [0.0, None],
        "avg": [4 / 3, None],
        "max": [2.0, None],
    }


def test_units_are_those_that_alerts_state() -> None:
    units = {
        (name, aggregation): measure(name).unit(aggregation).symbol
        for name, aggregation in [
            ("requests", "rate"),
            ("errors", "ratio"),
            ("errors", "sum"),
            ("tokens", "sum"),
            ("tokens", "rate"),
            ("tokens", "avg"),
            ("cost", "sum"),
            ("cost", "rate"),
            ("latency", "p95"),
            ("sample:queue_depth", "last"),
        ]
    }
    assert list(units.values()) == [
        "1/s", "ratio", "requests", "tokens", "tokens/s", "tokens", "USD", "USD/s", "ms", "number"
    ]  # fmt: skip


def test_users_have_no_latencies() -> None:
    assert all("user" not in MEASURES[name].groupings for name in LATENCIES)
    assert all("user" in one.groupings for name, one in MEASURES.items() if name not in LATENCIES)


def test_every_metric_is_described_and_aggregated_by_known_names() -> None:
    for one in MEASURES.values():
        assert one.description.endswith(".")
        assert set(one.aggregations) <= set(AGGREGATIONS)


@pytest.mark.parametrize(
    "name", ["", "sample", "sample:", "sample:*", "latency_us", "Requests", "sample:a\nb"]
)
def test_an_unknown_metric_is_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(UnknownMetricError) as refused:
        measure(name)
    assert refused.value.right
