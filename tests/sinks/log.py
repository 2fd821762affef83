"""Requests on their way into history: sent, streamed into windows, stored."""

import random
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from clickhouse_connect.driver.client import Client

from clients.kafka.fetched import Fetched
from schemas.batch_writer import batch_of
from sinks import events
from sinks.writer import Assignment
from streams.catalogue.groupings import GROUPINGS
from streams.counting.pricing import PriceList
from streams.counting.requests import RequestReader
from streams.runtime.fetch import Fetch as Batches
from streams.windows.panes import Pane
from streams.windows.partition import PartitionWindows
from streams.windows.plan import Plan
from tests.sinks.making import MINUTE, NOON, Record, block_record, encoded, fetch_of, request
from tests.sinks.storing import store, window_writer

HOUR = 60 * MINUTE
SECOND = MINUTE // 60


def made(chance: random.Random, number: int, minute: int, **fields: Any) -> dict[str, Any]:
    """A finished request of the minute, any of its fields known or not."""
    failed = chance.random() < 0.1
    total = int(chance.lognormvariate(14, 1))
    return request(
        number,
        event_id=str(uuid.UUID(int=chance.getrandbits(128))),
        occurred_at=minute + chance.randrange(MINUTE),
        imported=chance.random() < 0.2,
        service=chance.choice(["chat", "search"]),
        provider=chance.choice(["openai", "house"]),
        model=chance.choice(["gpt-4o", "gpt-4o-mini", "unknown"]),
        space_id=chance.choice(["red", "green", None]),
        user_id=chance.choice([None, *(f"user-{n}" for n in range(9))]),
        workflow=(workflow := chance.choice(["answer", None])),
        workflow_version=chance.choice(["1", "2"]) if workflow else None,
        region=chance.choice(["eu-central-1", "us-east-1", None]),
        error_type=chance.choice(["timeout", "rate_limited"]) if failed else None,
        cache_hit=chance.random() < 0.3,
        prompt_tokens=None if failed else chance.randrange(5_000),
        completion_tokens=chance.randrange(2_000),
        cost_nano_usd=chance.choice([None, None, 12_345]),
        total_us=total,
        context_us=chance.choice([None, total // 10]),
        model_us=None if failed else total // 2,
        first_token_us=None if failed else total // 5,
        **fields,
    )


@dataclass
class Log:
    """A topic of some partitions, what the stream makes of it, and what the sink stores."""

    client: Client
    writer: Any = field(default_factory=lambda: events.writer(lambda: NOON, PriceList()))
    reader: RequestReader = field(default_factory=RequestReader)
    next_offset: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    windows: dict[int, PartitionWindows] = field(default_factory=dict)
    block_offsets: Iterator[int] = field(default_factory=count)

    def send(
        self,
        requests: Iterable[dict[str, Any]],
        partition: int = 0,
        *,
        arrived: int | None = None,
        streamed: bool = True,
        stored: bool = True,
    ) -> list[Record]:
        """The requests onto one partition, in time unless `arrived` says when; then counted and stored."""
        records = []
        for one in requests:
            at = one["occurred_at"] + SECOND if arrived is None else arrived
            records.append(Record(self.next_offset[partition], encoded(one), timestamp=at // 1_000))
            self.next_offset[partition] += 1
        if streamed:
            self.stream(records, partition)
        if stored:
            self.store(records, partition)
        return records

    def stream(self, records: Sequence[Record], partition: int) -> None:
        plan = Plan(
            tuple(
                (grouping, Pane("1m", 26 * HOUR, MINUTE, corrected_for=100 * MINUTE))
                for grouping in GROUPINGS.values()
            ),
            10 * SECOND,
        )
        if partition not in self.windows:
            self.windows[partition] = PartitionWindows(partition, plan, lambda key: None)
        values = [record.value for record in records]
        batch = batch_of(values, offset=records[0].offset, timestamp=records[0].timestamp)
        fetched = Fetched(batch.base_offset, batch.next_offset, [batch])
        finished = self.reader.read(Batches("", partition, fetched, [fetched])).finished
        step = self.windows[partition].count(finished, records[-1].offset, NOON)
        writer = window_writer(lambda: NOON)
        assignment = Assignment(partition, 1)
        blocks = [block_record(next(self.block_offsets), block) for block in step.blocks]
        if blocks:
            store(
                self.client,
                writer.take(
                    [fetch_of(blocks, assignment=assignment)], frozenset([assignment]), 0.0, last=True
                ),
            )

    def store(self, records: Sequence[Record], partition: int) -> None:
        assignment = Assignment(partition, 1)
        step = self.writer.take([fetch_of(records, assignment=assignment)], frozenset([assignment]), 0.0)
        assert not step.letters
        store(self.client, step)
