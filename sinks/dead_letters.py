"""`chat.dead-letters`: what the sinks send there, and what ClickHouse has of it."""

import logging
from collections.abc import Sequence
from typing import Final

import polars as pl

from schemas.columnar import ColumnarReader
from schemas.contract import schema
from schemas.topics import DEAD_LETTERS, Topic
from sinks.metrics import SinkMetrics
from sinks.records import as_arrow, coordinates
from sinks.writer import Fetch, Insert, Step, Tenure

TABLE: Final = "dead_letters"
_LOG: Final = logging.getLogger(__name__)


class DeadLetterWriter:
    """Writes dead letters as rows. One that can't be read is counted, and stays in the topic."""

    table = TABLE
    stores_every_offset = True

    def __init__(self, metrics: SinkMetrics, topic: Topic = DEAD_LETTERS) -> None:
        self._topic = topic.name
        self._metrics = metrics
        self._reader = ColumnarReader(schema(DEAD_LETTERS.record))

    def take(
        self, fetches: Sequence[Fetch], held: frozenset[Tenure], now: float, *, last: bool = False
    ) -> Step:
        """See `sinks.writer.Writer`."""
        inserts = []
        for fetch in fetches:
            offsets, _ = coordinates(fetch)
            batch = self._reader.read([record.value for record in fetch.records], offsets)
            for refusal in batch.refused:
                self._metrics.unreadable.labels(self._topic, refusal.reason.value).inc()
                _LOG.error("%s/%d@%d: %s", self._topic, fetch.partition, refusal.offset, refusal.detail)
            if batch.frame.height:
                frame = batch.frame.with_columns(pl.lit(fetch.partition, pl.Int32).alias("_partition"))
                token = f"{self._topic}/{fetch.partition}/{frame['_offset'][0]}-{frame['_offset'][-1]}"
                inserts.append(Insert(TABLE, as_arrow(frame), token, fetch.tenure))
        return Step((), inserts, {fetch.tenure: fetch.next_offset for fetch in fetches})
