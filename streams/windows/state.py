"""The state of one block: its groups' figures as arrays, to which shares of batches are added."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streams.windows import sketch
from streams.windows.aggregate import COUNT, MAX, MIN, NO_MAX, NO_MIN, SUM, Ints, Share
from streams.windows.block import Block, BlockKey, pack_rows, row_schema
from streams.windows.measures import Grouping
from streams.windows.panes import Micros


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
        figures = self._latencies
        figures[rows, :, :MIN] += share.latencies[:, :, :MIN]
        figures[rows, :, MIN] = np.minimum(figures[rows, :, MIN], share.latencies[:, :, MIN])
        figures[rows, :, MAX] = np.maximum(figures[rows, :, MAX], share.latencies[:, :, MAX])
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
            columns = zip(*self._row_of, strict=True) if self.grouping.keys else ()
            self._key_columns = [pa.array(column, pa.string()) for column in columns]
        arrays = list(self._key_columns)
        arrays += [pa.array(np.ascontiguousarray(column)) for column in self._sums.T]
        latency_of = self._codes // sketch.WIDTH
        for i in range(len(self.grouping.latencies)):
            figures = self._latencies[:, i]
            none = figures[:, COUNT] == 0
            arrays += [pa.array(np.ascontiguousarray(figures[:, part])) for part in (COUNT, SUM)]
            arrays += [pa.array(np.ascontiguousarray(figures[:, part]), mask=none) for part in (MIN, MAX)]
            arrays += self._sketch_columns(i, latency_of)
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _sketch_columns(self, latency: int, latency_of: Ints) -> tuple[pa.Array, pa.Array]:
        n = len(self.grouping.latencies)
        own = latency_of % n == latency
        edges = np.searchsorted(latency_of[own], np.arange(len(self) + 1) * n).astype(np.int32)
        keys = (self._codes[own] % sketch.WIDTH).astype(np.int32)
        return (
            pa.ListArray.from_arrays(edges, pa.array(keys)),
            pa.ListArray.from_arrays(edges, pa.array(self._counts[own])),
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
