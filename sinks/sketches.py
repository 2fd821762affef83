"""Sketches of many rows as ClickHouse's states of `quantilesDD(0.01, …)`, all at once.

The bytes are those of `streams.windows.sketch.dd_state`.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from streams.windows.sketch import dd_state

_EMPTY: Final = dd_state([], [])
_TAIL: Final = bytes.fromhex("030C00FEFFFFFF0F02040000000000000000")
_HEAD: Final = _EMPTY[: -len(_TAIL) - 1]
_COUNT: Final = 8


def dd_states(keys: pa.Array, counts: pa.Array) -> pa.Array:
    """One state (binary) per row of two list arrays of the same shape: ascending bucket keys, counts.

    A null row is an empty sketch.
    """
    rows = len(keys)
    lengths = _lengths(keys)
    present = keys.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    weights = counts.flatten().to_numpy(zero_copy_only=False).astype("<f8")
    if len(present) != len(weights) or len(present) != lengths.sum():
        raise ValueError("a sketch needs one count per bucket")

    first = np.cumsum(lengths) - lengths
    deltas = np.diff(present, prepend=0)
    begins = first[lengths > 0]
    deltas[begins] = present[begins]
    varints, widths = _varints(((deltas << 1) ^ (deltas >> 63)).astype(np.uint64))
    sizes, size_widths = _varints(lengths.astype(np.uint64))

    # Where each row's state, and in it each bucket, begins.
    entry_bytes = widths + _COUNT
    entries_before = np.concatenate([[0], np.cumsum(entry_bytes)])
    body = entries_before[first + lengths] - entries_before[first]
    state_bytes = len(_HEAD) + size_widths + body + len(_TAIL)
    ends = np.cumsum(state_bytes)
    starts = ends - state_bytes
    body_starts = starts + len(_HEAD) + size_widths
    entry_starts = np.repeat(body_starts - entries_before[first], lengths) + entries_before[:-1]

    out = np.zeros(int(ends[-1]) if rows else 0, np.uint8)
    _place(out, starts, np.frombuffer(_HEAD, np.uint8))
    _place(out, ends - len(_TAIL), np.frombuffer(_TAIL, np.uint8))
    _place_varints(out, starts + len(_HEAD), sizes, size_widths)
    _place_varints(out, entry_starts, varints, widths)
    octets = weights.view(np.uint8).reshape(-1, _COUNT)
    out[(entry_starts + widths)[:, None] + np.arange(_COUNT)] = octets

    offsets = np.concatenate([[0], ends]).astype(np.int64)
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(out)]
    )


def _lengths(lists: pa.Array) -> npt.NDArray[np.int64]:
    lengths = pc.list_value_length(lists).fill_null(0)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), np.int64)


def _varints(numbers: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """LEB128: the bytes of each number (a column each), and how many of them count."""
    longest = max(1, -(-int(numbers.max(initial=0)).bit_length() // 7))
    octets = np.empty((len(numbers), longest), np.uint8)
    widths = np.ones(len(numbers), np.int64)
    for at in range(longest):
        rest = numbers >> np.uint64(7 * (at + 1))
        more = rest > 0
        octets[:, at] = (numbers >> np.uint64(7 * at)).astype(np.uint8) & 0x7F
        octets[more, at] |= 0x80
        widths += more
    return octets, widths


def _place(out: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], what: npt.NDArray[np.uint8]) -> None:
    out[starts[:, None] + np.arange(len(what))] = what


def _place_varints(
    out: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    octets: npt.NDArray[np.uint8],
    widths: npt.NDArray[np.int64],
) -> None:
    for at in range(int(widths.max(initial=0))):
        longer = widths > at
        out[starts[longer] + at] = octets[longer, at]
