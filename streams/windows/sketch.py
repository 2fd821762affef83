"""The quantile sketch: how many values fell into each logarithmic bucket; 1 % relative error.

Bucket `k` holds the whole numbers `x` with γ^k <= x < γ^(k+1), γ = (1 + α)/(1 − α), as DDSketch has
it (Masson, Rim, Lee: DDSketch, VLDB 2019). Sketches merge by adding counts. The buckets' bounds are
whole numbers too, computed exactly, so that every machine puts a value into the same bucket.
"""

import math
from fractions import Fraction
from typing import Final

import numpy as np
import numpy.typing as npt

ALPHA: Final = 0.01
GAMMA: Final = (1 + ALPHA) / (1 - ALPHA)

_GAMMA_EXACT: Final = Fraction(101, 99)


def _lower_bounds() -> npt.NDArray[np.int64]:
    """The least whole number of each bucket, up to the largest int64."""
    bounds, numerator, denominator = [], 1, 1
    while (bound := -(-numerator // denominator)) < 2**63:
        bounds.append(bound)
        numerator *= _GAMMA_EXACT.numerator
        denominator *= _GAMMA_EXACT.denominator
    return np.array(bounds, dtype=np.int64)


_LOWER: Final = _lower_bounds()
WIDTH: Final = len(_LOWER)
"""Number of buckets: keys run from 0 to WIDTH − 1."""
_UPPER: Final = np.append(_LOWER[1:], np.iinfo(np.int64).max)
_PER_NAPIER: Final = 1 / math.log(GAMMA)


def keys_of(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """The bucket of each value (whole numbers; those below 1 count as 1)."""
    values = np.maximum(values, 1)
    # The logarithm may be off by one at a bound; the bounds themselves decide.
    keys = (np.log(values) * _PER_NAPIER).astype(np.int32)
    keys -= values < _LOWER[keys]
    keys += values >= _UPPER[keys]
    return np.minimum(keys, WIDTH - 1)


def value_of(keys: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The value that stands for a bucket: at most 1 % off every value in it."""
    return np.asarray(2 * GAMMA / (1 + GAMMA) * GAMMA ** np.asarray(keys, dtype=np.float64))


def quantile(keys: npt.ArrayLike, counts: npt.ArrayLike, q: float) -> float:
    """The q-quantile (0 <= q <= 1) of a sketch with ascending keys; NaN when it is empty.

    The rank is that of ClickHouse's `quantilesDD` and of `numpy.quantile(..., method="lower")`:
    the value at position floor(q · (n − 1)).
    """
    cumulative = np.cumsum(counts)
    if cumulative.size == 0 or cumulative[-1] == 0:
        return math.nan
    rank = math.floor(q * (int(cumulative[-1]) - 1))
    return float(value_of(np.asarray(keys)[np.searchsorted(cumulative, rank, side="right")]))
