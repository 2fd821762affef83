"""`chat.windows` and `chat.usage` into `windows`: one row per row of a block, sketches as states."""

import logging
import uuid
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

from schemas.errors import Reason, RefusedError
from schemas.record_batch import RecordBatch
from schemas.records import KafkaRecord
from schemas.topics import Topic
from schemas.unpacking import MOST_BYTES
from sinks.coalescing import Arrival, Coalescing, version
from sinks.metrics import SinkMetrics
from sinks.records import Clock
from sinks.window_rows import TABLE, WindowRows, tables
from sinks.writer import Assignment, Fetch, Insert, Step
from streams.catalogue.panes import PANES
from streams.windows.block import Block, read_block

_PANES: Final = frozenset(pane.name for pane in PANES.values() if pane.in_history)
"""What is longer is added up from minutes, in history: minutes can be rebuilt."""
_LOG: Final = logging.getLogger(__name__)


class WindowWriter:
    """Writes the newest state of each block. A restart reads again from the first one held back.

    That is harmless: in ClickHouse the newest version of a row replaces the others. A batch may unpack to
    `most_bytes`; what can't be read is counted, and stays in the topic.
    """

    table = TABLE
    stores_every_offset = False

    def __init__(
        self,
        topic: Topic,
        clock: Clock,
        metrics: SinkMetrics,
        *,
        open_pane_interval: timedelta,
        timezone: ZoneInfo,
        max_rows: int,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._topic = topic
        self._clock = clock
        self._metrics = metrics
        self._timezone = timezone
        self._max_rows = max_rows
        self._most_bytes = most_bytes
        self._coalescing = Coalescing(open_pane_interval.total_seconds())
        self._next: dict[Assignment, int] = {}

    def take(
        self, fetches: Sequence[Fetch], held: frozenset[Assignment], now: float, *, last: bool = False
    ) -> Step:
        """See `sinks.writer.Writer`."""
        self._coalescing.forget_all_but(held)
        self._next = {assignment: offset for assignment, offset in self._next.items() if assignment in held}
        folded = self._coalescing.folded
        for fetch in fetches:
            for record in fetch.records(partial(self._refuse_batch, fetch.partition), self._most_bytes):
                block = self._read(fetch.partition, record)
                if block is not None and block.key.pane in _PANES:
                    self._coalescing.add(Arrival(fetch.assignment, record.offset, block))
            self._next[fetch.assignment] = fetch.next_offset
        self._metrics.blocks_folded.labels(self._topic.name).inc(self._coalescing.folded - folded)
        arrivals = self._coalescing.due(now, everything=last)
        positions = {**self._next, **self._coalescing.first_held(self._next)}
        return Step((), self._inserts(arrivals), positions)

    def _read(self, partition: int, record: KafkaRecord) -> Block | None:
        if record.value is None:
            self._metrics.tombstones.labels(self._topic.name).inc()
            return None
        try:
            return read_block(record.value)
        except RefusedError as error:
            self._refuse(partition, record.offset, error)
            return None

    def _rows(self, arrival: Arrival) -> WindowRows | None:
        """The rows of a block. Only what is written is unpacked: most blocks are replaced before."""
        block = arrival.block
        try:
            rows = block.rows
        except RefusedError as error:
            self._refuse(arrival.assignment.partition, arrival.offset, error)
            return None
        return WindowRows(
            block.key,
            block.since,
            block.offset,
            block.revision,
            version(block),
            block.closed,
            block.watermark,
            rows,
        )

    def _refuse(self, partition: int, offset: int, error: RefusedError) -> None:
        self._metrics.unreadable.labels(self._topic.name, error.reason.value).inc()
        _LOG.error("%s/%d@%d: %s", self._topic.name, partition, offset, error)

    def _refuse_batch(self, partition: int, batch: RecordBatch, why: str) -> None:
        self._metrics.unreadable.labels(self._topic.name, Reason.UNREADABLE_BATCH.value).inc()
        where = (self._topic.name, partition, batch.base_offset, batch.last_offset)
        _LOG.error("%s/%d: the batch of offsets %d to %d %s", *where, why)

    def _inserts(self, arrivals: Sequence[Arrival]) -> list[Insert]:
        written = [rows for arrival in arrivals if (rows := self._rows(arrival)) is not None]
        return [
            # A token of its own: the same blocks are never gathered in the same way again.
            Insert(TABLE, rows.slice(start, self._max_rows), f"{self._topic.name}/{uuid.uuid4()}")
            for rows in tables(written, self._timezone, self._clock())
            for start in range(0, rows.num_rows, self._max_rows)
        ]
