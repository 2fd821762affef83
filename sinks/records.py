"""The writer of a topic whose records are rows: decoded, given their coordinates, cut into inserts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from schemas.columnar import Batch, ColumnarReader, refuse_future
from schemas.contract import schema
from schemas.registry import SchemaRegistry
from schemas.topics import Topic
from schemas.validity import refuse_invalid
from sinks.poison import Halt, Limit, Tally
from sinks.writer import Fetch, Insert, Step, Tenure

REFUSED_BY: Final = "sink"
_FEW_VALUED: Final = frozenset(
    [
        "phase",
        "kind",
        "service",
        "instance",
        "provider",
        "model",
        "space_id",
        "workflow",
        "workflow_version",
        "error_type",
    ]
)
"""LowCardinality in ClickHouse, which takes a dictionary as it is, and plain texts a seventh slower."""
_DAY_US: Final = 86_400_000_000
_EVENT_TIME: Final = "occurred_at"
"""What a sender's clock says; records of Chatgauge's own have no such field."""

Clock = Callable[[], int]
"""Microseconds since 1970, UTC."""
Enrich = Callable[[pl.DataFrame], pl.DataFrame]


class RecordWriter:
    """Writes every record of a topic as one row, and every one it refuses as a dead letter.

    A row has the record's fields, `_partition`, `_offset` and `arrived_at`, and what `enrich` adds.
    A partition of which more is refused than `limit` allows is halted instead.
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
        limit: Limit | None = None,
    ) -> None:
        self.table = table
        self._topic = topic
        self._clock = clock
        self._enrich = enrich
        self._reader = ColumnarReader(schema(topic.record), registry=registry)
        self._limit = limit or Limit()
        self._tallies: dict[Tenure, Tally] = {}

    def take(
        self, fetches: Sequence[Fetch], held: frozenset[Tenure], now: float, *, last: bool = False
    ) -> Step:
        """See `sinks.writer.Writer`. Raises RegistryUnavailableError, having taken nothing."""
        self._tallies = {tenure: tally for tenure, tally in self._tallies.items() if tenure in held}
        read = [(fetch, *self._read(fetch)) for fetch in fetches]
        letters: list[Mapping[str, Any]] = []
        inserts: list[Insert] = []
        positions: dict[Tenure, int] = {}
        halts: dict[Tenure, Halt] = {}
        for fetch, batch, arrived in read:
            tally = self._tallies.setdefault(fetch.tenure, Tally(self._limit))
            halt = tally.judge(fetch.partition, len(fetch.records), batch.refused)
            if halt is not None:
                halts[fetch.tenure] = halt
                continue
            letters += self._letters(fetch, batch)
            inserts += self._inserts(fetch.tenure, batch.frame, arrived[batch.indices])
            positions[fetch.tenure] = fetch.next_offset
        return Step(letters, inserts, positions, halts)

    def _read(self, fetch: Fetch) -> tuple[Batch, npt.NDArray[np.int64]]:
        """What was read, and when Kafka took each record."""
        offsets, arrived = coordinates(fetch)
        batch = self._reader.read([record.value for record in fetch.records], offsets)
        if _EVENT_TIME in batch.frame.columns:
            batch = refuse_future(batch, arrived)
        return refuse_invalid(batch, self._topic.record), arrived

    def _letters(self, fetch: Fetch, batch: Batch) -> list[Mapping[str, Any]]:
        refused_at = self._clock()
        return [
            {
                "topic": self._topic.name,
                "partition": fetch.partition,
                "offset": refusal.offset,
                "arrived_at": fetch.records[refusal.index].timestamp * 1_000,
                "refused_at": refused_at,
                "refused_by": REFUSED_BY,
                "reason": refusal.reason.value,
                "detail": refusal.detail,
                "key": fetch.records[refusal.index].key,
                "value": fetch.records[refusal.index].value,
            }
            for refusal in batch.refused
        ]

    def _inserts(self, tenure: Tenure, frame: pl.DataFrame, arrived: npt.NDArray[np.int64]) -> list[Insert]:
        if frame.height == 0:
            return []
        frame = frame.with_columns(
            pl.Series("arrived_at", arrived).cast(pl.Datetime("us", "UTC")),
            pl.lit(tenure.partition, pl.Int32).alias("_partition"),
        )
        if self._enrich is not None:
            frame = self._enrich(frame)
        return [self._insert(tenure, frame[start:end]) for start, end in runs(arrived // _DAY_US)]

    def _insert(self, tenure: Tenure, frame: pl.DataFrame) -> Insert:
        first, last = frame["_offset"][0], frame["_offset"][-1]
        token = f"{self._topic.name}/{tenure.partition}/{first}-{last}"
        return Insert(self.table, as_arrow(frame), token, tenure)


def coordinates(fetch: Fetch) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The records' offsets, and when Kafka took them, in microseconds."""
    count = len(fetch.records)
    offsets = np.fromiter((record.offset for record in fetch.records), np.int64, count)
    arrived = np.fromiter((record.timestamp for record in fetch.records), np.int64, count)
    return offsets, arrived * 1_000


def runs(values: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Where equal neighbours begin and end. The raw tables' parts are cut by day of arrival, and an
    insert must not span two of them."""
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] - 1))
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(values)], strict=True))


def as_arrow(frame: pl.DataFrame) -> pa.Table:
    """The frame as ClickHouse takes it, in one record batch: texts of few values as a dictionary."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
    for at, name in enumerate(table.column_names):
        if name in _FEW_VALUED:
            table = table.set_column(at, name, table.column(name).cast(pa.string()).dictionary_encode())
    return table
