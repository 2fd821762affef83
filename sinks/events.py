"""`chat.requests` into `events`, each request with its cost."""

import polars as pl

from schemas.registry import SchemaRegistry
from schemas.topics import REQUESTS, Topic
from schemas.unpacking import MOST_BYTES
from sinks.dlq_limit import DlqLimit
from sinks.records import Clock, RecordWriter
from streams.counting.pricing import PriceList

TABLE = "events"


def writer(
    clock: Clock,
    prices: PriceList,
    registry: SchemaRegistry | None = None,
    topic: Topic = REQUESTS,
    *,
    limit: DlqLimit | None = None,
    most_bytes: int = MOST_BYTES,
) -> RecordWriter:
    """The writer of the raw requests."""

    def priced(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(prices.cost(frame).alias("priced_nano_usd"))

    return RecordWriter(
        topic, TABLE, clock, enrich=priced, registry=registry, limit=limit, most_bytes=most_bytes
    )
