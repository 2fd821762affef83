"""The sketch's buckets to the last one, and its quantiles, in exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest

from streams.windows import sketch
from tests.streams.windows.expected import bucket

LARGEST = 2**63 - 1
GAMMA = Fraction(101, 99)
LAST = 2183
"""floor(log(2^63 - 1) / log(101/99))."""


def test_there_is_a_bucket_for_every_power_that_an_int64_reaches() -> None:
    assert GAMMA**LAST <= LARGEST < GAMMA ** (LAST + 1)
    assert sketch.WIDTH == LAST + 1
    assert sketch.keys_of(np.array([LARGEST])).tolist() == [LAST]
    alpha, gamma = sketch.ALPHA, sketch.GAMMA
    assert (alpha, gamma) == (0.01, pytest.approx(float(GAMMA), rel=1e-15))


def test_bounds_are_where_exact_arithmetic_puts_them() -> None:
    bounds = sorted({math.ceil(GAMMA**key) for key in range(LAST + 1)})
    some = [*bounds[:100], *bounds[100::20]]
    around = sorted({min(max(bound + by, 0), LARGEST) for bound in some for by in (-1, 0, 1)})
    keys = sketch.keys_of(np.array(around, dtype=np.int64))
    assert keys.tolist() == [bucket(value) for value in around]
    assert keys.dtype == np.int32


def test_what_is_below_1_counts_as_1() -> None:
    assert sketch.keys_of(np.array([-(2**63), -5, 0, 1])).tolist() == [0, 0, 0, 0]


def test_no_values_have_no_keys() -> None:
    assert sketch.keys_of(np.array([], dtype=np.int64)).tolist() == []


@pytest.mark.parametrize("key", [0, 1, 345, 1_036, LAST])
def test_a_bucket_stands_for_a_value_1_percent_above_its_bound(key: int) -> None:
    """At most 1 % off all in it: from there to its other bound, 2 % further, it is no further."""
    assert sketch.value_of([key])[0] == pytest.approx(float(GAMMA**key * Fraction(101, 100)), rel=1e-11)


@pytest.mark.parametrize(
    ("counts", "q", "place"),
    [
        ([1, 1, 1], 0.0, 0),
        ([1, 1, 1], 0.49, 0),
        ([1, 1, 1], 0.5, 1),
        ([1, 1, 1], 1.0, 2),
        ([1, 2, 1], 0.5, 1),
        ([3, 1, 1], 0.5, 0),
        ([3, 1, 1], 0.75, 1),
        ([1, 3, 1], 0.99, 1),
        ([0, 2, 0], 0.0, 1),
        ([0, 2, 0], 1.0, 1),
        ([1, 0, 1], 1.0, 2),
        ([1, 0, 0], 1.0, 0),
    ],
)
def test_a_quantile_is_the_value_at_its_rank_rounded_down(counts: list[int], q: float, place: int) -> None:
    keys = [10, 20, 700]
    standing_for = float(GAMMA ** keys[place] * Fraction(101, 100))
    assert sketch.quantile(keys, counts, q) == pytest.approx(standing_for, rel=1e-11)


def test_a_single_value_is_every_quantile() -> None:
    for q in (0.0, 0.5, 1.0):
        assert sketch.quantile([0], [1], q) == pytest.approx(1.01)


@pytest.mark.parametrize(("keys", "counts"), [([], []), ([3], [0]), ([3, 4, 5], [0, 0, 0])])
def test_the_quantile_of_nothing_is_not_a_number(keys: list[int], counts: list[int]) -> None:
    assert math.isnan(sketch.quantile(keys, counts, 0.5))
