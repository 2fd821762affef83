"""What became of alerts, into `alerts`, `decisions`, `notifications` and `deliveries`.

The agents tell at least once: a record told again lies at another offset, and is the same row in the end,
because the tables know a row by the ids that the records carry.
"""

from typing import Final

from schemas.registry import SchemaRegistry
from schemas.topics import ALERTS, DECISIONS, DELIVERIES, NOTIFICATIONS, Topic
from schemas.unpacking import MOST_BYTES
from sinks.dlq_limit import DlqLimit
from sinks.records import Clock, RecordWriter

TABLES: Final = (
    (ALERTS, "alerts"),
    (DECISIONS, "decisions"),
    (NOTIFICATIONS, "notifications"),
    (DELIVERIES, "deliveries"),
)
"""Each topic, and its table."""


def writers(
    clock: Clock,
    registry: SchemaRegistry | None = None,
    *,
    limit: DlqLimit | None = None,
    most_bytes: int = MOST_BYTES,
) -> list[tuple[Topic, RecordWriter]]:
    """The writer of each topic."""
    return [
        (topic, RecordWriter(topic, table, clock, registry=registry, limit=limit, most_bytes=most_bytes))
        for topic, table in TABLES
    ]
