"""Kafka's client in the thread that Faust gives it: connecting, fetching, committing, leaving.

It rests on internals of faust-streaming and aiokafka, hence on their pinned versions.
"""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol, cast

import aiokafka
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Transport as RecordTransport
from faust.types import TP

from clients.kafka.consumers import ISOLATION, leave
from clients.kafka.fetched import ALL, leave_packed
from clients.kafka.tasks import ended_task
from infra.liveness import Part
from infra.tasks import end
from schemas.unpacking import MOST_BYTES

COMMIT_WITHIN_S: Final = 30.0


@dataclass(frozen=True)
class Batching:
    """Which topics are handed over by the fetch, and how the broker gathers one."""

    sources: frozenset[str]
    changelogs: frozenset[str]
    linger: timedelta
    """How long the broker waits for a fetch to fill."""
    min_bytes: int
    """A fetch of this size is sent at once: under load, fetches are large, and nothing waits."""
    most_bytes: int = MOST_BYTES
    """That a batch may unpack to."""

    def __contains__(self, topic: str) -> bool:
        return topic in self.sources or topic in self.changelogs


class Setting(Protocol):
    """What the thread has of its transport."""

    batching: Batching
    part: Part


class Notes(Protocol):
    """What the thread has of its consumer."""

    def note_of(self, tp: TP) -> str:
        """What is committed with the offsets of a partition."""
        ...


class ConsumerThread(AIOKafkaConsumerThread):
    """The thread, with an event loop of its own, in which Kafka's client lives."""

    _guard: AbstractContextManager[None] | None = None

    def _create_worker_consumer(self, transport: RecordTransport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        batching = cast("Setting", transport).batching
        # Faust has no settings for these; the consumer reads them when it starts.
        consumer._fetch_max_wait_ms = batching.linger // timedelta(milliseconds=1)
        consumer._fetch_min_bytes = batching.min_bytes
        consumer._isolation_level = ISOLATION
        return consumer

    def close(self) -> None:
        """Nothing: the thread ends its consumer itself, when it stops.

        Faust calls this when a rebalance comes after the stop has begun, and takes the consumer apart from
        another thread: then the group is not left, and what waits for metadata waits for ever.
        """

    async def on_start(self) -> None:
        """Connect. From now on Kafka's client and this thread's event loop are watched over."""
        transport = cast("Setting", self.transport)
        transport.part.attend(f"consumer of {self.app.conf.id}")
        await super().on_start()
        self._guard = transport.part.guarding(f"the consumer of {self.app.conf.id}", self._ended_task)
        self._guard.__enter__()

    def _ended_task(self) -> str | None:
        return None if self._consumer is None else ended_task(self._consumer)

    async def on_thread_stop(self) -> None:
        """Leave the group and end, whatever is under way."""
        if self._guard is not None:
            self._guard.__exit__(None, None, None)
        await super(AIOKafkaConsumerThread, self).on_thread_stop()
        if self._consumer is not None:
            await leave(self._consumer, self.app.conf.id)

    async def _gather_remaining_tasks(self) -> None:
        """End what still runs in this thread."""
        await end(asyncio.all_tasks() - {asyncio.current_task()})

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit offsets, each with its partition's note. False when the group has a newer generation."""
        consumer, notes = self._ensure_consumer(), cast("Notes", self.consumer)
        positions = {
            TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(offset, note)
            for tp, offset in offsets.items()
            if tp in self.assignment() and (note := notes.note_of(tp)) is not None
        }
        if not positions:
            return False
        try:
            async with asyncio.timeout(COMMIT_WITHIN_S):
                await consumer.commit(positions)
        except (CommitFailedError, IllegalStateError, TimeoutError) as error:
            self.log.info("%s: not committed: %s", self.app.conf.id, error)
            return False
        except Exception as error:
            await self.crash(error)
            return False
        return len(positions) == len(offsets)

    async def commit_note(self, tp: TP, offset: int, note: str, generation: int) -> bool:
        """Commit an offset with this note as a member of this generation of the group, or not at all.

        False when the group has a newer one, or the partition is not assigned. Raises KafkaError or
        TimeoutError when it may be committed or not.
        """
        return bool(await self.call_thread(self._commit_note, tp, offset, note, generation))

    async def _commit_note(self, tp: TP, offset: int, note: str, generation: int) -> bool:
        coordinator = self._ensure_consumer()._coordinator
        positions = {TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(offset, note)}
        try:
            # Here, not around the call: what is given up must not be committed after what comes next.
            async with asyncio.timeout(COMMIT_WITHIN_S):
                await coordinator.ensure_coordinator_known()
                # The client's own commit tries again by itself, in whatever generation it is by then.
                async with coordinator._commit_lock:
                    if coordinator.generation != generation or tp not in self.assignment():
                        return False
                    await asyncio.shield(coordinator._do_commit_offsets(None, positions))
        except (UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError) as error:
            self.log.info("%s: %s is not committed: %r", self.app.conf.id, note, error)
            return False
        return True

    async def committed_notes(self, places: Collection[TP]) -> dict[TP, str]:
        """What is committed with the offsets of these partitions."""
        return {tp: each.metadata or "" for tp, each in (await self._stored(places)).items()}

    async def committed_offsets(self, places: Collection[TP]) -> dict[TP, int]:
        """The committed offsets, of those of these partitions that have one."""
        return {tp: each.offset for tp, each in (await self._stored(places)).items() if each.offset >= 0}

    async def _stored(self, places: Collection[TP]) -> dict[TP, OffsetAndMetadata]:
        coordinator = self._ensure_consumer()._coordinator
        wanted = [TopicPartition(tp.topic, tp.partition) for tp in places]
        found = await self.call_thread(coordinator.fetch_committed_offsets, wanted)
        return {TP(tp.topic, tp.partition): each for tp, each in found.items()}

    def topic_partitions(self, topic: str) -> int | None:
        """How many partitions a topic has; None while that isn't known.

        Faust asks the snapshot that only the leader of a group has: for every other member there are none.
        """
        partitions = self._ensure_consumer().partitions_for_topic(topic)
        return len(partitions) if partitions else None

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109  # Faust's signature
        max_records: int | None = None,
    ) -> Mapping[TP, list[Any]]:
        wanted = cast("Setting", self.transport).batching.__contains__
        leave_packed(consumer, wanted, max_records or ALL)
        return await super()._fetch_records(consumer, active_partitions, timeout=timeout)
