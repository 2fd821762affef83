"""The agent that counts: fetches of `chat.requests` become the windows of their partitions.

A step, for one fetch of one partition:

1. read the records; what can't be read is counted (the events sink dead-letters it);
2. count them into the partition's windows, skipping repeats, and what the state already holds;
3. write the blocks that stay open to the changelog, which publishes them: live figures go first;
4. announce the panes that this closes, on `chat.closed`;
5. write the blocks that are closed;
6. only then acknowledge the fetch, and those before it.

Each of them is durable before the next begins. While a step of one partition waits for Kafka (3 to 6), the
next one's is counted; those of one partition follow one another.

Blocks of seconds, for live figures, are counted and written at every step; the others once a second, when
those are out. A fetch is acknowledged with the write that leaves nothing waiting or unwritten.

After a crash some fetches come again: step 2 skips what was counted, and steps 3 to 5 repeat
messages that replace themselves. Before them come fetches that are acknowledged: their ids are
remembered, so that their repeats are known, and nothing else is done with them.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from clients.kafka.fetched import Fetched
from clients.retry import GivenUp, retrying
from schemas.batch_writer import batch_of
from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import RegistryUnavailableError
from schemas.time import DAY, SECOND, Micros, clock
from schemas.topics import Topic
from streams.catalogue.groupings import GROUPINGS
from streams.catalogue.measures import LATENCIES
from streams.counting import metrics
from streams.counting.announce import shares
from streams.counting.heads import read_heads
from streams.counting.publication import Publication
from streams.counting.requests import RequestReader, Requests
from streams.runtime.fetch import Fetch
from streams.runtime.ledger import State, Worker
from streams.windows.block import write_block
from streams.windows.partition import PartitionWindows
from streams.windows.plan import Plan
from streams.windows.step import Step

log = logging.getLogger(__name__)

_LARGE: Final = 1024 * 1024
"""Bytes of a fetch that are read in a thread, so that others get on meanwhile."""


@dataclass
class _Partition:
    """A partition that this worker has."""

    windows: PartitionWindows
    moved_at: Micros = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Whoever counts or writes has it, until that is durable."""


class Counting:
    """The windows of the partitions that this worker has. An agent at its own pace (`streams.runtime`)."""

    def __init__(self, table: Topic, plan: Plan, reader: RequestReader) -> None:
        self._name = table.name
        self._plan = plan
        self._reader = reader
        self._partitions: dict[int, _Partition] = {}
        self._publication: Publication | None = None

    def warm_up(self) -> None:
        """Load what Polars and Arrow load at first use: a second's worth, better now than live."""
        keys = {key for grouping in GROUPINGS.values() for key in grouping.keys}
        texts = {"event_id", "request_id", "service", "provider", "model", *keys}
        event: dict[str, Any] = dict.fromkeys(texts, "warm-up") | dict.fromkeys(LATENCIES, 1)
        event |= {"phase": "finished", "occurred_at": 0}
        value = Codec(schema("RequestEvent")).encode(event)
        fetched = Fetched(0, 2, [batch_of([value, value])])
        requests = self._reader.read(Fetch("", 0, fetched, [fetched]))
        windows = PartitionWindows(0, self._plan, lambda key: None)
        for block in windows.count(requests.finished, 0, 0).blocks:
            write_block(block)
        for closed in windows.advance(2 * DAY).closed:
            list(shares(closed, self._name, 0, 1, 0, 0))

    async def begin(self, worker: Worker) -> None:
        """See `Agent`."""
        self._publication = Publication(self._name, worker)

    def restore(self, states: Mapping[int, Mapping[bytes, State]], now: Micros) -> None:
        """See `Agent`: takes up the windows."""
        self._partitions = {}
        for partition, entries in states.items():
            windows = PartitionWindows(partition, self._plan, self._publishing.load)
            windows.restore(read_heads({key: state.state for key, state in entries.items()}), now)
            self._partitions[partition] = _Partition(windows)

    async def resume(self, worker: Worker) -> None:
        """See `Agent`: what a crash has left unpublished is counted again."""

    def reading_from(self, partition: int, committed: int) -> int:
        """See `Agent`: as far back as ids have to be remembered again."""
        mine = self._partitions.get(partition)
        return committed if mine is None else mine.windows.resume(committed)

    def forget(self) -> None:
        """See `Agent`."""
        self._partitions = {}

    async def end(self) -> None:
        """See `Agent`."""

    async def step(self, partition: int, fetch: Fetch, committed: int, worker: Worker) -> None:
        """See `OwnPace`: counts a fetch. What makes it durable goes on."""
        started = time.perf_counter()
        mine = self._partitions.get(partition)
        if mine is None:
            return
        await mine.turn.acquire()
        step = None
        try:
            step = self._count(mine, fetch, committed, await self._read(mine, fetch, worker))
        finally:
            if step is None:
                mine.turn.release()
        if step is not None:
            worker.beside(self._make_durable(mine, step, started, worker))

    async def _make_durable(self, partition: _Partition, step: Step, started: float, worker: Worker) -> None:
        """Has the partition's turn, and ends it."""
        try:
            await self._publish(partition, step, partition.moved_at, worker)
            if self._ours(partition) and partition.windows.due(now := clock()):
                await self._publish(partition, partition.windows.wait(now), now, worker)
            metrics.STEP_SECONDS.labels(self._name).observe(time.perf_counter() - started)
        finally:
            partition.turn.release()

    async def _read(self, partition: _Partition, fetch: Fetch, worker: Worker) -> Requests | None:
        """What the fetch holds; None when the partition has moved meanwhile. Waits for a schema registry."""

        async def attempt() -> Requests:
            if fetch.fetched.nbytes < _LARGE:
                return self._reader.read(fetch)
            return await worker.compute(partial(self._reader.read, fetch))

        def failed(error: Exception, number: int, wait: float) -> None:
            log.warning("%s: %s; attempt %d in %.1f s", self._name, error, number, wait)

        try:
            return await retrying(
                attempt,
                passes=lambda error: isinstance(error, RegistryUnavailableError),
                failed=failed,
                wanted=lambda: self._ours(partition),
                outage=lambda error: worker.waiting(f"the schema registry: {error}"),
            )
        except GivenUp:
            return None

    def _count(
        self, partition: _Partition, fetch: Fetch, committed: int, requests: Requests | None
    ) -> Step | None:
        if requests is None or not self._ours(partition):
            return None
        through = fetch.next_offset - 1
        if through < committed:
            partition.windows.remember(requests.finished, through)
            return None
        now = clock()
        step = partition.windows.count(requests.finished, through, now)
        partition.moved_at = now
        metrics.EVENTS.labels(self._name).inc(requests.records)
        metrics.COUNTED.labels(self._name).inc(step.counted)
        metrics.REPEATS.labels(self._name).inc(step.repeats)
        metrics.TOO_LATE.labels(self._name).inc(step.too_late)
        metrics.STEP_EVENTS.labels(self._name).observe(requests.records)
        for refusal in requests.refused:
            metrics.REFUSED.labels(self._name, refusal.reason).inc()
        return step

    async def tick(self, now: Micros, worker: Worker) -> None:
        """See `Agent`: where nothing has come for a second, writes what is unwritten, closes panes, tells
        the watermark."""
        for partition in list(self._partitions.values()):
            async with partition.turn:
                now = clock()
                if now - partition.moved_at < SECOND or not self._ours(partition):
                    continue
                windows = partition.windows
                if worker.caught_up(windows.partition):
                    await self._publish(partition, windows.advance(now), now, worker)
                else:
                    await self._publish(partition, windows.wait(now), now, worker, beat=False)

    def _ours(self, partition: _Partition) -> bool:
        return self._partitions.get(partition.windows.partition) is partition

    @property
    def _publishing(self) -> Publication:
        if self._publication is None:
            raise RuntimeError("counting has not begun")
        return self._publication

    async def _publish(
        self, partition: _Partition, step: Step, now: Micros, worker: Worker, *, beat: bool = True
    ) -> None:
        publication, windows = self._publishing, partition.windows
        first, then = publication.parted(windows.partition, step)
        await publication.write(windows.partition, first)
        await publication.announce(windows, step, now, beat=beat)
        if not self._ours(partition):
            return  # it has moved meanwhile: what is written now would replace what others count
        await publication.write(windows.partition, then, step.expired)
        if step.complete:
            await worker.acknowledge(windows.partition, windows.offset)
        metrics.WATERMARK.labels(self._name, windows.partition).set(windows.watermark / SECOND)
        self._tell_memory()

    def _tell_memory(self) -> None:
        memories = [partition.windows.repeats for partition in self._partitions.values()]
        metrics.REMEMBERED.labels(self._name).set(sum(map(len, memories)))
        metrics.REMEMBERED_BYTES.labels(self._name).set(sum(memory.nbytes for memory in memories))
        metrics.FORGOTTEN_EARLY.labels(self._name).set(sum(memory.forgotten_early for memory in memories))
