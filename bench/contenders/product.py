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

from bench import work
from bench.contenders.race import Clock, Course
from infra.settings import KafkaSettings, WorkerSettings
from schemas import topics
from streams.app import Worker, build
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
    ends = asyncio.run(_ends(course))
    kafka = KafkaSettings(bootstrap=course.bootstrap, partitions=course.partitions)
    app = build(worker, kafka, WorkerSettings())
    app.sensors.add(Finish(clock, ends))
    with contextlib.suppress(SystemExit):
        faust.Worker(app, loglevel="WARN", redirect_stdouts=False).execute_from_commandline()


async def _ends(course: Course) -> dict[int, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=course.bootstrap)
    await consumer.start()
    try:
        parts = [TopicPartition(course.topic, i) for i in range(course.partitions)]
        return {part.partition: end for part, end in (await consumer.end_offsets(parts)).items()}
    finally:
        await consumer.stop()


async def published(course: Course, grouping: str) -> work.Windows:
    """The windows as `chat.windows` has them now: each key's last block, the partitions' shares added."""
    newest: dict[BlockKey, bytes] = {}
    parts = [TopicPartition(topics.WINDOWS.name, i) for i in range(course.partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=course.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        for part in parts:
            while await consumer.position(part) < ends[part]:
                for record in (await consumer.getmany(part, timeout_ms=1000)).get(part, []):
                    key = BlockKey.decode(record.key)
                    if key.grouping == grouping and key.pane == "1m" and record.value is not None:
                        newest[key] = record.value
    finally:
        await consumer.stop()
    windows: work.Windows = {}
    for key, value in newest.items():
        for space, window in _windows(read_block(value).rows):
            work.add(windows, space, key.pane_start, window)
    return windows


def _windows(rows: pa.Table) -> Iterable[tuple[str, work.Window]]:
    for row in rows.to_pylist():
        sketch = dict(zip(row["total_us_keys"], row["total_us_counts"], strict=True))
        sums = ("requests", "errors", "total_us_sum", "prompt_tokens", "completion_tokens")
        yield row["space_id"], [*(row[name] for name in sums), sketch]
