"""Runs a worker of the product as `streams.main` does, until the whole topic is acknowledged.

A fetch is acknowledged when its windows are durable on `chat.windows`; from there they are read back,
after the clock has stopped.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable

import faust
import pyarrow as pa
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP, Message

from bench import load, work
from bench.contenders.race import Clock, Course
from infra.settings import KafkaSettings, WorkerSettings
from schemas import topics
from schemas.topics import Topic
from streams.catalogue.groupings import Grouping
from streams.counting.workers import Worker, build
from streams.windows.block import BlockKey, read_block


class Finish(faust.Sensor):
    """Starts the clock at the first fetch and stops it, and the worker, at the last acknowledgement."""

    def __init__(self, clock: Clock, ends: dict[int, int]) -> None:
        super().__init__()
        self._clock = clock
        self._left = dict(ends)

    def on_message_in(self, tp: TP, offset: int, message: Message) -> None:
        if tp.topic == topics.REQUESTS.name and not self._clock.running:
            self._clock.start()

    def on_message_out(self, tp: TP, offset: int, message: Message) -> None:
        if tp.topic != topics.REQUESTS.name:
            return
        if offset + 1 >= self._left.get(tp.partition, 0):
            self._left.pop(tp.partition, None)
        if not self._left:
            self._clock.stop()
            os.kill(os.getpid(), signal.SIGTERM)


def run(worker: Worker, course: Course, clock: Clock) -> None:
    """Returns when the worker has stopped. `course.topic` has to be `chat.requests`."""
    if course.topic != topics.REQUESTS.name:
        raise ValueError(f"the product reads {topics.REQUESTS.name}, not {course.topic}")
    ends = asyncio.run(load.ends(course.bootstrap, course.topic, course.partitions))
    kafka = KafkaSettings(bootstrap=course.bootstrap, partitions=course.partitions)
    app = build(worker, kafka, WorkerSettings())
    app.sensors.add(Finish(clock, ends))
    with contextlib.suppress(SystemExit):
        faust.Worker(app, loglevel="WARN", redirect_stdouts=False).execute_from_commandline()


async def published(
    bootstrap: str, partitions: int, grouping: Grouping, table: Topic = topics.WINDOWS
) -> work.Windows:
    """The minutes as a table's topic has them now: each key's last block, the partitions' shares added."""
    newest: dict[BlockKey, bytes] = {}
    parts = [TopicPartition(table.name, i) for i in range(partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        for part in parts:
            while await consumer.position(part) < ends[part]:
                for record in (await consumer.getmany(part, timeout_ms=1000)).get(part, []):
                    key = BlockKey.decode(record.key)
                    if key.grouping == grouping.name and key.pane == "1m" and record.value is not None:
                        newest[key] = record.value
    finally:
        await consumer.stop()
    windows: work.Windows = {}
    for key, value in newest.items():
        for name, window in _windows(read_block(value).rows, grouping):
            work.add(windows, name, key.pane_start, window)
    return windows


def _windows(rows: pa.Table, grouping: Grouping) -> Iterable[tuple[str, work.Window]]:
    totals: list[int] = [0] * rows.num_rows
    sketches: list[dict[int, int]] = [{}] * rows.num_rows
    if "total_us" in grouping.latencies:
        totals = rows["total_us_sum"].to_pylist()
        kept = (rows[f"total_us_{part}"].to_pylist() for part in ("keys", "counts"))
        sketches = [dict(zip(keys, counts, strict=True)) for keys, counts in zip(*kept, strict=True)]
    before, after = ("requests", "errors"), ("prompt_tokens", "completion_tokens")
    columns = [
        *(rows[name].to_pylist() for name in before),
        totals,
        *(rows[name].to_pylist() for name in after),
        sketches,
    ]
    for name, *window in zip(rows[grouping.keys[0]].to_pylist(), *columns, strict=True):
        yield name, window
