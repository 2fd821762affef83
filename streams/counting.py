"""The agent's work: counts fetches into the windows of their partitions, and makes the result durable.

One step, for one fetch of one partition:

1. read the records; what can't be read is counted (the events sink dead-letters it);
2. count them into the partition's windows, skipping repeats, and what the state already holds;
3. write the blocks that stay open to the table, whose changelog publishes them: live figures go first;
4. announce the panes that this closes, on `chat.closed`;
5. write the blocks that are closed;
6. if others have written to the changelog, whose partition this was, write what they replaced again;
7. only then acknowledge the fetch, and those before it.

Each of them is durable before the next begins. While a step of one partition waits for Kafka (3 to 7), the
next one's is counted; those of one partition follow one another.

Blocks of seconds, for live figures, are counted and written at every step; the others once a second, when
those are out. A fetch is acknowledged with the write that leaves nothing waiting or unwritten.

After a crash some fetches come again: step 2 skips what was counted, and steps 3 to 5 repeat
messages that replace themselves. Before them come fetches that are acknowledged: their ids are
remembered, so that their repeats are known, and nothing else is done with them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import faust
from faust.types import TP, EventT

from schemas import topics
from schemas.codec import Codec
from schemas.contract import schema
from schemas.time import DAY, SECOND, Micros, clock
from streams import metrics
from streams.announce import shares
from streams.publication import Publication
from streams.requests import RequestReader
from streams.runtime.application import Acknowledge, give_up
from streams.runtime.following import Following
from streams.runtime.transport import BatchConsumer
from streams.windows.block import write_block
from streams.windows.measures import GROUPINGS, LATENCIES
from streams.windows.partition import PartitionWindows
from streams.windows.plan import Plan
from streams.windows.step import Step


@dataclass
class _Partition:
    """A partition that this worker has."""

    windows: PartitionWindows
    committed: int = 0
    """What lies before this offset is acknowledged: it is read to be remembered only."""
    moved_at: Micros = 0
    unacknowledged: Callable[[], Awaitable[bool]] | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Whoever counts or writes has it, until that is durable."""


class Counting:
    """The windows of the partitions that this worker has."""

    def __init__(self, app: faust.App, publication: Publication, plan: Plan, reader: RequestReader) -> None:
        self._app = app
        self._publication = publication
        self._plan = plan
        self._reader = reader
        self._name = publication.name
        self._partitions: dict[int, _Partition] = {}
        self._following = Following(app, publication.name)

    def warm_up(self) -> None:
        """Load what Polars and Arrow load at first use: a second's worth, better now than live."""
        keys = {key for grouping in GROUPINGS.values() for key in grouping.keys}
        texts = {"event_id", "request_id", "service", "provider", "model", *keys}
        event: dict[str, Any] = dict.fromkeys(texts, "warm-up") | dict.fromkeys(LATENCIES, 1)
        event |= {"phase": "finished", "occurred_at": 0}
        record = SimpleNamespace(value=Codec(schema("RequestEvent")).encode(event), offset=0, timestamp=0)
        requests = self._reader.read([record, record])
        windows = PartitionWindows(0, self._plan, lambda key: None)
        for block in windows.count(requests.finished, 0, 0).blocks:
            write_block(block)
        for closed in windows.advance(2 * DAY).closed:
            list(shares(closed, self._name, 0, 1, 0, 0))

    async def restore(self) -> None:
        """Take up the state from the recovered table, for the partitions that are assigned now."""
        consumer, source = self._app.consumer, topics.REQUESTS.name
        mine = frozenset(tp.partition for tp in consumer.assignment() if tp.topic == source)
        recovered = self._publication.recovered(mine, consumer.topic_partitions(source) or 0)
        self._following.begin_anew()
        self._partitions, now = {}, clock()
        for partition, heads in recovered.items():
            windows = PartitionWindows(partition, self._plan, self._publication.load)
            windows.restore(heads, now)
            self._partitions[partition] = _Partition(windows)

    def reading_from(self, tp: TP, committed: int) -> int:
        """From which offset on a partition of the source is read, of which `committed` is acknowledged."""
        if (partition := self._partitions.get(tp.partition)) is None:
            return committed
        partition.committed = committed
        return partition.windows.resume(committed)

    def forget(self) -> None:
        """The partitions are going away: write nothing more for them."""
        self._following.begin_anew()
        self._partitions = {}

    async def step(self, event: EventT[Any], acknowledge: Acknowledge) -> None:
        """Count one fetch, unless it is of no concern any more: its partition has moved.

        Returns when it is counted; what makes it durable goes on, and ends the process when it fails.
        """
        started = time.perf_counter()
        partition = self._partitions.get(event.message.partition)
        if partition is None:
            return
        await partition.turn.acquire()
        step = None
        try:
            step = await self._count(partition, event, acknowledge)
        finally:
            if step is None:
                partition.turn.release()
        if step is not None:
            self._app.add_future(self._make_durable(partition, step, started))

    async def _make_durable(self, partition: _Partition, step: Step, started: float) -> None:
        """Has the partition's turn, and ends it."""
        try:
            await self._publish(partition, step, partition.moved_at)
            if self._ours(partition) and partition.windows.due(now := clock()):
                await self._publish(partition, partition.windows.wait(now), now)
            metrics.STEP_SECONDS.labels(self._name).observe(time.perf_counter() - started)
        except Exception:
            give_up(self._app)
        finally:
            partition.turn.release()

    async def _count(
        self, partition: _Partition, event: EventT[Any], acknowledge: Acknowledge
    ) -> Step | None:
        message = event.message
        if not self._ours(partition) or message.generation_id != self._app.consumer_generation_id:
            return None
        records = cast("list[Any]", message.value)
        if not await self._following.takes(message.tp, records[0].offset, message.offset):
            return None
        requests = self._reader.read(records)
        if message.offset < partition.committed:
            partition.windows.remember(requests.finished, message.offset)
            return None
        now = clock()
        step = partition.windows.count(requests.finished, message.offset, now)
        partition.moved_at = now
        metrics.EVENTS.labels(self._name).inc(len(records))
        metrics.COUNTED.labels(self._name).inc(step.counted)
        metrics.REPEATS.labels(self._name).inc(step.repeats)
        metrics.TOO_LATE.labels(self._name).inc(step.too_late)
        metrics.STEP_EVENTS.labels(self._name).observe(len(records))
        for refusal in requests.refused:
            metrics.REFUSED.labels(self._name, refusal.reason).inc()
        partition.unacknowledged = partial(acknowledge, event)
        return step

    async def follow_the_clock(self) -> None:
        """Where nothing has come for a second: write what is unwritten, close panes, tell the watermark."""
        for partition in list(self._partitions.values()):
            async with partition.turn:
                now = clock()
                if now - partition.moved_at < SECOND or not self._ours(partition):
                    continue
                windows = partition.windows
                await self._publication.look_behind(windows, now, partial(self._ours, partition))
                if self._caught_up(windows.partition):
                    await self._publish(partition, windows.advance(now), now)
                else:
                    await self._publish(partition, windows.wait(now), now, beat=False)

    def _caught_up(self, partition: int) -> bool:
        return cast("BatchConsumer", self._app.consumer).caught_up(TP(topics.REQUESTS.name, partition))

    def _ours(self, partition: _Partition) -> bool:
        return self._partitions.get(partition.windows.partition) is partition

    async def _publish(self, partition: _Partition, step: Step, now: Micros, *, beat: bool = True) -> None:
        publication, windows, ours = self._publication, partition.windows, partial(self._ours, partition)
        first, then = publication.parted(step)
        await publication.write(windows, first, ours)
        await publication.announce(windows, step, now, beat=beat)
        if not ours():
            return  # it has moved meanwhile: what is written now would replace what others count
        await publication.write(windows, then, ours, step.expired)
        if step.complete and partition.unacknowledged is not None:
            acknowledge, partition.unacknowledged = partition.unacknowledged, None
            await acknowledge()
        metrics.WATERMARK.labels(self._name, windows.partition).set(windows.watermark / SECOND)
        self._tell_memory()

    def _tell_memory(self) -> None:
        memories = [partition.windows.repeats for partition in self._partitions.values()]
        metrics.REMEMBERED.labels(self._name).set(sum(map(len, memories)))
        metrics.REMEMBERED_BYTES.labels(self._name).set(sum(memory.nbytes for memory in memories))
        metrics.FORGOTTEN_EARLY.labels(self._name).set(sum(memory.forgotten_early for memory in memories))
