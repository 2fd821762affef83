"""A Faust transport that hands over whole fetches: one event is one partition's list of records.

Assignment, commits, tables and recovery stay Faust's. What changes, for the sources and the changelogs
that ask for it: a fetch of a partition becomes one event, whose value is the list of its records and
whose offset is the last one's; and acknowledging it acknowledges everything before it. That rests on
one stream taking a topic's events in order (agents of concurrency 1), and on internals of
faust-streaming and aiokafka, hence on their pinned versions.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, cast

import aiokafka
import faust
from aiokafka.errors import IllegalStateError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as RecordConsumer
from faust.transport.drivers.aiokafka import Transport as RecordTransport
from faust.types import TP, AppT, Message
from faust.types.tuples import ConsumerMessage
from yarl import URL

from clients.kafka.consumers import leave
from clients.kafka.fetched import leave_bare
from infra.tasks import end
from streams import together

_REBALANCING_PAUSE = 0.05
"""Seconds between two looks whether a rebalance is over."""


@dataclass(frozen=True)
class Batching:
    """Which topics are handed over by the fetch, and how the broker gathers one."""

    sources: frozenset[str]
    changelogs: frozenset[str]
    linger: timedelta
    """How long the broker waits for a fetch to fill."""
    min_bytes: int
    """A fetch of this size is sent at once: under load, fetches are large, and nothing waits."""

    def __contains__(self, topic: str) -> bool:
        return topic in self.sources or topic in self.changelogs


ReadingFrom = Callable[[TP, int], int]
"""From which offset on a source's partition is read, of which those before the second are acknowledged."""


def _committed(tp: TP, committed: int) -> int:
    return committed


class _ConsumerThread(AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: RecordTransport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        batching = cast("BatchTransport", transport).batching
        # Faust has no settings for these; the consumer reads them when it starts.
        consumer._fetch_max_wait_ms = batching.linger // timedelta(milliseconds=1)
        consumer._fetch_min_bytes = batching.min_bytes
        return consumer

    def close(self) -> None:
        """Nothing: the thread ends its consumer itself, when it stops.

        Faust calls this when a rebalance comes after the stop has begun, and takes the consumer apart from
        another thread: then the group is not left, and what waits for metadata waits for ever.
        """

    async def on_thread_stop(self) -> None:
        """Leave the group and end, whatever is under way."""
        await super(AIOKafkaConsumerThread, self).on_thread_stop()
        if self._consumer is not None:
            await leave(self._consumer, self.app.conf.id)

    async def _gather_remaining_tasks(self) -> None:
        """End what still runs in this thread."""
        await end(asyncio.all_tasks() - {asyncio.current_task()})

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
        leave_bare(consumer, cast("BatchTransport", self.transport).batching.__contains__)
        return await super()._fetch_records(
            consumer, active_partitions, timeout=timeout, max_records=max_records
        )


class BatchConsumer(RecordConsumer):
    """Faust's consumer, at another grain."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        transport = cast("BatchTransport", self.transport)
        self._batching = transport.batching
        self._sources: frozenset[str] = transport.batching.sources
        self._reading_from = transport.reading_from
        self._done: dict[TP, int] = {}
        self._begun: dict[TP, int] = {}

    def caught_up(self, tp: TP) -> bool:
        """Everything in the partition, as far as the last fetch could see, is acknowledged."""
        end = self.highwater(tp)
        return end is not None and self._next(tp) >= end

    def begun_at(self, tp: TP) -> int | None:
        """The offset from which a source's partition is read since it was sought; None: yet to be."""
        return self._begun.get(tp)

    def _next(self, tp: TP) -> int:
        return self._done.get(tp) or self._committed_offset[tp] or 0

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109
        """Fetch; from sources only when Faust is done with a rebalance.

        When the tables have recovered, Faust seeks to the committed offsets, and then empties the agents'
        queues. What is fetched in between would be lost; and whoever waits to put more into a queue that
        is emptied waits for ever.
        """
        if active_partitions is not None and self.app.rebalancing:
            active_partitions = {tp for tp in active_partitions if tp.topic not in self._sources}
            if not active_partitions:  # which Kafka's client would take for all
                await self.sleep(_REBALANCING_PAUSE)
                return {}
        return await super()._getmany(active_partitions, timeout)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109  # Faust's signature
        """The next fetches, as messages."""
        records_of, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records_of is None or self.should_stop:
            return
        if not self.flow_active:
            await self._seek_again()
            return
        sources = [tp for tp in records_of if tp.topic in self._sources]
        parts = together.parts([records_of[tp] for tp in sources])
        early = False
        for tp, records in {**records_of, **dict(zip(sources, parts, strict=True))}.items():
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                continue
            if tp.topic in self._sources and self.app.rebalancing:
                early = True  # asked for before the rebalance, answered in the midst of it
                continue
            for message in self._messages(tp, records):
                if not self.flow_active or self.app.consumer_generation_id != generation:
                    return
                yield tp, message
        if early:
            await self._seek_again()

    async def _seek_again(self) -> None:
        """What was fetched is not handed over: it has to come again."""
        with suppress(IllegalStateError):  # the partitions have gone, and are sought when they come back
            await self.perform_seek()

    async def perform_seek(self) -> None:
        """Go back to the committed offsets of the sources, or to where they are to be read from again.

        Where nothing is committed yet, that is the beginning: Faust would stay where it is, and what was
        fetched and dropped would be lost.
        """
        await super().perform_seek()
        sources = {tp for tp in self.assignment() if tp.topic in self._sources}
        if not sources:
            return
        earliest = await self.earliest_offsets(*sources)
        for tp in sources:
            committed = max(self._committed_offset[tp] or 0, earliest[tp])  # retention may have passed it
            self._begun[tp] = max(self._reading_from(tp, committed), earliest[tp])
            self._read_offset[tp] = None
        await self.seek_wait({tp: self._begun[tp] for tp in sources})

    def _messages(self, tp: TP, records: Sequence[Any]) -> list[Message]:
        if tp.topic not in self._batching:
            return [self._to_message(tp, record) for record in records]
        if not records:
            return []
        last = records[-1]
        return [
            ConsumerMessage(
                tp.topic,
                tp.partition,
                last.offset,
                last.timestamp / 1000,
                last.timestamp_type,
                headers=None,
                key=None,
                value=cast("Any", records),
                checksum=None,
                tp=tp,
                generation_id=self.app.consumer_generation_id,
            )
        ]

    def ack(self, message: Message) -> bool:
        """Acknowledge a message; of a source, with all that came before it.

        Faust acknowledges what a stream passes over when a rebalance has begun, too. That is not done.
        """
        if message.topic in self._sources and self._is_passed_over(message):
            return False
        acked = bool(super().ack(message))
        if message.topic in self._sources:
            self._done[message.tp] = message.offset + 1
        return acked

    def _is_passed_over(self, message: Message) -> bool:
        in_time = message.generation_id == self.app.consumer_generation_id
        return not (in_time and self.app.flow_control.is_active())

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic not in self._sources:
            offset: int | None = super()._new_offset(tp)
            return offset
        acked = self._acked[tp]
        if not acked:
            return None
        through: int = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return through + 1

    def on_buffer_full(self, tp: TP) -> None:
        """Go on: a fetch that finds the stream busy waits in line, and so do those behind it.

        Faust would leave the partition out of the next fetches, and sleep a second once all are left out.
        """

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if tp.topic not in self._sources:
            await super()._add_gap(tp, offset_from, offset_to)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what was acknowledged in partitions that are going away."""
        for tp in revoked:
            self._done.pop(tp, None)
            self._begun.pop(tp, None)
        await super().on_partitions_revoked(revoked)


class BatchTransport(RecordTransport):
    """Faust's Kafka transport, at another grain."""

    Consumer: ClassVar[type[BatchConsumer]] = BatchConsumer

    def __init__(
        self, url: URL, app: faust.App, batching: Batching, reading_from: ReadingFrom = _committed
    ) -> None:
        super().__init__([url], app, loop=None)
        self.batching = batching
        self.reading_from = reading_from


class Records(faust.Schema[Any, Any]):
    """For a topic read by the fetch: hand the list of records through. Decoding is the agent's.

    A record has `offset`, `timestamp` (milliseconds), `key` and `value`.
    """

    def loads_key(self, app: AppT, message: Message, *, loads: Any = None, serializer: Any = None) -> Any:
        """None: each record has its own."""
        return message.key

    def loads_value(self, app: AppT, message: Message, *, loads: Any = None, serializer: Any = None) -> Any:
        """The list of records."""
        return message.value
