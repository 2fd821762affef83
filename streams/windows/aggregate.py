"""From a batch of events to each group's share of each pane: integer codes, and dense NumPy counting."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.time import Micros
from streams.catalogue.groupings import Grouping
from streams.windows import sketch
from streams.windows.columns import Codes, coded, compress, integers
from streams.windows.panes import Pane

Ints = npt.NDArray[np.int64]

COUNT, SUM, MIN, MAX = range(4)
"""The columns of a latency's figures."""
NO_MIN = np.iinfo(np.int64).max
NO_MAX = np.iinfo(np.int64).min
_EXACT = 2**53
"""Below it, float64 counts whole numbers exactly."""


@dataclass(frozen=True)
class Column:
    """Whole numbers that are added up."""

    values: Ints

    @cached_property
    def weights(self) -> npt.NDArray[np.float64] | None:
        """The numbers as float64, if it adds them up exactly."""
        largest = max(-int(self.values.min()), int(self.values.max())) if self.values.size else 0
        return self.values.astype(np.float64) if largest * self.values.size < _EXACT else None

    def sums(self, chosen: npt.NDArray[np.intp] | None, group_of: Ints, groups: int) -> Ints:
        """The sum of each group, exactly; `group_of` has that of each number `chosen` (default: all)."""
        if (weights := self.weights) is None:
            sums = np.zeros(groups, dtype=np.int64)
            np.add.at(sums, group_of, self.values if chosen is None else self.values[chosen])
            return sums
        weights = weights if chosen is None else weights[chosen]
        return np.bincount(group_of, weights=weights, minlength=groups).astype(np.int64)


@dataclass(frozen=True)
class Latencies(Column):
    """Several durations of all events that have them, in microseconds, one duration after the other."""

    event: npt.NDArray[np.intp]
    """Whose each value is."""
    which: Ints
    """Which of the durations it is."""

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
    _columns: dict[str, Column | None] = field(default_factory=dict)
    _latencies: dict[tuple[str, ...], Latencies] = field(default_factory=dict)
    _starts: dict[Pane, tuple[Ints, bool]] = field(default_factory=dict)
    _buckets: dict[str, Ints] = field(default_factory=dict)

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

    def starts(self, pane: Pane) -> tuple[Ints, bool]:
        """The start of the pane that each event is in, and whether it is the same one for all."""
        if pane not in self._starts:
            starts = pane.starts(self.times)
            self._starts[pane] = starts, bool(starts.min() == starts.max())
        return self._starts[pane]

    def buckets(self, grouping: Grouping, keys: list[tuple[str, ...]]) -> Ints:
        """The bucket of each of the grouping's keys, in the order of `keys`."""
        if grouping.buckets == 1:
            return np.zeros(len(keys), dtype=np.int64)
        if len(grouping.keys) > 1:
            return _buckets(keys, grouping.buckets)
        # A column's keys are the same for every pane, and the same whatever is selected.
        if grouping.name not in self._buckets:
            self._buckets[grouping.name] = _buckets(keys, grouping.buckets)
        return self._buckets[grouping.name]

    def column(self, name: str) -> Column | None:
        """A column that is summed; None when it is 0 throughout."""
        if name not in self._columns:
            values, there = integers(self.frame[name])
            values = values if there is None else np.where(there, values, 0)
            self._columns[name] = Column(values) if values.any() else None
        return self._columns[name]

    def latencies(self, names: tuple[str, ...]) -> Latencies:
        """Durations."""
        if names not in self._latencies:
            whole = np.arange(len(self))
            columns = [integers(self.frame[name]) for name in names]
            event = [whole if there is None else np.flatnonzero(there) for _, there in columns]
            self._latencies[names] = Latencies(
                np.concatenate([values[at] for (values, _), at in zip(columns, event, strict=True)]),
                np.concatenate(event),
                np.repeat(np.arange(len(names)), [len(at) for at in event]),
            )
        return self._latencies[names]


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
    starts, together = events.starts(pane)
    if together:
        panes, pane_of = starts[:1], np.zeros((), dtype=np.int64)
    else:
        panes, pane_of = np.unique(starts if selected is None else starts[selected], return_inverse=True)
    bucket_of_key = events.buckets(grouping, keys)
    # Ascending by pane, then bucket, then key: each block's groups lie side by side.
    combined = (pane_of * grouping.buckets + bucket_of_key[codes]) * len(keys) + codes
    present, group_of = compress(combined, len(panes) * grouping.buckets * len(keys))
    blocks = present // len(keys)
    groups = [keys[code] for code in (present % len(keys)).tolist()]

    sums = _sums(events, grouping.sums, selected, group_of, len(groups))
    latencies, sketch_codes, sketch_counts = _latencies(events, grouping, selected, group_of, len(groups))

    offsets = events.offsets if selected is None else events.offsets[selected]
    first_offsets = np.full(len(groups), np.iinfo(np.int64).max)
    np.minimum.at(first_offsets, group_of, offsets)

    edges = [0, *(np.flatnonzero(blocks[1:] != blocks[:-1]) + 1).tolist(), len(blocks)]
    per_group = len(grouping.latencies) * sketch.WIDTH
    for first, end in pairwise(edges):
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


def _buckets(keys: list[tuple[str, ...]], buckets: int) -> Ints:
    return np.array([zlib.crc32("\0".join(key).encode()) for key in keys], dtype=np.int64) % buckets


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
    events: Events,
    names: tuple[str, ...],
    selected: npt.NDArray[np.intp] | None,
    group_of: Ints,
    groups: int,
) -> Ints:
    """The sums of columns per group (groups × columns), exactly."""
    sums = np.zeros((groups, len(names)), dtype=np.int64)
    for i, name in enumerate(names):
        if name == "requests":
            sums[:, i] = np.bincount(group_of, minlength=groups)
        elif (column := events.column(name)) is not None:
            sums[:, i] = column.sums(selected, group_of, groups)
    return sums


def _latencies(
    events: Events, grouping: Grouping, selected: npt.NDArray[np.intp] | None, group_of: Ints, groups: int
) -> tuple[Ints, Ints, Ints]:
    """Figures (groups × latencies × 4), and sketches as ascending codes with their counts."""
    n = len(grouping.latencies)
    figures = np.zeros((groups * n, 4), dtype=np.int64)
    figures[:, MIN], figures[:, MAX] = NO_MIN, NO_MAX
    if not n:
        return figures.reshape(groups, n, 4), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    latencies = events.latencies(grouping.latencies)
    values, keys, which, chosen = latencies.values, latencies.keys, latencies.which, None
    if selected is None:
        group = group_of[latencies.event]
    else:
        place = np.full(len(events), -1, dtype=np.int64)
        place[selected] = group_of
        group = place[latencies.event]
        chosen = np.flatnonzero(group >= 0)
        group, values, keys, which = group[chosen], values[chosen], keys[chosen], which[chosen]
    place = group * n + which
    figures[:, COUNT] = np.bincount(place, minlength=groups * n)
    figures[:, SUM] = latencies.sums(chosen, place, groups * n)
    np.minimum.at(figures[:, MIN], place, values)
    np.maximum.at(figures[:, MAX], place, values)
    return figures.reshape(groups, n, 4), *_tally(place * sketch.WIDTH + keys, groups * n * sketch.WIDTH)


def _tally(codes: Ints, size: int) -> tuple[Ints, Ints]:
    """The codes that occur, ascending, and how often each does."""
    if size > 8 * codes.size:
        present, counts = np.unique(codes, return_counts=True)
        return present, counts
    counts = np.bincount(codes, minlength=size)
    present = np.flatnonzero(counts)
    return present, counts[present]
