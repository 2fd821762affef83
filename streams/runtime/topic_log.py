"""The topic below a changelog, on Kafka: its end, what lies in it, and what is appended."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from clients.kafka.follower import read_range
from clients.kafka.publisher import Message
from schemas.topics import Topic
from streams.runtime.changelog import Write
from streams.runtime.entries import RANK_HEADER, Claim, Entry, rank_of
from streams.runtime.errors import LogUnavailableError
from streams.runtime.publisher import PatientPublisher

_WITHIN_S: Final = 30.0
"""How long Kafka may take to answer, or to hand over what lies between the owner's writes."""

End = Callable[[int], Awaitable[int]]
"""The offset past a partition's last record. Raises KafkaError."""
PutClaim = Callable[[int, Claim], Awaitable[None]]
"""Commits a claim of a partition. Raises MovedError when the partition is not ours, and KafkaError or
TimeoutError."""


class TopicLog:
    """A `streams.runtime.changelog.Log`."""

    def __init__(
        self, bootstrap: str, topic: Topic, publisher: PatientPublisher, *, end: End, put_claim: PutClaim
    ) -> None:
        self.topic = topic.name
        self._bootstrap = bootstrap
        self._publisher = publisher
        self._end = end
        self._put_claim = put_claim

    async def end(self, partition: int) -> int:
        """As in `Log`."""
        try:
            async with asyncio.timeout(_WITHIN_S):
                return await self._end(partition)
        except (KafkaError, TimeoutError) as error:
            raise LogUnavailableError(f"{type(error).__name__}: {error}") from error

    async def read(self, partition: int, begin: int, end: int) -> Sequence[Entry]:
        """As in `Log`."""
        place = TopicPartition(self.topic, partition)
        try:
            records = await read_range(self._bootstrap, place, begin, end, within_s=_WITHIN_S)
        except (KafkaError, TimeoutError) as error:
            raise LogUnavailableError(f"{type(error).__name__}: {error}") from error
        return [Entry(record.offset, record.key, record.value, rank_of(record.headers)) for record in records]

    async def append(
        self, partition: int, writes: Sequence[Write], wanted: Callable[[], bool]
    ) -> Sequence[int]:
        """As in `Log`."""
        records = [
            Message(self.topic, write.value, write.key, partition, ((RANK_HEADER, write.rank.encode()),))
            for write in writes
        ]
        return await self._publisher.publish(records, wanted)

    async def claim(self, partition: int, claim: Claim) -> None:
        """As in `Log`."""
        try:
            await self._put_claim(partition, claim)
        except (KafkaError, TimeoutError) as error:
            raise LogUnavailableError(f"{type(error).__name__}: {error}") from error
