"""The writer of a topic whose records are rows: decoded, given their coordinates, cut into inserts."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from schemas.batch import Batch, refuse_future
from schemas.contract import schema
from schemas.errors import Reason
from schemas.raw import RawReader, Rows
from schemas.registry import SchemaRegistry
from schemas.topics import Topic
from schemas.unpacking import MOST_BYTES
from schemas.validity import refuse_invalid
from sinks.dlq_limit import DlqLimit, Halt, Tally
from sinks.refused import Letters, Refused
from sinks.writer import Assignment, Fetch, Insert, Step

FEW_VALUED: Final = frozenset(
    [
        "phase",
        "kind",
        "service",
        "instance",
        "region",
        "provider",
        "model",
        "operation",
        "space_id",
        "workflow",
        "workflow_version",
        "experiment",
        "variant",
        "error_type",
        "finish_reason",
    ]
)
"""LowCardinality in ClickHouse, which takes a dictionary as it is, and plain texts a seventh slower."""
_DAY_US: Final = 86_400_000_000
_EVENT_TIME: Final = "occurred_at"
"""What a sender's clock says; records of Chatgauge's own have no such field."""
_THREADS: Final = 2
"""That read a large fetch."""

Clock = Callable[[], int]
"""Microseconds since 1970, UTC."""
Enrich = Callable[[pl.DataFrame], pl.DataFrame]


class RecordWriter:
    """Writes every record of a topic as one row, and every one it refuses as a dead letter.

    A row has the record's fields, `_partition`, `_offset` and `arrived_at`, and what `enrich` adds.
    A partition of which more is refused than `limit` allows is halted instead. A batch may unpack to
    `most_bytes`.
    """

    stores_every_offset = True

    def __init__(
        self,
        topic: Topic,
        table: str,
        clock: Clock,
        *,
        enrich: Enrich | None = None,
        registry: SchemaRegistry | None = None,
        limit: DlqLimit | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.table = table
        self._topic = topic
        self._clock = clock
        self._enrich = enrich
        self._reader = RawReader(schema(topic.record), registry=registry, limit=most_bytes)
        self._threads = ThreadPoolExecutor(_THREADS, f"reading {topic.name}")
        self._limit = limit or DlqLimit()
        self._tallies: dict[Assignment, Tally] = {}

    def take(
        self, fetches: Sequence[Fetch], held: frozenset[Assignment], now: float, *, last: bool = False
    ) -> Step:
        """See `sinks.writer.Writer`. Raises RegistryUnavailableError, having taken nothing."""
        self._tallies = {
            assignment: tally for assignment, tally in self._tallies.items() if assignment in held
        }
        rows = self._reader.read([fetch.source for fetch in fetches], self._threads)
        refused: list[Refused] = []
        inserts: list[Insert] = []
        positions: dict[Assignment, int] = {}
        halts: dict[Assignment, Halt] = {}
        begins = [0, *rows.ends]
        for source, (fetch, batch) in enumerate(zip(fetches, rows.apart(self._checked(rows)), strict=True)):
            begin, end = begins[source : source + 2]
            tally = self._tallies.setdefault(fetch.assignment, Tally(self._limit))
            halt = tally.judge(fetch.partition, end - begin, batch.refused, _lost(rows, source, batch))
            if halt is not None:
                halts[fetch.assignment] = halt
                continue
            arrived = rows.arrived_us[begin:end]
            refused += [
                Refused(source, fetch.partition, int(arrived[refusal.index]), refusal)
                for refusal in batch.refused
            ]
            inserts += self._inserts(fetch.assignment, batch.frame, arrived[batch.indices])
            positions[fetch.assignment] = fetch.next_offset
        letters = Letters(self._topic.name, rows, refused, self._clock()) if refused else ()
        return Step(letters, inserts, positions, halts)

    def _checked(self, rows: Rows) -> Batch:
        """The rows that may be stored, of all partitions."""
        batch = rows.batch
        if _EVENT_TIME in batch.frame.columns:
            batch = refuse_future(batch, rows.arrived_us)
        batch = refuse_invalid(batch, self._topic.record)
        if self._enrich is not None:
            batch = replace(batch, frame=self._enrich(batch.frame))
        return batch

    def _inserts(
        self, assignment: Assignment, frame: pl.DataFrame, arrived: npt.NDArray[np.int64]
    ) -> list[Insert]:
        if frame.height == 0:
            return []
        frame = frame.with_columns(
            pl.Series("arrived_at", arrived).cast(pl.Datetime("us", "UTC")),
            pl.lit(assignment.partition, pl.Int32).alias("_partition"),
        )
        return [self._insert(assignment, frame[start:end]) for start, end in runs(arrived // _DAY_US)]

    def _insert(self, assignment: Assignment, frame: pl.DataFrame) -> Insert:
        first, last = frame["_offset"][0], frame["_offset"][-1]
        token = f"{self._topic.name}/{assignment.partition}/{first}-{last}"
        return Insert(self.table, as_arrow(frame), token, assignment)


def _lost(rows: Rows, source: int, batch: Batch) -> dict[int, int]:
    """For how many records the refusals of batches stand, by their index."""
    return {
        refusal.index: rows.lost(source, refusal.offset)
        for refusal in batch.refused
        if refusal.reason is Reason.UNREADABLE_BATCH
    }


def runs(values: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Where equal neighbours begin and end. The raw tables' parts are cut by day of arrival, and an
    insert must not span two of them."""
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] - 1))
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(values)], strict=True))


def as_arrow(frame: pl.DataFrame) -> pa.Table:
    """The frame as ClickHouse takes it, in one record batch: texts of few values as a dictionary."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
    for at, name in enumerate(table.column_names):
        if name in FEW_VALUED:
            table = table.set_column(at, name, table.column(name).cast(pa.string()).dictionary_encode())
    return table
