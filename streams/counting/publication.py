"""Makes a step durable: blocks in the changelog, which publishes them; panes that close on `chat.closed`."""

from collections.abc import Mapping, Sequence

from clients.kafka.publisher import Message
from schemas.time import SECOND, Micros
from schemas.topics import CLOSED
from streams.counting import metrics
from streams.counting.announce import heartbeat, shares
from streams.runtime.ledger import Worker
from streams.windows.block import Block, BlockKey, read_block, write_block
from streams.windows.partition import PartitionWindows
from streams.windows.step import Step


class Publication:
    """What one table publishes of the partitions that this worker has."""

    def __init__(self, name: str, worker: Worker) -> None:
        self._name = name
        self._worker = worker
        self._heartbeat_at: dict[int, Micros] = {}

    def load(self, key: BlockKey) -> Block | None:
        """A block that was written before."""
        value = self._worker.entry(key.partition, key.encode())
        return None if value is None else read_block(value)

    def parted(self, partition: int, step: Step) -> tuple[list[Block], list[Block]]:
        """The step's blocks: those that may be written before it is announced what closes, and those after.

        A pane that closes must be announced before anything is durable that keeps a restart from closing it
        again: its block, closed; and, if none of it was ever written, any block that has the watermark.
        """
        closed = [block for block in step.blocks if block.closed]
        if any(self._worker.entry(partition, block.key.encode()) is None for block in closed):
            return [], step.blocks
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
        partitions = self._worker.source_partitions
        where = (self._name, windows.partition, partitions, windows.watermark, windows.offset)
        messages = []
        for closed in told:
            if not closed.revision:
                metrics.CLOSED.labels(self._name, closed.grouping.name).inc()
            messages += [Message(CLOSED.name, value, key, to) for to, key, value in shares(closed, *where)]
        key, value = heartbeat(*where)
        messages += [Message(CLOSED.name, value, key, to) for to in range(partitions)]
        await self._worker.publish(messages)

    async def write(self, partition: int, blocks: Sequence[Block], expired: Sequence[BlockKey] = ()) -> None:
        """Write blocks and delete expired ones; returns when Kafka has it.

        Raises MovedError when the partition is not ours any more.
        """
        if not (blocks or expired):
            return
        entries: Mapping[bytes, bytes | None] = {
            block.key.encode(): write_block(block) for block in blocks
        } | {key.encode(): None for key in expired}
        metrics.BLOCKS.labels(self._name).inc(len(blocks))
        metrics.BLOCK_BYTES.labels(self._name).inc(sum(len(value or b"") for value in entries.values()))
        await self._worker.write(partition, entries)
