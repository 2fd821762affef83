"""Reads the record batches of a fetch into columns, without an object for each record.

Those of several partitions are read together, since reading costs by the call. What can't be read is
refused by its coordinates, and nothing else is lost with it.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import attrgetter

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.batch import Batch
from schemas.columnar import ColumnarReader
from schemas.contract import Schema
from schemas.errors import UnpackError
from schemas.placing import Places, place
from schemas.portion import AT_ONCE, FEW, Fetched, Portion, read_portion, unpacked
from schemas.record_batch import RecordBatch
from schemas.records import Record
from schemas.registry import SchemaRegistry
from schemas.unpacking import MOST_BYTES, unpack
from schemas.values import Positions

_RATIO = 4
"""By which compressed records are taken to grow, for as long as nobody knows."""


@dataclass(frozen=True)
class Source:
    """What was fetched of a partition: its batches in order (`record_batch.committed`), of which the
    records from `position` on are wanted."""

    batches: Sequence[RecordBatch]
    position: int


@dataclass(frozen=True)
class Rows:
    """What the sources hold. Records are counted through all of them, in order; what is lost of a batch
    counts as one record, at the first offset that is lost."""

    batch: Batch
    """`indices` and refusals say which record; `frame` has `_offset`."""
    offsets: Positions
    """Of each record."""
    arrived_us: Positions
    """Of each record: microseconds since 1970."""
    ends: Sequence[int]
    """Of each source: where its records end."""
    sources: Sequence[Source]
    limit: int
    _looked_up: dict[tuple[int, int], Places | None] = field(default_factory=dict, repr=False)

    def apart(self, batch: Batch) -> Iterator[Batch]:
        """`batch`, or what further refusals have left of it, as one for each source, counted from 0."""
        begin = row = 0
        for end in self.ends:
            until = int(np.searchsorted(batch.indices, end))
            refused = [
                replace(refusal, index=refusal.index - begin)
                for refusal in batch.refused
                if begin <= refusal.index < end
            ]
            yield Batch(batch.frame.slice(row, until - row), batch.indices[row:until] - begin, refused)
            begin, row = end, until

    def record(self, source: int, offset: int) -> Record:
        """A record of a source, for its dead letter. Of what is lost, key and value are None.

        Unpacks its batch again, and keeps the last one: ask in order, from one thread. Raises KeyError
        when no record with that offset was read.
        """
        begin, _ = self._bounds(source)
        index = begin + self._before(source, offset)
        if index == self.ends[source] or self.offsets[index] != offset:
            raise KeyError(offset)
        batches = self.sources[source].batches
        number = self._batch_at(source, offset)
        if (source, number) not in self._looked_up:
            self._looked_up.clear()
            self._looked_up[source, number] = self._places(batches[number])
        places = self._looked_up[source, number]
        at = -1 if places is None else places.at(offset)
        if places is None or at < 0:
            return Record(offset, int(self.arrived_us[index]) // 1_000, None, None)
        return places.record(at)

    def lost(self, source: int, offset: int) -> int:
        """How many records an `unreadable_batch` at this offset of a source stands for, at least one: as the
        batch counts, and no more than it has offsets left."""
        batch = self.sources[source].batches[self._batch_at(source, offset)]
        read = self._before(source, offset) - self._before(source, batch.base_offset)
        return max(1, min(batch.count - read, batch.next_offset - offset))

    def _bounds(self, source: int) -> tuple[int, int]:
        return self.ends[source - 1] if source else 0, self.ends[source]

    def _before(self, source: int, offset: int) -> int:
        """How many records of a source were read that are before the offset."""
        begin, end = self._bounds(source)
        return int(np.searchsorted(self.offsets[begin:end], offset))

    def _batch_at(self, source: int, offset: int) -> int:
        return bisect_right(self.sources[source].batches, offset, key=attrgetter("base_offset")) - 1

    def _places(self, batch: RecordBatch) -> Places | None:
        if batch.damage is not None:
            return None
        try:
            return place([batch], [unpack(batch, self.limit)])[0]
        except UnpackError:
            return None


class RawReader:
    """Reads record batches into columns of `schema`, as `ColumnarReader` reads values.

    `limit` is how many bytes a batch may unpack to. Up to `few` records are read one by one, and about
    `at_once` bytes of unpacked ones are held at a time, beside a batch. Threads may share a reader.
    """

    def __init__(
        self,
        schema: Schema,
        columns: Sequence[str] | None = None,
        registry: SchemaRegistry | None = None,
        limit: int = MOST_BYTES,
        *,
        few: int = FEW,
        at_once: int = AT_ONCE,
    ) -> None:
        self._few = few
        self._at_once = at_once
        self._reader = ColumnarReader(schema, columns, registry)
        self._limit = limit
        self.frame_schema: pl.Schema = self._reader.frame_schema
        """See `ColumnarReader.frame_schema`."""

    def read(self, sources: Sequence[Source], executor: Executor | None = None) -> Rows:
        """The rows of all the batches; if they are many, they are unpacked and read on `executor`, which
        must not be the one that this is called on.

        What can't be read is refused, not raised: a value as `ColumnarReader` refuses it, and a batch, or
        what is left of one, as `unreadable_batch`. Raises RegistryUnavailableError when a writer's schema
        can't be had now: read the same again later.
        """
        tasks = _tasks(sources, self._at_once)
        on = map if executor is None or len(tasks) < 2 else executor.map
        portions = list(chain.from_iterable(on(self._read, tasks)))
        of = _joined([portion.sources for portion in portions])
        return Rows(
            self._together(portions),
            _joined([portion.offsets for portion in portions]),
            _joined([portion.arrived_us for portion in portions]),
            np.searchsorted(of, np.arange(len(sources)), "right").tolist(),
            sources,
            self._limit,
        )

    def _read(self, task: Sequence[Fetched]) -> list[Portion]:
        lots = unpacked(task, self._limit, self._at_once)
        return [read_portion(self._reader, lot, self._few) for lot in lots]

    def _together(self, portions: Sequence[Portion]) -> Batch:
        if len(portions) == 1:
            return portions[0].batch
        begins = np.cumsum([0, *(len(portion.offsets) for portion in portions)]).tolist()
        counted = list(zip(begins, (portion.batch for portion in portions), strict=False))
        return Batch(
            pl.concat([self.frame_schema.to_frame(), *(batch.frame for _, batch in counted)]),
            _joined([batch.indices + begin for begin, batch in counted]),
            [
                replace(refusal, index=refusal.index + begin)
                for begin, batch in counted
                for refusal in batch.refused
            ],
        )


def _tasks(sources: Sequence[Source], at_once: int) -> list[list[Fetched]]:
    """The batches in order, cut where it is worth another thread."""
    tasks: list[list[Fetched]] = [[]]
    size = 0
    for number, source in enumerate(sources):
        for batch in source.batches:
            if batch.last_offset < source.position:
                continue
            if size >= at_once:
                tasks.append([])
                size = 0
            tasks[-1].append(Fetched(number, batch, source.position))
            size += len(batch.wire) * (_RATIO if batch.codec else 1)
    return tasks


def _joined(arrays: Sequence[npt.NDArray[np.int64]]) -> Positions:
    return arrays[0] if len(arrays) == 1 else np.concatenate([np.empty(0, np.int64), *arrays])
