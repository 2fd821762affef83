"""The product's events sink: `chat.requests` into the `events` table of an embedded ClickHouse.

Its consumer, reader, pricing, inserts and commits as they run in production, against a server process of
its own with an empty table. The clock runs from the moment that the sink knows where to read on to the
end of the last insert; then the table is counted.
"""

import asyncio
from collections.abc import Callable
from time import time_ns

from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client import CollectorRegistry

from bench import load
from bench.contenders.race import Clock, Course, Result, course, report
from clients.clickhouse.connection import connect
from infra.clickhouse.server import LocalClickHouse
from infra.liveness import Unit
from infra.ports import free_port
from infra.settings import ClickHouseSettings, RetentionSettings, SinkSettings
from schemas.topics import REQUESTS
from sinks import events
from sinks.consumer import group_of
from sinks.dead_letter_producer import DeadLetterProducer
from sinks.insert import Claim, Store
from sinks.metrics import SinkMetrics
from sinks.sink import Sink
from sinks.tables import prepare
from sinks.writer import Insert
from streams.counting.pricing import PriceList


class TimedStore(Store):
    """Starts the clock when the sink has asked where to go on, and stops it with the last row."""

    def __init__(self, clickhouse: ClickHouseSettings, metrics: SinkMetrics, clock: Clock, rows: int) -> None:
        super().__init__(lambda: connect(clickhouse), metrics)
        self._clock = clock
        self._left = rows
        self.finished = asyncio.Event()

    async def highest_offset(
        self, table: str, partition: int, wanted: Callable[[], bool], unit: Unit | None = None
    ) -> int | None:
        highest = await super().highest_offset(table, partition, wanted, unit)
        self._clock.start()
        return highest

    async def insert(self, insert: Insert, claim: Claim, unit: Unit | None = None) -> None:
        await super().insert(insert, claim, unit)
        self._left -= insert.rows.num_rows
        if self._left <= 0:
            self._clock.stop()
            self.finished.set()


async def write(course: Course, clickhouse: ClickHouseSettings, clock: Clock) -> int:
    """Run the sink over the whole topic; returns the number of rows that it had to write."""
    await forget_offsets(course)
    rows = await load.length(course.bootstrap, REQUESTS.name, course.partitions)
    metrics = SinkMetrics(CollectorRegistry())
    store = TimedStore(clickhouse, metrics, clock, rows)
    box = DeadLetterProducer(course.bootstrap, metrics)
    sink = Sink(
        REQUESTS,
        events.writer(lambda: time_ns() // 1000, PriceList()),
        bootstrap=course.bootstrap,
        store=store,
        box=box,
        metrics=metrics,
        settings=SinkSettings(),
    )
    try:
        await sink.run(store.finished)
    finally:
        await box.stop()
        await store.close()
    return rows


async def forget_offsets(course: Course) -> None:
    """The consumer group is fixed by the product; an earlier run must not have read for this one."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=course.bootstrap, group_id=group_of(REQUESTS), enable_auto_commit=False
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(REQUESTS.name, number) for number in range(course.partitions)]
        consumer.assign(partitions)
        await consumer.commit(dict.fromkeys(partitions, 0))
    finally:
        await consumer.stop()


def main() -> None:
    clock = Clock()
    told = course()
    with LocalClickHouse(told.scratch / "clickhouse", port=free_port()) as server:
        prepare(server.settings, RetentionSettings())
        rows = asyncio.run(write(told, server.settings, clock))
        with connect(server.settings) as client:
            found = client.query("SELECT count(), uniqExact(_partition, _offset) FROM events").result_rows[0]
    if tuple(found) != (rows, rows):
        raise SystemExit(
            f"{rows} rows were to be written; {found[0]} were found, {found[1]} of them different"
        )
    report(told, Result(rows, clock.seconds, clock.cpu_seconds, clock.startup_seconds, clock.peak_rss_mb))


if __name__ == "__main__":
    main()
