"""Whether somebody else writes to a changelog partition that this worker owns, and what mends it.

A worker that was stopped, or cut off, and comes back after its partition has moved may still write blocks
that are out of date, and a compacted topic keeps the last one written. Kafka does not stop it. But the
owner notices, because its own writes then don't follow one another, and writes its own blocks again.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.table import Head, read_heads
from streams.windows.block import BlockKey

_PATIENCE_S = 30.0


@dataclass
class Fence:
    """One changelog partition's end, as far as its owner knows it."""

    next_offset: int
    """Where the owner's next write comes to lie, if nobody else writes."""

    def foreign(self, own: Collection[int], end: int) -> range:
        """Where the writes of others lie, among all up to `end`; empty when there are none.

        `own` are the offsets of what the owner has written since it last asked. The range may hold some
        of those, too.
        """
        begin, self.next_offset = self.next_offset, max(self.next_offset, end)
        if len(own) == end - begin:
            return range(0)
        others = sorted(set(range(begin, end)).difference(own))
        return range(others[0], others[-1] + 1) if others else range(0)


def repairs(
    foreign: Mapping[bytes, bytes | None], own: Mapping[bytes, bytes], counted_to: int
) -> list[bytes]:
    """The keys that the owner has to write again, after the writes of others, or to delete again.

    `own` are its blocks, and `counted_to` is the offset it has counted to: what goes beyond that was
    written by somebody who is ahead, and stays.
    """
    found = [(key, value) for key, value in foreign.items() if value is not None]
    theirs = {key: head for (key, _), head in zip(found, read_heads(found), strict=True)}
    known = [(key, own[key]) for key in theirs if key in own]
    ours = {key: head for (key, _), head in zip(known, read_heads(known), strict=True)}
    return [key for key in foreign if _out_of_date(theirs.get(key), ours.get(key), key in own, counted_to)]


def _out_of_date(theirs: Head | None, ours: Head | None, kept: bool, counted_to: int) -> bool:
    if theirs is None:
        return kept
    if ours is None:
        return theirs.offset <= counted_to
    return theirs.rank < ours.rank


async def read(bootstrap: str, topic: str, partition: int, offsets: range) -> dict[bytes, bytes | None]:
    """The newest entry of each key of a block that lies at these offsets.

    Raises KafkaError, or TimeoutError after half a minute.
    """
    found: dict[bytes, bytes | None] = {}
    tp = TopicPartition(topic, partition)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([tp])
        consumer.seek(tp, offsets[0])
        async with asyncio.timeout(_PATIENCE_S):
            while await consumer.position(tp) <= offsets[-1]:
                for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, []):
                    if record.offset <= offsets[-1] and _is_of(record.key, partition):
                        found[record.key] = record.value
    finally:
        await consumer.stop()
    return found


def _is_of(key: bytes | None, partition: int) -> bool:
    try:
        return key is not None and BlockKey.decode(key).partition == partition
    except ValueError:
        return False
