"""Records, fetches and blocks to test the sinks with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from clients.kafka.fetched import Fetched
from schemas.batch_writer import batch_of
from schemas.codec import Codec
from schemas.contract import schema
from sinks.writer import Assignment, Fetch
from streams.catalogue.groupings import GROUPINGS
from streams.windows.block import Block, BlockKey, pack_rows, row_schema, write_block
from streams.windows.sketch import keys_of

NOON = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000
MINUTE = 60_000_000
HELD = Assignment(0, 1)

_CODECS = {
    name: Codec(schema(name))
    for name in (
        "RequestEvent",
        "SpanEvent",
        "Sample",
        "Alert",
        "Decision",
        "Notification",
        "DeliveryAttempt",
    )
}


@dataclass(frozen=True)
class Record:
    """A Kafka record, as far as writers look at it."""

    offset: int
    value: bytes | None
    key: bytes | None = None
    timestamp: int = NOON // 1_000


def request(number: int = 0, **fields: Any) -> dict[str, Any]:
    """A finished request that nothing is special about."""
    return {
        "event_id": f"event-{number}",
        "request_id": f"request-{number}",
        "phase": "finished",
        "occurred_at": NOON + number,
        "service": "chat",
        "provider": "openai",
        "model": "gpt-4o",
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "total_us": 1_000_000,
        **fields,
    }


def span(number: int = 0, **fields: Any) -> dict[str, Any]:
    """The end of a tool call."""
    return {
        "event_id": f"event-{number}",
        "trace_id": "trace",
        "span_id": f"span-{number}",
        "phase": "finished",
        "kind": "tool",
        "name": "search",
        "occurred_at": NOON + number,
        "service": "chat",
        **fields,
    }


def sample(number: int = 0, **fields: Any) -> dict[str, Any]:
    """A number of open WebSockets."""
    return {
        "event_id": f"event-{number}",
        "occurred_at": NOON + number,
        "service": "chat",
        "instance": "a",
        "name": "open_websockets",
        "value": float(number),
        **fields,
    }


def alert(number: int = 0, **fields: Any) -> dict[str, Any]:
    """An alert's first transition: an error rate that fired."""
    return {
        "alert_id": f"al_{number}",
        "transition": 1,
        "state": "firing",
        "rule_id": "error-rate",
        "rule_revision": 1,
        "rule_name": "Error rate",
        "kind": "threshold",
        "severity": "error",
        "labels": ["team=chat"],
        "grouping": "service",
        "group": ["service=chat"],
        "started_at": NOON + number,
        "changed_at": NOON + number,
        "judged_at": NOON + number + 10_000_000,
        "window_start": NOON + number - 300_000_000,
        "window_end": NOON + number,
        "metric": "errors",
        "aggregation": "ratio",
        "unit": "ratio",
        "value": 0.2,
        "threshold": 0.1,
        "requests": 100,
        "parts": 4,
        "parts_expected": 4,
        "summary": "The error rate of chat is 20 %.",
        "sources": ["chat.requests/0/1-100"],
        **fields,
    }


def decision(number: int = 0, **fields: Any) -> dict[str, Any]:
    """A decision about that alert: a silence held it back."""
    return {
        "decision_id": f"de_{number}",
        "decided_at": NOON + number,
        "what": "silenced",
        "reason": "The silence s-1 matches team=chat.",
        "rule_id": "error-rate",
        "rule_revision": 1,
        "alert_id": "al_0",
        "transition": 1,
        "silence_id": "s-1",
        **fields,
    }


def notification(number: int = 0, **fields: Any) -> dict[str, Any]:
    """A notification of that alert."""
    return {
        "notification_id": f"msg_{number}",
        "endpoint_id": "pager",
        "type": "alert.firing",
        "created_at": NOON + number,
        "body": '{"type": "alert.firing"}',
        "alerts": ["al_0/1"],
        **fields,
    }


def attempt(number: int = 0, **fields: Any) -> dict[str, Any]:
    """The first attempt to deliver that notification, which succeeded."""
    return {
        "attempt_id": f"at_{number}",
        "notification_id": f"msg_{number}",
        "endpoint_id": "pager",
        "channel": "webhook",
        "type": "alert.firing",
        "attempt": 1,
        "outcome": "delivered",
        "status": 200,
        "started_at": NOON + number,
        "took_us": 30_000,
        **fields,
    }


def encoded(record: Mapping[str, Any], name: str = "RequestEvent") -> bytes:
    """The record as a Kafka value."""
    return _CODECS[name].encode(record)


def fetch(values: Sequence[bytes | None], *, first: int = 0, assignment: Assignment = HELD) -> Fetch:
    """Values as a fetch of one partition."""
    return fetch_of([Record(first + at, value) for at, value in enumerate(values)], assignment=assignment)


def fetch_of(records: Sequence[Record], *, assignment: Assignment = HELD) -> Fetch:
    """Records as a fetch of one partition, a batch each."""
    batches = [
        batch_of([record.value], offset=record.offset, timestamp=record.timestamp, key=record.key)
        for record in records
    ]
    return Fetch(assignment, Fetched(batches[0].base_offset, batches[-1].next_offset, batches))


def rows_of(grouping: str, groups: Mapping[tuple[str, ...], Mapping[str, Any]]) -> pa.Table:
    """Rows of a block: per group its sums, and each latency as the list of its values in microseconds."""
    kind = GROUPINGS[grouping]
    rows = []
    for keys, figures in groups.items():
        row: dict[str, Any] = dict(zip(kind.keys, keys, strict=True))
        row |= {name: figures.get(name, 0) for name in kind.sums}
        for name in kind.latencies:
            values = np.asarray(figures.get(name, []), np.int64)
            buckets, counts = np.unique(keys_of(values), return_counts=True)
            row |= {
                f"{name}_count": len(values),
                f"{name}_sum": int(values.sum()),
                f"{name}_min": int(values.min()) if len(values) else None,
                f"{name}_max": int(values.max()) if len(values) else None,
                f"{name}_keys": buckets.tolist(),
                f"{name}_counts": counts.tolist(),
            }
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=row_schema(GROUPINGS[grouping]))


def block(
    rows: pa.Table | None = None,
    *,
    partition: int = 0,
    imported: bool = False,
    pane: str = "1m",
    start: int = NOON,
    grouping: str = "service",
    bucket: int = 0,
    since: int = 0,
    offset: int = 10,
    revision: int = 0,
    closed: bool = False,
) -> Block:
    """A block of one minute with one service, where nothing else is said."""
    if rows is None:
        rows = rows_of(grouping, {("chat",) * len(GROUPINGS[grouping].keys): {"requests": offset}})
    key = BlockKey(partition, imported, pane, start, grouping, bucket)
    return Block(key, start + MINUTE, since, offset, start, revision, closed, pack_rows(rows))


def block_record(kafka_offset: int, what: Block) -> Record:
    """The block as a record of chat.windows."""
    return Record(kafka_offset, write_block(what), what.key.encode())


def tombstone(kafka_offset: int, what: Block) -> Record:
    """The block's expiry."""
    return Record(kafka_offset, None, what.key.encode())
