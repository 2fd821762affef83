"""States built for many rows at once are those of the one-row reference, byte for byte."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.sketches import dd_states
from streams.windows.sketch import WIDTH, dd_state

sketches = st.one_of(
    st.none(), st.dictionaries(st.integers(0, WIDTH - 1), st.integers(1, 2**53), max_size=200)
)


@given(st.lists(sketches, max_size=20), st.integers(0, 3))
def test_like_the_reference(rows: list[dict[int, int] | None], skipped: int) -> None:
    keys = pa.array([None if row is None else sorted(row) for row in rows], pa.list_(pa.int32()))
    counts = pa.array(
        [None if row is None else [row[key] for key in sorted(row)] for row in rows], pa.list_(pa.int64())
    )
    states = dd_states(keys[skipped:], counts[skipped:])
    expected = [dd_state(sorted(row or {}), [(row or {})[key] for key in sorted(row or {})]) for row in rows]
    assert states.to_pylist() == expected[skipped:]


def test_a_bucket_without_its_count_is_an_error() -> None:
    with pytest.raises(ValueError, match="one count per bucket"):
        dd_states(pa.array([[1, 2]], pa.list_(pa.int32())), pa.array([[1]], pa.list_(pa.int64())))
