"""The sketch: 1 % for any data, the same whole from any parts, and the same to ClickHouse."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clients.clickhouse.sketches import dd_state
from streams.windows import sketch

LARGEST = 2**63 - 1
LEVELS = (0.0, 0.01, 0.5, 0.95, 0.99, 1.0)

values = st.one_of(
    st.integers(0, LARGEST),
    st.integers(0, 300),
    st.integers(1, 63).flatmap(lambda bits: st.integers(2**bits - 2, 2**bits + 2)),
    st.sampled_from([0, 1, LARGEST - 1, LARGEST]),
).map(lambda value: min(value, LARGEST))
data = st.lists(values, min_size=1, max_size=200)


def sketched(many: list[int]) -> tuple[list[int], list[int]]:
    keys, counts = np.unique(sketch.keys_of(np.array(many, dtype=np.int64)), return_counts=True)
    return keys.tolist(), counts.tolist()


def exact(many: list[int], q: float) -> int:
    """The lower quantile of whole numbers, exactly; what is below 1 counts as 1."""
    return max(sorted(many)[math.floor(q * (len(many) - 1))], 1)


@given(data, st.one_of(st.sampled_from(LEVELS), st.floats(0, 1)))
@example([LARGEST], 0.5)
@example([0, 1, 2], 1.0)
def test_every_quantile_is_within_1_percent_of_the_exact_one(many: list[int], q: float) -> None:
    found = sketch.quantile(*sketched(many), q)
    assert found == pytest.approx(exact(many, q), rel=0.01 + 1e-9)


@given(data)
def test_buckets_ascend_with_the_values_and_hold_all_of_them(many: list[int]) -> None:
    keys = sketch.keys_of(np.array(sorted(many), dtype=np.int64))
    assert (np.diff(keys) >= 0).all()
    assert 0 <= keys[0] <= keys[-1] < sketch.WIDTH
    assert sum(sketched(many)[1]) == len(many)


@given(data, data, st.floats(0, 1))
def test_parts_that_are_added_are_the_sketch_of_the_whole(
    here: list[int], there: list[int], q: float
) -> None:
    added = Counter(dict(zip(*sketched(here), strict=True))) + Counter(
        dict(zip(*sketched(there), strict=True))
    )
    keys = sorted(added)
    assert (keys, [added[key] for key in keys]) == sketched([*here, *there])
    assert sketch.quantile(keys, [added[key] for key in keys], q) == pytest.approx(
        exact([*here, *there], q), rel=0.01 + 1e-9
    )


@pytest.fixture(scope="module")
def clickhouse_engine() -> Iterator[Any]:
    import chdb

    connection = chdb.connect(":memory:")
    yield connection
    connection.close()


@settings(max_examples=25, deadline=None)
@given(parts=st.lists(st.lists(values, min_size=1, max_size=60), min_size=1, max_size=4))
@example(parts=[[0, LARGEST]])
def test_clickhouse_merges_our_states_to_our_quantiles(
    clickhouse_engine: Any, parts: list[list[int]]
) -> None:
    levels = ", ".join(map(str, LEVELS))
    states = ", ".join(f"'{dd_state(*sketched(part)).hex()}'" for part in parts)
    answer = clickhouse_engine.query(
        f"SELECT quantilesDDMerge(0.01, {levels})(CAST(unhex(arrayJoin([{states}])), "
        f"'AggregateFunction(quantilesDD(0.01, {levels}), Float64)')) FORMAT TSV"
    )
    theirs = [float(figure) for figure in str(answer).strip()[1:-1].split(",")]
    together = [value for part in parts for value in part]
    assert theirs == pytest.approx([sketch.quantile(*sketched(together), q) for q in LEVELS], rel=1e-9)
