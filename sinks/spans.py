"""`chat.spans` into `spans`."""

from schemas.registry import SchemaRegistry
from schemas.topics import SPANS
from sinks.poison import Limit
from sinks.records import Clock, RecordWriter

TABLE = "spans"


def writer(
    clock: Clock, registry: SchemaRegistry | None = None, *, limit: Limit | None = None
) -> RecordWriter:
    """The writer of the raw spans."""
    return RecordWriter(SPANS, TABLE, clock, registry=registry, limit=limit)
