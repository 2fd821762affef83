"""Columns as NumPy arrays, straight from their buffers.

Each of Polars' own ways from a column with nulls to an array is a query of its own, at 100 µs: nothing
for a batch of sixty thousand, and most of the work for one of three.
"""

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa


def integers(series: pl.Series) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_] | None]:
    """The numbers of a column of 64-bit integers or times, and which of them are there; None: all.

    What isn't there is any number. The array is read-only.
    """
    array = series.to_arrow()
    return np.frombuffer(array.buffers()[1], np.int64, len(array), 8 * array.offset), present(array)


def present(array: pa.Array) -> npt.NDArray[np.bool_] | None:
    """Which values are there; None: all."""
    if array.null_count == 0:
        return None
    bits = np.unpackbits(np.frombuffer(array.buffers()[0], np.uint8), bitorder="little")
    return bits[array.offset : array.offset + len(array)].astype(np.bool_)
