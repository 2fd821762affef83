"""The agent's work: counts fetches into the windows of their partitions, and makes the result durable.

One step, for one fetch of one partition:

1. read the records; what can't be read is counted (the events sink dead-letters it);
2. count them into the partition's windows, skipping repeats, and what the state already holds;
3. announce the panes that this closes, on `chat.closed`, and wait until that is durable;
4. write the blocks that changed to the table, whose changelog publishes them, and wait likewise;
5. if others have written to the changelog, whose partition this was, write what they replaced again;
6. only then acknowledge the fetch, and those before it.

Blocks of seconds, for live figures, are written at every step; the others once a second. A fetch is
acknowledged with the write that leaves nothing unwritten.

After a crash some fetches come again: step 2 skips what was counted, and steps 3 and 4 repeat
messages that replace themselves. Before them come fetches that are acknowledged: their ids are
remembered, so that their repeats are known, and nothing else is done with them.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import faust
from faust.types import TP, EventT, TopicT

from schemas import topics
from schemas.codec import Codec
from schemas.contract import schema
from streams import fence, metrics
from streams.announce import heartbeat, shares
from streams.continuity import Continuity, Verdict
from streams.fence import Fence
from streams.requests import RequestReader
from streams.table import Head, Heads, WindowTable
from streams.transport import BatchConsumer
from streams.windows.block import Block, BlockKey, read_block, write_block
from streams.windows.measures import GROUPINGS, LATENCIES
from streams.windows.panes import DAY, SECOND, Micros
from streams.windows.partition import PartitionWindows, Plan, Step

log = logging.getLogger(__name__)

_FENCE_EVERY: Micros = 10 * SECOND
Acknowledge = Callable[[EventT[Any]], Awaitable[bool]]


def clock() -> Micros:
    """Now, in microseconds since 1970."""
    return time.time_ns() // 1000


class Counting:
    """The windows of the partitions that this worker has, and their table."""

    def __init__(
        self,
        app: faust.App,
        table: WindowTable,
        closed: TopicT,
        plan: Plan,
        reader: RequestReader,
        bootstrap: str,
    ) -> None:
        self._app = app
        self._table = table
        self._bootstrap = bootstrap
        self._closed = closed
        self._plan = plan
        self._reader = reader
        self._partitions = 0
        self._name: str = table.changelog_topic_name
        self._windows: dict[int, PartitionWindows] = {}
        self._moved_at: dict[int, Micros] = {}
        self._heartbeat_at: dict[int, Micros] = {}
        self._unacknowledged: dict[int, Callable[[], Awaitable[bool]]] = {}
        self._continuity: dict[int, Continuity] = {}
        self._committed: dict[int, int] = {}
        self._fences: dict[int, Fence] = {}
        self._fenced_at: dict[int, Micros] = {}
        self._heads = Heads()
        self._one_at_a_time = asyncio.Lock()

    def warm_up(self) -> None:
        """Load what Polars and Arrow load at first use: a second's worth, better now than live."""
        keys = {key for grouping in GROUPINGS.values() for key in grouping.keys}
        texts = {"event_id", "request_id", "service", "provider", "model", *keys}
        event: dict[str, Any] = dict.fromkeys(texts, "warm-up") | dict.fromkeys(LATENCIES, 1)
        event |= {"phase": "finished", "occurred_at": 0}
        record = SimpleNamespace(value=Codec(schema("RequestEvent")).encode(event), offset=0, timestamp=0)
        requests = self._reader.read([record, record])
        windows = PartitionWindows(0, self._plan, lambda key: None)
        for block in windows.count(self._reader.priced(requests.finished), 0, 0).blocks:
            write_block(block)
        for closed in windows.advance(2 * DAY).closed:
            list(shares(closed, self._name, 0, 1, 0, 0))

    def restore(self) -> None:
        """Take up the state from the recovered table, for the partitions that are assigned now."""
        mine = {tp.partition for tp in self._app.consumer.assignment() if tp.topic == topics.REQUESTS.name}
        heads: dict[int, list[Head]] = {partition: [] for partition in mine}
        for head in self._table.heads(frozenset(mine)):
            heads[head.key.partition].append(head)
        self.forget()
        now = clock()
        self._partitions = self._app.consumer.topic_partitions(topics.REQUESTS.name) or 0
        self._fences = {p: Fence(self._recovered_to(p)) for p in mine}
        self._windows = {p: PartitionWindows(p, self._plan, self._load) for p in mine}
        for partition, windows in self._windows.items():
            windows.restore(heads[partition], now)
        metrics.KEPT_BLOCKS.labels(self._name).set(len(self._table.data))

    def reading_from(self, tp: TP, committed: int) -> int:
        """From which offset on a partition of the source is read, of which `committed` is acknowledged."""
        windows = self._windows.get(tp.partition)
        if windows is None:
            return committed
        self._committed[tp.partition] = committed
        return windows.resume(committed)

    def _recovered_to(self, partition: int) -> int:
        """The offset of the changelog up to which it is recovered."""
        last = cast("Any", self._app.tables).recovery.active_offsets.get(TP(self._name, partition))
        return 0 if last is None else int(last) + 1

    def forget(self) -> None:
        """The partitions are going away: write nothing more for them."""
        self._windows = {}
        self._unacknowledged = {}
        self._continuity = {}
        self._committed = {}

    async def step(self, event: EventT[Any], acknowledge: Acknowledge) -> None:
        """Count one fetch, unless it is of no concern any more: its partition has moved."""
        message = event.message
        async with self._one_at_a_time:
            windows = self._windows.get(message.partition)
            if windows is None or message.generation_id != self._app.consumer_generation_id:
                return
            started = time.perf_counter()
            records = cast("list[Any]", message.value)
            if not await self._follows(message.tp, records[0].offset, message.offset):
                return
            requests = self._reader.read(records)
            if message.offset < self._committed.get(message.partition, 0):
                windows.remember(requests.finished, message.offset)
                return
            now = clock()
            step = windows.count(self._reader.priced(requests.finished), message.offset, now)
            self._moved_at[message.partition] = now
            metrics.EVENTS.labels(self._name).inc(len(records))
            metrics.COUNTED.labels(self._name).inc(step.counted)
            metrics.REPEATS.labels(self._name).inc(step.repeats)
            metrics.TOO_LATE.labels(self._name).inc(step.too_late)
            metrics.STEP_EVENTS.labels(self._name).observe(len(records))
            for refusal in requests.refused:
                metrics.REFUSED.labels(self._name, refusal.reason).inc()
            self._unacknowledged[message.partition] = partial(acknowledge, event)
            await self._publish(windows, step, now)
            metrics.STEP_SECONDS.labels(self._name).observe(time.perf_counter() - started)

    async def _follows(self, tp: TP, first: int, last: int) -> bool:
        """Whether a fetch is to be taken; if one before it got lost, both are fetched again."""
        consumer = cast("BatchConsumer", self._app.consumer)
        if tp.partition not in self._continuity:
            self._continuity[tp.partition] = Continuity(consumer.begun_at(tp))
        continuity = self._continuity[tp.partition]
        verdict = continuity.judge(first, last)
        if verdict is Verdict.REWIND:
            log.warning(
                "%s: a fetch before offset %d got lost; from %d again", tp, first, continuity.expected
            )
            metrics.REWINDS.labels(self._name).inc()
            await consumer.seek(tp, continuity.expected)
        return verdict is Verdict.TAKE

    async def follow_the_clock(self) -> None:
        """Where nothing has come for a second: write what is unwritten, close panes, tell the watermark."""
        for partition, windows in list(self._windows.items()):
            async with self._one_at_a_time:
                now = clock()
                idle = now - self._moved_at.get(partition, 0) >= SECOND
                if self._windows.get(partition) is not windows or not idle:
                    continue
                await self._look_behind_the_fence(windows, now)
                if self._caught_up(partition):
                    await self._publish(windows, windows.advance(now), now)
                else:
                    await self._publish(windows, windows.wait(now), now, tell=False)

    def _caught_up(self, partition: int) -> bool:
        return cast("BatchConsumer", self._app.consumer).caught_up(TP(topics.REQUESTS.name, partition))

    def _load(self, key: BlockKey) -> Block | None:
        value = self._table.data.get(key.encode())
        return None if value is None else read_block(value)

    async def _publish(self, windows: PartitionWindows, step: Step, now: Micros, tell: bool = True) -> None:
        if tell:
            await _durable(await self._announce(windows, step, now))
        if self._windows.get(windows.partition) is not windows:
            return  # the partition has moved meanwhile: what is written now would replace what others count
        written = await _durable(self._write(windows.partition, step))
        if written:
            await self._keep(windows, written, written[-1] + 1)
        if step.complete and (acknowledge := self._unacknowledged.pop(windows.partition, None)):
            await acknowledge()
        metrics.WATERMARK.labels(self._name, windows.partition).set(windows.watermark / SECOND)
        metrics.KEPT_BLOCKS.labels(self._name).set(len(self._table.data))
        self._tell_memory()

    def _tell_memory(self) -> None:
        memories = [windows.repeats for windows in self._windows.values()]
        metrics.REMEMBERED.labels(self._name).set(sum(map(len, memories)))
        metrics.REMEMBERED_BYTES.labels(self._name).set(sum(memory.nbytes for memory in memories))
        metrics.FORGOTTEN_EARLY.labels(self._name).set(sum(memory.forgotten_early for memory in memories))

    async def _look_behind_the_fence(self, windows: PartitionWindows, now: Micros) -> None:
        """Where nothing is written, ask now and then whether others write."""
        if now - self._fenced_at.get(windows.partition, 0) < _FENCE_EVERY:
            return
        self._fenced_at[windows.partition] = now
        tp = TP(self._name, windows.partition)
        end = (await self._app.consumer.highwaters(tp)).get(tp) or 0
        await self._keep(windows, [], end)

    async def _keep(self, windows: PartitionWindows, written: list[int], end: int) -> None:
        """After writing: see to it that our own blocks are the last ones in the changelog."""
        partition = windows.partition
        while foreign := self._fences[partition].foreign(written, end):
            entries = await fence.read(self._bootstrap, self._name, partition, foreign)
            if self._windows.get(partition) is not windows:
                return  # the partition has moved: those who write now are its owner
            mended = fence.repairs(entries, self._table.data, windows.offset, self._heads)
            log.warning(
                "%s/%d: another worker wrote at offsets %d to %d; %d blocks are out of date, and replaced",
                self._name,
                partition,
                foreign[0],
                foreign[-1],
                len(mended),
            )
            metrics.FOREIGN_WRITES.labels(self._name).inc(len(mended))
            written = await _durable(
                self._table.send_changelog(partition, key, value) for key, value in mended.items()
            )
            end = max(written, default=-1) + 1

    async def _announce(self, windows: PartitionWindows, step: Step, now: Micros) -> list[Awaitable[Any]]:
        beat = step.closed or now - self._heartbeat_at.get(windows.partition, 0) >= SECOND
        if not beat:
            return []
        self._heartbeat_at[windows.partition] = now
        partitions = self._partitions
        where = (self._name, windows.partition, partitions, windows.watermark, windows.offset)
        sent = []
        for closed in step.closed:
            metrics.CLOSED.labels(self._name, closed.grouping.name).inc()
            for to, key, value in shares(closed, *where):
                sent.append(await self._closed.send(key=key, value=value, partition=to))
        key, value = heartbeat(*where)
        sent += [await self._closed.send(key=key, value=value, partition=to) for to in range(partitions)]
        return sent

    def _write(self, partition: int, step: Step) -> list[Awaitable[Any]]:
        written: list[Awaitable[Any]] = []
        size = 0
        for block in step.blocks:
            key, value = block.key.encode(), write_block(block)
            size += len(value)
            self._table.data[key] = value
            written.append(self._table.send_changelog(partition, key, value))
        metrics.BLOCKS.labels(self._name).inc(len(step.blocks))
        metrics.BLOCK_BYTES.labels(self._name).inc(size)
        for expired in step.expired:
            key = expired.encode()
            self._table.data.pop(key, None)
            written.append(self._table.send_changelog(partition, key, None))
        return written


async def _durable(sent: Iterable[Awaitable[Any]]) -> list[int]:
    """Waits until Kafka has what was sent; the offsets, ascending."""
    return sorted(acknowledged.offset for acknowledged in await asyncio.gather(*sent))
