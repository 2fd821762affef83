"""Sinks at work on a real Kafka and ClickHouse's engine, with topics and tables of the test's own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from clickhouse_connect.driver.client import Client
from prometheus_client import CollectorRegistry

from clients.clickhouse.connection import connect
from infra.liveness import Part
from infra.settings import ClickHouseSettings, SinkSettings
from schemas.topics import Topic
from sinks import events
from sinks.consumer import group_of
from sinks.dead_letter_producer import DeadLetterProducer
from sinks.dead_letters import DeadLetterWriter
from sinks.insert import Store
from sinks.metrics import SinkMetrics
from sinks.sink import Sink
from sinks.windows import WindowWriter
from sinks.writer import Writer
from streams.counting.pricing import PriceList
from tests.sinks.making import NOON

PARTITIONS = 2
LINGER = timedelta(milliseconds=100)
IN_TIME_S = 30.0


@dataclass(frozen=True)
class Place:
    """Topics of this test's own, and a database with tables."""

    bootstrap: str
    clickhouse: ClickHouseSettings
    client: Client
    requests: Topic
    windows: Topic
    letters: Topic

    async def send(self, topic: Topic, values: Sequence[bytes | None], *, partition: int = 0) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap) as producer:
            sent = [await producer.send(topic.name, value, partition=partition, key=b"k") for value in values]
            await asyncio.gather(*sent)

    async def send_in_transaction(self, topic: Topic, values: Sequence[bytes], *, commits: bool) -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, transactional_id=topic.name
        ) as producer:
            await producer.begin_transaction()
            for value in values:
                await producer.send_and_wait(topic.name, value, key=b"k", partition=0)
            await (producer.commit_transaction() if commits else producer.abort_transaction())

    async def committed(self, topic: Topic, partition: int = 0) -> int | None:
        async with AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=group_of(topic), enable_auto_commit=False
        ) as consumer:
            offset: int | None = await consumer.committed(TopicPartition(topic.name, partition))
            return offset

    def rows(self, query: str) -> Any:
        return self.client.query(query).result_rows


@dataclass
class Running:
    """A sink at work, and its metrics."""

    prometheus: CollectorRegistry
    task: asyncio.Task[None]
    sink: Sink
    part: Part

    def metric(self, name: str, **labels: str) -> float:
        return self.prometheus.get_sample_value(name, labels) or 0.0

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for it; fails with what the sink failed with."""
        async with asyncio.timeout(IN_TIME_S):
            while not await asyncio.to_thread(condition):
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.02)


async def until_committed(place: Place, topic: Topic, offset: int, partition: int = 0) -> None:
    async with asyncio.timeout(IN_TIME_S):
        while await place.committed(topic, partition) != offset:  # noqa: ASYNC110 - Kafka has no such event
            await asyncio.sleep(0.02)


def event_writer(place: Place, metrics: SinkMetrics) -> Writer:
    return events.writer(lambda: NOON, PriceList(), topic=place.requests)


def letter_writer(place: Place, metrics: SinkMetrics) -> Writer:
    return DeadLetterWriter(metrics, place.letters)


def window_writer(place: Place, metrics: SinkMetrics, interval: float = 3_600.0) -> Writer:
    return WindowWriter(
        place.windows,
        lambda: NOON,
        metrics,
        open_pane_interval=timedelta(seconds=interval),
        timezone=ZoneInfo("UTC"),
        max_rows=1_000,
    )


@contextlib.asynccontextmanager
async def sink(
    place: Place,
    topic: Topic,
    make: Callable[[Place, SinkMetrics], Writer] = event_writer,
    *,
    clickhouse: ClickHouseSettings | None = None,
    without_commits: bool = False,
) -> AsyncIterator[Running]:
    """A sink of the topic; leaving stops it as SIGTERM does."""
    prometheus = CollectorRegistry()
    metrics = SinkMetrics(prometheus)
    store = Store(lambda: connect(clickhouse or place.clickhouse), metrics)
    box = DeadLetterProducer(place.bootstrap, metrics, place.letters)
    part = Part("sink")
    made = Sink(
        topic,
        make(place, metrics),
        bootstrap=place.bootstrap,
        store=store,
        box=box,
        metrics=metrics,
        settings=SinkSettings(linger=LINGER, max_rows=1_000),
        part=part,
    )
    if without_commits:

        async def lost(positions: object) -> None:
            return None

        made._consumer.commit = lost  # type: ignore[method-assign]
    stopping = asyncio.Event()
    running = Running(prometheus, asyncio.create_task(made.run(stopping)), made, part)
    try:
        yield running
        stopping.set()
        await running.task
    finally:
        stopping.set()
        await asyncio.wait([running.task])
        await box.stop()
        await store.close()


def stored(place: Place, final: str = "") -> list[int]:
    return [row[0] for row in place.rows(f"SELECT _offset FROM events {final} ORDER BY _partition, _offset")]
