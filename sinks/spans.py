"""`chat.spans` into `spans`."""

from schemas.registry import SchemaRegistry
from schemas.topics import SPANS
from schemas.unpacking import MOST_BYTES
from sinks.dlq_limit import DlqLimit
from sinks.records import Clock, RecordWriter

TABLE = "spans"


def writer(
    clock: Clock,
    registry: SchemaRegistry | None = None,
    *,
    limit: DlqLimit | None = None,
    most_bytes: int = MOST_BYTES,
) -> RecordWriter:
    """The writer of the raw spans."""
    return RecordWriter(SPANS, TABLE, clock, registry=registry, limit=limit, most_bytes=most_bytes)
