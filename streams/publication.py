"""Makes a step durable: blocks in the table and its changelog, which publishes them; panes that close on
`chat.closed`. And sees to it that in the changelog our own blocks are the last ones."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, cast

import faust
from aiokafka.errors import KafkaError
from faust.types import TP, TopicT

from schemas.time import SECOND, Micros
from streams import fence, metrics
from streams.announce import heartbeat, shares
from streams.fence import Fence
from streams.table import Head, WindowTable
from streams.windows.block import Block, BlockKey, read_block, write_block
from streams.windows.partition import PartitionWindows
from streams.windows.step import Step

log = logging.getLogger(__name__)

_FENCE_EVERY: Micros = 10 * SECOND


class Publication:
    """What one table makes known of the partitions that this worker has."""

    def __init__(self, app: faust.App, table: WindowTable, closed: TopicT, bootstrap: str) -> None:
        self.name: str = table.changelog_topic_name
        self._app = app
        self._table = table
        self._closed = closed
        self._bootstrap = bootstrap
        self._source_partitions = 0
        self._fences: dict[int, Fence] = {}
        self._overwritten: dict[int, list[bytes]] = {}
        self._fenced_at: dict[int, Micros] = {}
        self._heartbeat_at: dict[int, Micros] = {}

    def recovered(self, partitions: frozenset[int], source_partitions: int) -> dict[int, list[Head]]:
        """The blocks recovered of these partitions, which are ours from now on; others are dropped."""
        heads: dict[int, list[Head]] = {partition: [] for partition in partitions}
        for head in self._table.heads(partitions):
            heads[head.key.partition].append(head)
        self._overwritten = {}
        for key in self._table.overwritten():
            self._overwritten.setdefault(BlockKey.decode(key).partition, []).append(key)
        self._source_partitions = source_partitions
        self._fences = {partition: Fence(self._recovered_to(partition)) for partition in partitions}
        metrics.KEPT_BLOCKS.labels(self.name).set(len(self._table.data))
        return heads

    def _recovered_to(self, partition: int) -> int:
        """The offset of the changelog up to which it is recovered."""
        last = cast("Any", self._app.tables).recovery.active_offsets.get(TP(self.name, partition))
        return 0 if last is None else int(last) + 1

    def load(self, key: BlockKey) -> Block | None:
        """A block that was written before."""
        value = self._table.data.get(key.encode())
        return None if value is None else read_block(value)

    def parted(self, step: Step) -> tuple[list[Block], list[Block]]:
        """The step's blocks: those that may be written before it is announced what closes, and those after.

        A pane that closes must be announced before anything is durable that keeps a restart from closing it
        again: its block, closed; and, if none of it was ever written, any block that has the watermark.
        """
        if any(block.closed and block.key.encode() not in self._table.data for block in step.blocks):
            return [], step.blocks
        closed = [block for block in step.blocks if block.closed]
        return [block for block in step.blocks if not block.closed], closed

    async def announce(self, windows: PartitionWindows, step: Step, now: Micros, *, beat: bool) -> None:
        """Tell what closes, and, with `beat`, once a second the watermark; returns when Kafka has it.

        No watermark before the windows are whole: it would speak for panes that have yet to close.
        """
        told = [*step.closed, *step.corrected]
        if not told and not (
            beat and windows.whole and now - self._heartbeat_at.get(windows.partition, 0) >= SECOND
        ):
            return
        self._heartbeat_at[windows.partition] = now
        partitions = self._source_partitions
        where = (self.name, windows.partition, partitions, windows.watermark, windows.offset)
        sent = []
        for closed in told:
            if not closed.revision:
                metrics.CLOSED.labels(self.name, closed.grouping.name).inc()
            for to, key, value in shares(closed, *where):
                sent.append(await self._closed.send(key=key, value=value, partition=to))
        key, value = heartbeat(*where)
        sent += [await self._closed.send(key=key, value=value, partition=to) for to in range(partitions)]
        await _durable(sent)

    async def write(
        self,
        windows: PartitionWindows,
        blocks: Sequence[Block],
        ours: Callable[[], bool],
        expired: Sequence[BlockKey] = (),
    ) -> None:
        """Write blocks and delete expired ones; returns when Kafka has it.

        `ours` says whether the partition still is, and with it the right to mend what others have written.
        """
        if not (blocks or expired):
            return
        written = await _durable(self._entries(windows.partition, blocks, expired))
        metrics.KEPT_BLOCKS.labels(self.name).set(len(self._table.data))
        await self._mend(windows, written, written[-1] + 1, ours)

    def _entries(
        self, partition: int, blocks: Sequence[Block], expired: Sequence[BlockKey]
    ) -> list[Awaitable[Any]]:
        sent: list[Awaitable[Any]] = []
        size = 0
        for block in blocks:
            key, value = block.key.encode(), write_block(block)
            size += len(value)
            self._table.data[key] = value
            sent.append(self._table.send_changelog(partition, key, value))
        metrics.BLOCKS.labels(self.name).inc(len(blocks))
        metrics.BLOCK_BYTES.labels(self.name).inc(size)
        for gone in expired:
            key = gone.encode()
            self._table.data.pop(key, None)
            sent.append(self._table.send_changelog(partition, key, None))
        return sent

    async def look_behind(self, windows: PartitionWindows, now: Micros, ours: Callable[[], bool]) -> None:
        """Where little is written, see now and then whether others write."""
        if now - self._fenced_at.get(windows.partition, 0) < _FENCE_EVERY:
            return
        self._fenced_at[windows.partition] = now
        tp = TP(self.name, windows.partition)
        try:
            end = (await self._app.consumer.highwaters(tp)).get(tp) or 0
        except (KafkaError, TimeoutError) as error:
            log.info("%s: its end is not known now: %s", tp, error)
        else:
            await self._mend(windows, [], end, ours)

    async def _mend(
        self, windows: PartitionWindows, written: list[int], end: int, ours: Callable[[], bool]
    ) -> None:
        """Write again what others have put something older after; see `streams.fence`."""
        partition = windows.partition
        if ours() and (overwritten := self._overwritten.pop(partition, [])):
            log.warning(
                "%s/%d: %d blocks were overwritten, and are replaced", self.name, partition, len(overwritten)
            )
            written = sorted([*written, *await self._write_again(partition, overwritten)])
            end = max(end, written[-1] + 1)
        while ours() and (foreign := self._fences[partition].foreign(written, end)):
            entries = await fence.read(self._bootstrap, self.name, partition, foreign)
            if not ours():
                return
            mended = fence.repairs(entries, self._table.data, windows.offset)
            if mended:
                log.warning(
                    "%s/%d: another worker wrote at offsets %d to %d; %d blocks out of date are replaced",
                    *(self.name, partition, foreign[0], foreign[-1], len(mended)),
                )
            written = await self._write_again(partition, mended)
            end = max(written, default=-1) + 1

    async def _write_again(self, partition: int, keys: Collection[bytes]) -> list[int]:
        metrics.FOREIGN_WRITES.labels(self.name).inc(len(keys))
        return await _durable(
            self._table.send_changelog(partition, key, self._table.data.get(key)) for key in keys
        )


async def _durable(sent: Iterable[Awaitable[Any]]) -> list[int]:
    """Waits until Kafka has what was sent; the offsets, ascending."""
    return sorted(acknowledged.offset for acknowledged in await asyncio.gather(*sent))
