"""`chat.samples` into `samples`."""

from schemas.registry import SchemaRegistry
from schemas.topics import SAMPLES
from schemas.unpacking import MOST_BYTES
from sinks.dlq_limit import DlqLimit
from sinks.records import Clock, RecordWriter

TABLE = "samples"


def writer(
    clock: Clock,
    registry: SchemaRegistry | None = None,
    *,
    limit: DlqLimit | None = None,
    most_bytes: int = MOST_BYTES,
) -> RecordWriter:
    """The writer of the raw samples."""
    return RecordWriter(SAMPLES, TABLE, clock, registry=registry, limit=limit, most_bytes=most_bytes)
