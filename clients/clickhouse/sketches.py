"""Sketches of many rows as ClickHouse's states of `quantilesDD(0.01, …)`, and back, all at once.

The bytes written are those of `dd_state`. ClickHouse writes states in either of two ways, whichever is
shorter (src/AggregateFunctions/DDSketch/Store.h): bucket by bucket, as we do, or as a run of counts from
the first bucket to the last.
"""

import struct
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_ALPHA: Final = 0.01
_GAMMA: Final = (1 + _ALPHA) / (1 - _ALPHA)
_HEAD: Final = b"\x02" + struct.pack("<dd", _GAMMA, 0.0) + b"\x01\x04"
_TAIL: Final = bytes.fromhex("030C00FEFFFFFF0F02040000000000000000")
_COUNT: Final = 8
_BY_BUCKET: Final = 0x04
_RUN: Final = 0x0C


def dd_state(keys: npt.ArrayLike, counts: npt.ArrayLike) -> bytes:
    """A sketch (ascending keys) as ClickHouse's state of `quantilesDD(0.01, …)`.

    Layout: index mapping (`02`, γ, offset 0), the positive store (`01 04`, varint n, n times a zigzag
    varint of the key's difference from the one before and a float64 count), an empty negative store,
    a zero count of 0.
    """
    keys = np.asarray(keys, dtype=np.int64)
    deltas = np.diff(keys, prepend=0).tolist()
    weights = np.asarray(counts, dtype="<f8").tobytes()
    body = b"".join(
        [part for i, d in enumerate(deltas) for part in (_varint(2 * d), weights[8 * i : 8 * i + 8])]
    )
    return b"".join((_HEAD, _varint(len(keys)), body, _TAIL))


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


def dd_sketches(states: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The inverse of `dd_states`, for binaries that ClickHouse wrote: ascending bucket keys, and counts.

    Raises ValueError for a state that is none of `quantilesDD(0.01, …)`.
    """
    states = states.cast(pa.large_binary())
    ends = np.frombuffer(states.buffers()[1], np.int64)[states.offset : states.offset + len(states) + 1]
    octets = np.frombuffer(states.buffers()[2] or b"", np.uint8)
    at = ends[:-1].copy()
    if (np.diff(ends) < len(_HEAD)).any() or not all(
        (octets[at + place] == octet).all() for place, octet in enumerate(_HEAD[:-1])
    ):
        raise ValueError("this is no state of quantilesDD(0.01, ...)")
    at += len(_HEAD) - 1
    encoding = octets[at]
    if not np.isin(encoding, (_BY_BUCKET, _RUN)).all():
        raise ValueError("a sketch is written in a way that is not known")
    sizes, at = _read_varints(octets, at + 1)
    # By bucket: (difference, count)…; a run: first bucket, step, count….
    runs = np.flatnonzero(encoding == _RUN)
    position, step = np.zeros(len(states), np.int64), np.zeros(len(states), np.int64)
    first, at[runs] = _read_varints(octets, at[runs])
    distance, at[runs] = _read_varints(octets, at[runs])
    step[runs] = _unzigzag(distance)
    position[runs] = _unzigzag(first) - step[runs]
    row = np.repeat(np.arange(len(states)), sizes)
    keys, counts = np.empty(len(row), np.int64), np.empty(len(row), np.int64)
    begins = np.cumsum(sizes) - sizes
    for turn in range(int(sizes.max(initial=0))):
        rows = np.flatnonzero(sizes > turn)
        sparse = rows[encoding[rows] == _BY_BUCKET]
        difference, at[sparse] = _read_varints(octets, at[sparse])
        step[sparse] = _unzigzag(difference)
        position[rows] += step[rows]
        weights = octets[at[rows][:, None] + np.arange(_COUNT)].copy().view("<f8").ravel()
        at[rows] += _COUNT
        keys[begins[rows] + turn], counts[begins[rows] + turn] = position[rows], weights
    present = counts > 0
    lengths = np.bincount(row[present], minlength=len(states))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return (
        pa.ListArray.from_arrays(offsets, pa.array(keys[present], pa.int32())),
        pa.ListArray.from_arrays(offsets, pa.array(counts[present], pa.int64())),
    )


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _read_varints(
    octets: npt.NDArray[np.uint8], at: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """LEB128 at each of these places, and where each ends."""
    values, after = np.zeros(len(at), np.int64), at.copy()
    going = np.arange(len(at))
    shift = 0
    while going.size:
        octet = octets[after[going]].astype(np.int64)
        values[going] |= (octet & 0x7F) << shift
        after[going] += 1
        going = going[octet >= 0x80]
        shift += 7
    return values, after


def _unzigzag(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return (numbers >> 1) ^ -(numbers & 1)


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
