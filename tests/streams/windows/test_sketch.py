"""The sketch: exact buckets, 1 % relative error, and ClickHouse's own state."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.clickhouse.sketches import dd_state
from streams.windows import sketch
from tests.streams.windows.expected import bucket

values = st.integers(0, 2**62)


@given(st.lists(values, min_size=1, max_size=50))
def test_a_value_lies_in_the_bucket_that_exact_arithmetic_gives(many: list[int]) -> None:
    assert sketch.keys_of(np.array(many)).tolist() == [bucket(value) for value in many]


def test_the_bounds_themselves_are_exact() -> None:
    for key in (345, 1036, 2000):
        least = -(-(101**key) // 99**key)
        assert sketch.keys_of(np.array([least - 1, least])).tolist() == [key - 1, key]


@given(
    st.lists(st.integers(1, 10**12), min_size=1, max_size=300), st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0])
)
def test_a_quantile_is_within_1_percent_of_the_exact_one(many: list[int], q: float) -> None:
    keys, counts = np.unique(sketch.keys_of(np.array(many)), return_counts=True)
    exact = float(np.quantile(np.array(many, dtype=float), q, method="lower"))
    # A bucket of whole numbers may hold just one, not in its middle: hence the rounding for small ones.
    assert sketch.quantile(keys, counts, q) == pytest.approx(exact, rel=0.0100001)


def test_the_quantile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(sketch.quantile([], [], 0.5))


@pytest.fixture(scope="module")
def clickhouse_engine():  # type: ignore[no-untyped-def]
    import chdb

    connection = chdb.connect(":memory:")
    yield connection
    connection.close()


def test_clickhouse_reads_our_state_as_its_own(clickhouse_engine) -> None:  # type: ignore[no-untyped-def]
    many = np.exp(np.random.default_rng(7).normal(13, 1.2, 3_000)).astype(np.int64)
    keys, counts = np.unique(sketch.keys_of(many), return_counts=True)
    state = dd_state(keys, counts).hex()
    levels = (0.0, 0.25, 0.5, 0.95, 0.99, 1.0)
    of_state = clickhouse_engine.query(
        f"SELECT quantilesDDMerge(0.01, {', '.join(map(str, levels))})(CAST(unhex('{state}'), "
        f"'AggregateFunction(quantilesDD(0.01, {', '.join(map(str, levels))}), Float64)')) FORMAT TSV"
    )
    of_values = clickhouse_engine.query(
        f"SELECT quantilesDD(0.01, {', '.join(map(str, levels))})(v) "
        f"FROM (SELECT arrayJoin({many.tolist()})::Float64 AS v) FORMAT TabSeparated"
    )
    assert str(of_state) == str(of_values)
    theirs = [float(x) for x in str(of_state).strip()[1:-1].split(",")]
    assert theirs == pytest.approx([sketch.quantile(keys, counts, q) for q in levels], rel=1e-9)
