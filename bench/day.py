"""A full day of state on `chat.windows` and `chat.usage`, as a worker that has run for a day leaves it.

One minute of traffic is counted by the product's own code, for each source partition; its blocks then
stand for every minute of the day, under their own keys. Days past the minutes' keeping are not made.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import polars as pl
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from bench.events import Load, made
from clients.kafka.fetched import Fetched
from infra.settings import WindowSettings, WorkerSettings
from schemas.batch_writer import batch_of
from schemas.time import DAY, MINUTE, SECOND
from streams.counting.requests import RequestReader
from streams.counting.workers import WORKERS
from streams.runtime.fetch import Fetch
from streams.windows.block import Block, write_block
from streams.windows.partition import PartitionWindows
from streams.windows.plan import Plan
from traffic.avro import ColumnWriter

MINUTES = 24 * 60
OF_TODAY = 400_000
"""Events that make up today's panes: their sketches hardly grow beyond that."""
_BATCH = 1024 * 1024
_LARGEST = 16 * 1024 * 1024


@dataclass(frozen=True)
class Day:
    """The traffic of which the state tells."""

    rate: int
    """Events a second, all day."""
    users: int
    """Those active, in each minute."""
    spaces: int
    partitions: int


@dataclass(frozen=True)
class Written:
    """What came of it."""

    blocks: int
    mb: float


def write(bootstrap: str, day: Day, now: datetime, *, minutes: int = MINUTES) -> dict[str, Written]:
    """Put the day before `now` onto both tables' topics; returns what each got.

    `minutes`: so many of the day's last ones; with 0, today's panes alone.
    """
    return asyncio.run(_write(bootstrap, day, now, minutes))


async def _write(bootstrap: str, day: Day, now: datetime, minutes: int) -> dict[str, Written]:
    written = {}
    minute = _events(day, day.rate * 60) if minutes else []
    today = _events(day, max(day.rate * 60, OF_TODAY))
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", max_batch_size=_BATCH, max_request_size=_LARGEST
    )
    await producer.start()
    try:
        for kind, make in WORKERS.items():
            worker = make(WindowSettings(), WorkerSettings())
            blocks = size = 0
            for partition in range(day.partitions):
                counted = _counted(worker.plan, partition, today, "1d")
                counted += _counted(worker.plan, partition, minute, "1m")
                batch = BatchBuilder(_BATCH, 0)
                for key, value in _messages(counted, now, minutes):
                    blocks += 1
                    size += len(key) + len(value)
                    if batch.append(key=key, value=value, timestamp=None) is None:
                        await producer.send_batch(batch, worker.table.name, partition=partition)
                        batch = BatchBuilder(_BATCH, 0)
                        batch.append(key=key, value=value, timestamp=None)
                batch.close()
                await producer.send_batch(batch, worker.table.name, partition=partition)
            written[kind] = Written(blocks, size / 2**20)
        await producer.flush()
    finally:
        await producer.stop()
    return written


def _events(day: Day, count: int) -> list[pl.DataFrame]:
    """So many requests of one minute, as the product reads them: those of each partition."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    span = timedelta(seconds=60)
    load = Load(
        count, start, day.partitions, seed=9_999, span=span, users=day.users, spaces=day.spaces, even=True
    )
    events = made(load)
    arrived_ms = int((start + span).timestamp()) * 1000
    read = []
    for partition in range(day.partitions):
        values = ColumnWriter("RequestEvent").values(events.frame.filter(events.partition == partition))
        batch = batch_of(values, timestamp=arrived_ms)
        fetched = Fetched(0, batch.next_offset, [batch])
        read.append(RequestReader().read(Fetch("", partition, fetched, [fetched])).finished)
    return read


def _counted(plan: Plan, partition: int, events: list[pl.DataFrame], pane: str) -> list[Block]:
    """The blocks that a partition's events make, of one length of pane."""
    if not events:
        return []
    windows = PartitionWindows(partition, plan, lambda key: None)
    step = windows.count(events[partition], events[partition].height, DAY)
    # What is on the topic now comes after them.
    return [replace(block, since=0, offset=0) for block in step.blocks if block.key.pane == pane]


def _messages(blocks: list[Block], now: datetime, minutes: int) -> Iterator[tuple[bytes, bytes]]:
    """The blocks as they stand a day's minutes later: minutes closed, today open."""
    present = int(now.timestamp()) * SECOND
    last = present - present % MINUTE - MINUTE
    watermark = last + MINUTE
    today = present - present % DAY
    for block in blocks:
        if block.key.pane == "1d":
            key = block.key._replace(pane_start=today)
            written = replace(block, key=key, pane_end=today + DAY, watermark=watermark, closed=False)
            yield key.encode(), write_block(written)
    for ago in range(minutes - 1, -1, -1):
        start = last - ago * MINUTE
        for block in blocks:
            if block.key.pane == "1m":
                key = block.key._replace(pane_start=start)
                written = replace(block, key=key, pane_end=start + MINUTE, watermark=watermark, closed=True)
                yield key.encode(), write_block(written)
