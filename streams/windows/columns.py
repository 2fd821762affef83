"""Columns as NumPy arrays, straight from their buffers.

Each of Polars' own ways from a column with nulls to an array is a query of its own, at 100 µs: nothing
for a batch of sixty thousand, and most of the work for one of three.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa


@dataclass(frozen=True)
class Codes:
    """A column of texts as small integers: `values[codes[i]]` is row i's; -1 where it has none."""

    codes: npt.NDArray[np.int64]
    values: list[str]
    complete: bool
    """Every row has one."""


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


def coded(series: pl.Series) -> Codes:
    """A column of texts, coded in the order in which they first appear."""
    texts = (series if series.dtype == pl.String else series.cast(pl.String)).to_arrow()
    encoded = texts.dictionary_encode()
    codes = np.frombuffer(encoded.indices.buffers()[1], np.int32, len(texts)).astype(np.int64)
    there = present(texts)
    if there is not None:
        codes[~there] = -1
    return Codes(codes, encoded.dictionary.to_pylist(), there is None)


def compress(codes: npt.NDArray[np.int64], size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The codes that occur, ascending, and each one's place among them. All are below `size`."""
    if size > 4 * codes.size + 1024:
        occurring, places = np.unique(codes, return_inverse=True)
        return occurring, places
    occurring = np.flatnonzero(np.bincount(codes, minlength=size))
    place = np.zeros(size, dtype=np.int64)
    place[occurring] = np.arange(len(occurring))
    return occurring, place[codes]
