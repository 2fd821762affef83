"""The windows computed once more from the topic, in plain Python, with nothing of any contender's code.

Neither the product's decoder nor its arithmetic is used: fastavro with the schema as it stands in the
.avsc, integers, and dictionaries.
"""

import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from fastavro import parse_schema, schemaless_reader

from bench import work

SPACE = "space_id"
USER = "user_id"
"""By user, neither latencies nor sketches are kept."""

GAMMA = (1 + 0.01) / (1 - 0.01)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Tally:
    """One space, or one user, in one minute."""

    requests: int = 0
    errors: int = 0
    total_us: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    sketch: Counter[int] = field(default_factory=Counter)

    def take(self, event: dict[str, Any], latencies: bool) -> None:
        self.requests += 1
        self.errors += event["error_type"] is not None
        self.prompt_tokens += event["prompt_tokens"] or 0
        self.completion_tokens += event["completion_tokens"] or 0
        if latencies and (latency := event["total_us"]) is not None:
            self.total_us += latency
            self.sketch[math.floor(math.log(max(latency, 1)) / math.log(GAMMA))] += 1


Tallies = defaultdict[tuple[str, int], Tally]


def tally(values: list[bytes], into: dict[str, Tallies]) -> None:
    """Count single-object encoded RequestEvents into their windows, by each of the fields wanted."""
    for value in values:
        event: Any = schemaless_reader(io.BytesIO(value[10:]), _SCHEMA)
        if event["phase"] != "finished":
            continue
        minute = (event["occurred_at"] - EPOCH) // timedelta(minutes=1)
        for field_name, tallies in into.items():
            if (key := event[field_name]) is not None:
                tallies[key, minute * 60_000_000].take(event, field_name != USER)


_SCHEMA = parse_schema(json.loads(work.SCHEMA_FILE.read_text()))


async def recompute(
    bootstrap: str, topic: str, partitions: int, by: Sequence[str] = (SPACE,)
) -> dict[str, work.Windows]:
    """The windows of all that the topic holds, by each of the fields asked for."""
    found: dict[str, Tallies] = {name: defaultdict(Tally) for name in by}
    parts = [TopicPartition(topic, i) for i in range(partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    await consumer.start()
    try:
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        begins = await consumer.beginning_offsets(parts)
        left = sum(ends.values()) - sum(begins.values())
        while left > 0:
            fetched = await consumer.getmany(timeout_ms=1000, max_records=20_000)
            for records in fetched.values():
                tally([record.value for record in records], found)
                left -= len(records)
    finally:
        await consumer.stop()
    return {name: _windows(tallies) for name, tallies in found.items()}


def _windows(tallies: Tallies) -> work.Windows:
    return {
        key: [t.requests, t.errors, t.total_us, t.prompt_tokens, t.completion_tokens, dict(t.sketch)]
        for key, t in tallies.items()
    }
