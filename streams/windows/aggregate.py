"""From a batch of events to each group's share of each pane: integer codes, and dense NumPy counting."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from streams.columns import Codes, coded, compress, integers
from streams.windows import sketch
from streams.windows.measures import Grouping
from streams.windows.panes import Micros, Pane

Ints = npt.NDArray[np.int64]

COUNT, SUM, MIN, MAX = range(4)
"""The columns of a latency's figures."""
NO_MIN = np.iinfo(np.int64).max
NO_MAX = np.iinfo(np.int64).min
_EXACT = 2**53
"""Below it, float64 counts whole numbers exactly."""


@dataclass(frozen=True)
class Latency:
    """One duration of every event that has it, in microseconds."""

    at: npt.NDArray[np.intp] | None
    """Which events have it; None: all."""
    values: Ints

    @cached_property
    def keys(self) -> npt.NDArray[np.int32]:
        """The sketch bucket of each value."""
        return sketch.keys_of(self.values)


@dataclass(frozen=True)
class Events:
    """A batch of finished requests as arrays; what groupings share is computed once.

    `frame` has the key columns (String), those of `measures.SUMS` but for `requests` (Int64, null as 0),
    those of `measures.LATENCIES` (Int64), `occurred_at` (Datetime "us", UTC) and `_offset`.
    """

    frame: pl.DataFrame
    _codes: dict[str, Codes] = field(default_factory=dict)
    _sums: dict[str, Ints | None] = field(default_factory=dict)
    _latencies: dict[str, Latency] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.frame.height

    @cached_property
    def offsets(self) -> Ints:
        """The Kafka offset of each event."""
        return self.frame["_offset"].to_numpy()

    @cached_property
    def times(self) -> Ints:
        """When each event occurred, in microseconds."""
        return integers(self.frame["occurred_at"])[0]

    def codes(self, column: str) -> Codes:
        """A key column, coded."""
        if column not in self._codes:
            self._codes[column] = coded(self.frame[column])
        return self._codes[column]

    def sum(self, name: str) -> Ints | None:
        """A column that is summed; None when it is 0 throughout."""
        if name not in self._sums:
            values, there = integers(self.frame[name])
            values = values if there is None else np.where(there, values, 0)
            self._sums[name] = values if values.any() else None
        return self._sums[name]

    def latency(self, name: str) -> Latency:
        """A duration."""
        if name not in self._latencies:
            values, there = integers(self.frame[name])
            at = None if there is None else np.flatnonzero(there)
            self._latencies[name] = Latency(at, values if at is None else values[at])
        return self._latencies[name]


@dataclass(frozen=True)
class Share:
    """What a batch adds to one block: G groups, S sums, L latencies."""

    pane_start: Micros
    bucket: int
    first_offset: int
    keys: list[tuple[str, ...]]
    sums: Ints
    """G × S."""
    latencies: Ints
    """G × L × (count, sum, min, max)."""
    sketch_codes: Ints
    """Ascending `(group · L + latency) · WIDTH + key` …"""
    sketch_counts: Ints
    """… and how many values each has."""


def aggregate(
    events: Events, grouping: Grouping, pane: Pane, selected: npt.NDArray[np.intp] | None = None
) -> Iterator[Share]:
    """Each block's share of the `selected` events (all by default), in order of pane and bucket.

    Events without one of the grouping's keys are in no group.
    """
    selected, codes, keys = _key_codes(events, grouping, selected)
    if codes.size == 0:
        return
    starts = pane.starts(events.times if selected is None else events.times[selected])
    panes, pane_of = np.unique(starts, return_inverse=True) if np.ptp(starts) else (starts[:1], 0)
    bucket_of_key = np.array([_bucket(key, grouping.buckets) for key in keys], dtype=np.int64)
    # Ascending by pane, then bucket, then key: each block's groups lie side by side.
    combined = (pane_of * grouping.buckets + bucket_of_key[codes]) * len(keys) + codes
    present, group_of = compress(combined, len(panes) * grouping.buckets * len(keys))
    blocks = present // len(keys)
    groups = [keys[code] for code in (present % len(keys)).tolist()]

    sums = np.stack([_sums(events, name, selected, group_of, len(groups)) for name in grouping.sums], axis=1)
    latencies, sketch_codes, sketch_counts = _latencies(events, grouping, selected, group_of, len(groups))

    offsets = events.offsets if selected is None else events.offsets[selected]
    first_offsets = np.full(len(groups), np.iinfo(np.int64).max)
    np.minimum.at(first_offsets, group_of, offsets)

    edges = np.flatnonzero(np.diff(blocks, prepend=-1, append=-1))
    per_group = len(grouping.latencies) * sketch.WIDTH
    for first, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        low, high = np.searchsorted(sketch_codes, (first * per_group, end * per_group))
        block = int(blocks[first])
        yield Share(
            int(panes[block // grouping.buckets]),
            block % grouping.buckets,
            int(first_offsets[first:end].min()),
            groups[first:end],
            sums[first:end],
            latencies[first:end],
            sketch_codes[low:high] - first * per_group,
            sketch_counts[low:high],
        )


def _bucket(key: tuple[str, ...], buckets: int) -> int:
    return zlib.crc32("\0".join(key).encode()) % buckets if buckets > 1 else 0


def _key_codes(
    events: Events, grouping: Grouping, selected: npt.NDArray[np.intp] | None
) -> tuple[npt.NDArray[np.intp] | None, Ints, list[tuple[str, ...]]]:
    """Those selected that have every key, each one's code, and the keys that the codes stand for."""
    if not grouping.keys:
        count = len(events) if selected is None else len(selected)
        return selected, np.zeros(count, dtype=np.int64), [()]
    columns = [events.codes(name) for name in grouping.keys]
    if not all(column.complete for column in columns):
        keyed = np.logical_and.reduce([column.codes >= 0 for column in columns])
        selected = np.flatnonzero(keyed) if selected is None else selected[keyed[selected]]
    codes = np.zeros((), dtype=np.int64)
    for column in columns:
        part = column.codes if selected is None else column.codes[selected]
        codes = codes * len(column.values) + part
    if len(columns) == 1:
        return selected, codes, [(value,) for value in columns[0].values]
    size = int(np.prod([len(column.values) for column in columns]))
    present, codes = compress(codes, size)
    parts = np.unravel_index(present, [len(column.values) for column in columns])
    keys = [
        tuple(column.values[i] for column, i in zip(columns, key, strict=True))
        for key in zip(*(part.tolist() for part in parts), strict=True)
    ]
    return selected, codes, keys


def _sums(
    events: Events, name: str, selected: npt.NDArray[np.intp] | None, group_of: Ints, groups: int
) -> Ints:
    """The sum of one column per group, exactly."""
    if name == "requests":
        return np.bincount(group_of, minlength=groups)
    values = events.sum(name)
    if values is None:
        return np.zeros(groups, dtype=np.int64)
    return _add_up(values if selected is None else values[selected], group_of, groups)


def _add_up(values: Ints, group_of: Ints, groups: int) -> Ints:
    if values.size and float(np.abs(values).max()) * values.size >= _EXACT:
        sums = np.zeros(groups, dtype=np.int64)
        np.add.at(sums, group_of, values)
        return sums
    return np.bincount(group_of, weights=values, minlength=groups).astype(np.int64)


def _latencies(
    events: Events, grouping: Grouping, selected: npt.NDArray[np.intp] | None, group_of: Ints, groups: int
) -> tuple[Ints, Ints, Ints]:
    """Figures (groups × latencies × 4), and sketches as ascending codes with their counts."""
    n = len(grouping.latencies)
    figures = np.zeros((groups, n, 4), dtype=np.int64)
    figures[:, :, MIN], figures[:, :, MAX] = NO_MIN, NO_MAX
    codes = [np.zeros(0, dtype=np.int64)]
    place = None
    if selected is not None and n:
        place = np.full(len(events), -1, dtype=np.int64)
        place[selected] = group_of
    for i, name in enumerate(grouping.latencies):
        latency = events.latency(name)
        values, keys = latency.values, latency.keys
        group = group_of if place is None else place
        if latency.at is not None:
            group = group[latency.at]
        if place is not None:
            wanted = group >= 0
            group, values, keys = group[wanted], values[wanted], keys[wanted]
        figures[:, i, COUNT] = np.bincount(group, minlength=groups)
        figures[:, i, SUM] = _add_up(values, group, groups)
        np.minimum.at(figures[:, i, MIN], group, values)
        np.maximum.at(figures[:, i, MAX], group, values)
        codes.append((group * n + i) * sketch.WIDTH + keys)
    return figures, *_tally(np.concatenate(codes), groups * n * sketch.WIDTH)


def _tally(codes: Ints, size: int) -> tuple[Ints, Ints]:
    """The codes that occur, ascending, and how often each does."""
    if size > 8 * codes.size:
        present, counts = np.unique(codes, return_counts=True)
        return present, counts
    counts = np.bincount(codes, minlength=size)
    present = np.flatnonzero(counts)
    return present, counts[present]
