"""The state of one block: its groups' figures as arrays, to which shares of batches are added."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.time import Micros
from streams.catalogue.groupings import Grouping
from streams.windows import sketch
from streams.windows.aggregate import COUNT, MAX, MIN, NO_MAX, NO_MIN, SUM, Ints, Share
from streams.windows.block import Block, BlockKey, pack_rows, row_schema


def _no_ints(*shape: int) -> Ints:
    return np.zeros(shape, dtype=np.int64)


@dataclass
class BlockState:
    """A block being counted. Groups keep the row in which they first appeared."""

    key: BlockKey
    grouping: Grouping
    pane_end: Micros
    since: int
    offset: int = -1
    """Events up to and including this offset are counted; adding them again would count them twice."""
    revision: int = 0
    closed: bool = False
    remembers_from: int = -1
    """From where ids were remembered when the block was counted to `offset`."""
    _row_of: dict[tuple[str, ...], int] = field(default_factory=dict)
    _sums: Ints = field(default_factory=lambda: _no_ints(0, 0))
    _latencies: Ints = field(default_factory=lambda: _no_ints(0, 0, 4))
    _codes: Ints = field(default_factory=lambda: _no_ints(0))
    _counts: Ints = field(default_factory=lambda: _no_ints(0))
    _key_columns: list[pa.Array] | None = None
    _packed: pa.RecordBatch | None = None

    def __len__(self) -> int:
        return len(self._row_of)

    def add(self, share: Share, through: int) -> None:
        """Add a share, which together with what is counted already covers all events to offset `through`."""
        self._packed = None
        rows = self._rows(share.keys)
        self._sums[rows] += share.sums
        if self.grouping.latencies:
            figures = self._latencies[rows]
            figures[:, :, :MIN] += share.latencies[:, :, :MIN]
            figures[:, :, MIN] = np.minimum(figures[:, :, MIN], share.latencies[:, :, MIN])
            figures[:, :, MAX] = np.maximum(figures[:, :, MAX], share.latencies[:, :, MAX])
            self._latencies[rows] = figures
            self._add_sketches(rows, share.sketch_codes, share.sketch_counts)
        self.since = min(self.since, share.first_offset)
        self.offset = through

    def _rows(self, keys: list[tuple[str, ...]]) -> npt.NDArray[np.intp]:
        row_of = self._row_of
        before = len(row_of)
        rows = np.array([row_of.setdefault(key, len(row_of)) for key in keys], dtype=np.intp)
        if len(row_of) > before:
            self._key_columns = None
            self._grow(before, len(row_of))
        return rows

    def _grow(self, before: int, groups: int) -> None:
        sums = _no_ints(groups, len(self.grouping.sums))
        latencies = _no_ints(groups, len(self.grouping.latencies), 4)
        latencies[:, :, MIN], latencies[:, :, MAX] = NO_MIN, NO_MAX
        if before:
            sums[:before] = self._sums
            latencies[:before] = self._latencies
        self._sums, self._latencies = sums, latencies

    def _add_sketches(self, rows: npt.NDArray[np.intp], codes: Ints, counts: Ints) -> None:
        per_group = len(self.grouping.latencies) * sketch.WIDTH
        if not codes.size:
            return
        group, rest = np.divmod(codes, per_group)
        codes = rows[group] * per_group + rest
        place = np.searchsorted(self._codes, codes)
        known = place < len(self._codes)
        known[known] = self._codes[place[known]] == codes[known]
        self._counts[place[known]] += counts[known]
        if not known.all():
            merged = np.concatenate((self._codes, codes[~known]))
            order = np.argsort(merged, kind="stable")
            self._codes = merged[order]
            self._counts = np.concatenate((self._counts, counts[~known]))[order]

    def rows(self) -> pa.RecordBatch:
        """The groups, in the columns of `block.row_schema`."""
        if self._packed is None:
            self._packed = self._pack()
        return self._packed

    def _pack(self) -> pa.RecordBatch:
        schema = row_schema(self.grouping)
        if self._key_columns is None:
            columns = zip(*self._row_of, strict=True)
            self._key_columns = [pa.array(column, pa.string()) for column in columns]
        groups, n = len(self), len(self.grouping.latencies)
        # Copies: what is packed stays as it is while counting goes on.
        sums = pa.py_buffer(self._sums.T.copy())
        arrays = [*self._key_columns, *(_column(sums, at, groups) for at in range(len(self.grouping.sums)))]
        figures = pa.py_buffer(self._latencies.reshape(groups, 4 * n).T.copy())
        for i, sketches in enumerate(self._sketch_columns()):
            there = self._latencies[:, i, COUNT] > 0
            bits = None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
            arrays += [_column(figures, 4 * i + part, groups) for part in (COUNT, SUM)]
            arrays += [_column(figures, 4 * i + part, groups, bits) for part in (MIN, MAX)]
            arrays += sketches
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _sketch_columns(self) -> Iterator[tuple[pa.Array, pa.Array]]:
        """Of each latency the keys and the counts, a list for each group."""
        n, groups = len(self.grouping.latencies), len(self)
        if not n:
            return
        places, keys = np.divmod(self._codes, sketch.WIDTH)
        group, latency = np.divmod(places, n)
        # From group by group to latency by latency.
        order = np.argsort(latency.astype(np.int8), kind="stable")
        edges = np.searchsorted((latency * groups + group)[order], np.arange(n * groups + 1)).astype(np.int32)
        all_keys, all_counts = _ints(keys[order].astype(np.int32)), _ints(self._counts[order])
        for i in range(n):
            own = edges[i * groups : (i + 1) * groups + 1]
            first, size = int(own[0]), int(own[-1] - own[0])
            offsets = _ints(own - own[0])
            yield (
                pa.ListArray.from_arrays(offsets, all_keys.slice(first, size)),
                pa.ListArray.from_arrays(offsets, all_counts.slice(first, size)),
            )

    def block(self, watermark: Micros) -> Block:
        """The block as it is now."""
        return Block(
            self.key,
            self.pane_end,
            self.since,
            self.offset,
            watermark,
            self.revision,
            self.closed,
            pack_rows(self.rows()),
            self.remembers_from,
        )


def _ints(values: npt.NDArray[np.int64] | npt.NDArray[np.int32]) -> pa.Array:
    """An array as it lies in memory. (For arrays of a few values, `pa.array` takes most of the time.)"""
    kind = pa.int64() if values.dtype == np.int64 else pa.int32()
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _column(matrix: pa.Buffer, at: int, size: int, there: pa.Buffer | None = None) -> pa.Array:
    """A line of a matrix of whole numbers; `there` has a bit for each that isn't null."""
    values = matrix.slice(8 * size * at, 8 * size)
    return pa.Array.from_buffers(pa.int64(), size, [there, values], 0 if there is None else -1)


def restore(block: Block, grouping: Grouping) -> BlockState:
    """The state that `BlockState.block` wrote."""
    table = block.rows.combine_chunks()
    groups, n = table.num_rows, len(grouping.latencies)
    keys = list(zip(*(table[name].to_pylist() for name in grouping.keys), strict=True))
    sums = [table[name].to_numpy() for name in grouping.sums]
    latencies = _no_ints(groups, n, 4)
    codes, counts = [_no_ints(0)], [_no_ints(0)]
    for i, name in enumerate(grouping.latencies):
        for part, suffix, missing in (
            (COUNT, "count", 0),
            (SUM, "sum", 0),
            (MIN, "min", NO_MIN),
            (MAX, "max", NO_MAX),
        ):
            latencies[:, i, part] = table[f"{name}_{suffix}"].fill_null(missing).to_numpy()
        lists = table[f"{name}_keys"].combine_chunks()
        lengths = np.diff(lists.offsets.to_numpy())
        group = np.repeat(np.arange(groups), lengths)
        codes.append((group * n + i) * sketch.WIDTH + lists.flatten().to_numpy())
        counts.append(table[f"{name}_counts"].combine_chunks().flatten().to_numpy())
    all_codes = np.concatenate(codes)
    order = np.argsort(all_codes, kind="stable")
    return BlockState(
        block.key,
        grouping,
        block.pane_end,
        block.since,
        block.offset,
        block.revision,
        block.closed,
        block.remembers_from,
        _row_of={key: row for row, key in enumerate(keys or [()] * groups)},
        _sums=np.stack(sums, axis=1).astype(np.int64),
        _latencies=latencies,
        _codes=all_codes[order],
        _counts=np.concatenate(counts)[order],
    )
