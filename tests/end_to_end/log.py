"""Kafka as it stands: raw records, ends and committed offsets."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

_WITHIN_S = 120


@dataclass(frozen=True)
class Record:
    """A record of a topic, as it lies there."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True)
class Log:
    """The topics of the Kafka at `bootstrap`. Its methods block."""

    bootstrap: str

    def ends(self, topic: str) -> dict[int, int]:
        """Where each partition ends."""
        return asyncio.run(self._ends(topic))

    def records(self, topic: str) -> list[Record]:
        """Everything in the topic, in the order of each partition."""
        found: list[Record] = []
        self.read(topic, found.append)
        return found

    def read(
        self, topic: str, take: Callable[[Record], object], but: Collection[tuple[int, int]] = ()
    ) -> None:
        """Give everything in the topic that isn't aborted to `take`, in the order of each partition.

        Batches that begin at a partition and offset in `but` are not unpacked: they are stepped over.
        """
        asyncio.run(self._read(topic, take, but))

    def left(self, group: str, topic: str) -> int:
        """How many records the group has not acknowledged yet."""
        return asyncio.run(self._left(group, topic))

    def acknowledged(self, group: str, topic: str) -> int:
        """How many records the group has acknowledged."""
        return asyncio.run(self._acknowledged(group, topic))

    async def _ends(self, topic: str) -> dict[int, int]:
        async with self._consumer() as consumer:
            ends = await consumer.end_offsets(await _partitions(consumer, topic))
            return {place.partition: end for place, end in ends.items()}

    async def _read(
        self, topic: str, take: Callable[[Record], object], but: Collection[tuple[int, int]]
    ) -> None:
        async with self._consumer() as consumer, asyncio.timeout(_WITHIN_S) as patience:
            consumer._fetcher._records = _StepOver(but)
            places = await _partitions(consumer, topic)
            ends = await consumer.end_offsets(places)
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            while any([await consumer.position(place) < ends[place] for place in places]):
                for place, records in (await consumer.getmany(timeout_ms=200)).items():
                    for one in records:
                        if one.offset < ends[place]:
                            take(Record(place.partition, one.offset, one.timestamp, one.key, one.value))
                    patience.reschedule(asyncio.get_running_loop().time() + _WITHIN_S)

    async def _left(self, group: str, topic: str) -> int:
        return sum((await self._ends(topic)).values()) - await self._acknowledged(group, topic)

    async def _acknowledged(self, group: str, topic: str) -> int:
        async with self._consumer(group) as consumer:
            places = await _partitions(consumer, topic)
            return sum([await consumer.committed(place) or 0 for place in places])

    def _consumer(self, group: str | None = None) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=group,
            enable_auto_commit=False,
            isolation_level="read_committed",
            max_poll_records=20_000,
        )


class _StepOver(dict[Any, Any]):
    """What aiokafka's fetcher has for its consumer, without some batches."""

    def __init__(self, but: Collection[tuple[int, int]]) -> None:
        super().__init__()
        self._but = but

    def __setitem__(self, place: Any, result: Any) -> None:
        fetched = getattr(result, "_partition_records", None)
        begins = {offset for partition, offset in self._but if partition == place.partition}
        if fetched is not None and begins:
            fetched._records = _Without(fetched._records, begins)
        super().__setitem__(place, result)


class _Without:
    """The batches of a fetch; those that begin at some offsets hold nothing."""

    def __init__(self, batches: Any, begins: Collection[int]) -> None:
        self._batches = batches
        self._begins = begins

    def has_next(self) -> bool:
        return bool(self._batches.has_next())

    def next_batch(self) -> Any:
        batch = self._batches.next_batch()
        return _Nothing(batch.next_offset) if batch.base_offset in self._begins else batch


@dataclass(frozen=True)
class _Nothing:
    """A batch without records, as aiokafka asks it."""

    next_offset: int
    producer_id = None
    is_control_batch = False

    def validate_crc(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(())


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> Sequence[TopicPartition]:
    cluster = await consumer._client.fetch_all_metadata()
    return [TopicPartition(topic, partition) for partition in sorted(cluster.partitions_for_topic(topic))]
