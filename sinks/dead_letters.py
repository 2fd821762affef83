"""`chat.dead-letters`: what the sinks send there, and what ClickHouse has of it."""

import logging
from collections.abc import Sequence
from typing import Final

import polars as pl

from schemas.contract import schema
from schemas.raw import RawReader
from schemas.topics import DEAD_LETTERS, Topic
from schemas.unpacking import MOST_BYTES
from sinks.metrics import SinkMetrics
from sinks.records import as_arrow
from sinks.writer import Assignment, Fetch, Insert, Step

TABLE: Final = "dead_letters"
_LOG: Final = logging.getLogger(__name__)


class DeadLetterWriter:
    """Writes dead letters as rows. One that can't be read is counted, and stays in the topic; so does a batch
    of them, which may unpack to `most_bytes`."""

    table = TABLE
    stores_every_offset = True

    def __init__(
        self, metrics: SinkMetrics, topic: Topic = DEAD_LETTERS, *, most_bytes: int = MOST_BYTES
    ) -> None:
        self._topic = topic.name
        self._metrics = metrics
        self._reader = RawReader(schema(DEAD_LETTERS.record), limit=most_bytes)

    def take(
        self, fetches: Sequence[Fetch], held: frozenset[Assignment], now: float, *, last: bool = False
    ) -> Step:
        """See `sinks.writer.Writer`."""
        inserts = []
        rows = self._reader.read([fetch.source for fetch in fetches])
        for fetch, batch in zip(fetches, rows.apart(rows.batch), strict=True):
            for refusal in batch.refused:
                self._metrics.unreadable.labels(self._topic, refusal.reason.value).inc()
                _LOG.error("%s/%d@%d: %s", self._topic, fetch.partition, refusal.offset, refusal.detail)
            if batch.frame.height:
                frame = batch.frame.with_columns(pl.lit(fetch.partition, pl.Int32).alias("_partition"))
                token = f"{self._topic}/{fetch.partition}/{frame['_offset'][0]}-{frame['_offset'][-1]}"
                inserts.append(Insert(TABLE, as_arrow(frame), token, fetch.assignment))
        return Step((), inserts, {fetch.assignment: fetch.next_offset for fetch in fetches})
