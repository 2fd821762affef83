"""States built for many rows at once are those of the one-row reference, byte for byte."""

import numpy as np
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.clickhouse.sketches import dd_sketches, dd_state, dd_states
from streams.windows.sketch import ALPHA, WIDTH, keys_of

sketches = st.one_of(
    st.none(), st.dictionaries(st.integers(0, WIDTH - 1), st.integers(1, 2**53), max_size=200)
)


@settings(deadline=None)
@given(st.lists(sketches, max_size=20), st.integers(0, 3))
def test_like_the_reference(rows: list[dict[int, int] | None], skipped: int) -> None:
    keys = pa.array([None if row is None else sorted(row) for row in rows], pa.list_(pa.int32()))
    counts = pa.array(
        [None if row is None else [row[key] for key in sorted(row)] for row in rows], pa.list_(pa.int64())
    )
    states = dd_states(keys[skipped:], counts[skipped:])
    expected = [dd_state(sorted(row or {}), [(row or {})[key] for key in sorted(row or {})]) for row in rows]
    assert states.to_pylist() == expected[skipped:]


@settings(deadline=None)
@given(st.lists(sketches, max_size=20), st.integers(0, 3))
def test_read_back(rows: list[dict[int, int] | None], skipped: int) -> None:
    written = [dd_state(sorted(row or {}), [(row or {})[key] for key in sorted(row or {})]) for row in rows]
    keys, counts = dd_sketches(pa.array(written, pa.binary())[skipped:])
    found = [dict(zip(*pair, strict=True)) for pair in zip(keys.to_pylist(), counts.to_pylist(), strict=True)]
    assert found == [row or {} for row in rows][skipped:]
    assert all(list(row) == sorted(row) for row in found)


def test_both_ways_in_which_clickhouse_writes_them_are_read(client: Client) -> None:
    """Few buckets far apart, and a run of neighbours with holes in it."""
    values = [[1.0], [], [3.0, 3.0, 900_000.0], [float(1_000 + 77 * n) for n in range(900)], [7e6, 7.3e6]]
    asked = ", ".join(
        f"(SELECT unhex(hex(quantilesDDState({ALPHA}, 0.5)(x))) "
        f"FROM (SELECT arrayJoin({made or 'emptyArrayFloat64()'}) AS x))"
        for made in values
    )
    states = client.query_arrow(f"SELECT arrayJoin([{asked}]) AS state", use_strings=False)["state"]
    keys, counts = dd_sketches(states.combine_chunks())
    for at, made in enumerate(values):
        buckets, many = np.unique(keys_of(np.array(made, np.int64)), return_counts=True)
        assert dict(zip(keys[at].as_py(), counts[at].as_py(), strict=True)) == dict(
            zip(buckets.tolist(), many.tolist(), strict=True)
        )


def test_what_is_no_state_is_an_error() -> None:
    with pytest.raises(ValueError, match="no state"):
        dd_sketches(pa.array([b"x" * 40, dd_state([1], [1])], pa.binary()))


def test_a_bucket_without_its_count_is_an_error() -> None:
    with pytest.raises(ValueError, match="one count per bucket"):
        dd_states(pa.array([[1, 2]], pa.list_(pa.int32())), pa.array([[1]], pa.list_(pa.int64())))
