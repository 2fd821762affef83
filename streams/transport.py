"""A Faust transport that hands over whole fetches: one event is one partition's list of records.

Assignment, commits, tables and recovery stay Faust's. What changes, for the topics that ask for it:
a fetch of a partition becomes one event, whose value is the list of its records and whose offset is
the last one's; and acknowledging it acknowledges everything before it. That rests on one stream
taking a topic's events in order (agents of concurrency 1), and on internals of faust-streaming and
aiokafka, hence on their pinned versions.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, cast

import aiokafka
import faust
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as RecordConsumer
from faust.transport.drivers.aiokafka import Transport as RecordTransport
from faust.types import TP, AppT, Message
from faust.types.tuples import ConsumerMessage
from yarl import URL

from schemas.fetched import leave_bare

_REBALANCING_PAUSE = 0.05
"""Seconds between two looks whether a rebalance is over."""


@dataclass(frozen=True)
class Batching:
    """Which topics are handed over by the fetch, and how the broker gathers one."""

    topics: frozenset[str]
    linger: timedelta
    """How long the broker waits for a fetch to fill."""
    min_bytes: int
    """A fetch of this size is sent at once: under load, fetches are large, and nothing waits."""


class _ConsumerThread(AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: RecordTransport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        batching = cast("BatchTransport", transport).batching
        # Faust has no settings for these; the consumer reads them when it starts.
        consumer._fetch_max_wait_ms = batching.linger // timedelta(milliseconds=1)
        consumer._fetch_min_bytes = batching.min_bytes
        return consumer

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109  # Faust's signature
        max_records: int | None = None,
    ) -> Mapping[TP, list[Any]]:
        leave_bare(consumer, cast("BatchTransport", self.transport).batching.topics.__contains__)
        return await super()._fetch_records(
            consumer, active_partitions, timeout=timeout, max_records=max_records
        )


class BatchConsumer(RecordConsumer):
    """Faust's consumer, at another grain."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batched: frozenset[str] = cast("BatchTransport", self.transport).batching.topics
        self._done: dict[TP, int] = {}

    def caught_up(self, tp: TP) -> bool:
        """Everything in the partition, as far as the last fetch could see, is acknowledged."""
        end = self.highwater(tp)
        return end is not None and self._next(tp) >= end

    async def begun_at(self, tp: TP) -> int:
        """The offset from which the partition is read since it was assigned."""
        committed = self._committed_offset[tp]
        return (await self.earliest_offsets(tp))[tp] if committed is None else committed

    def _next(self, tp: TP) -> int:
        return self._done.get(tp) or self._committed_offset[tp] or 0

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109
        """Fetch; from batched topics only when Faust is done with a rebalance.

        When the tables have recovered, Faust seeks to the committed offsets, and then empties the agents'
        queues. What is fetched in between would be lost; and whoever waits to put more into a queue that
        is emptied waits for ever.
        """
        if active_partitions is not None and self.app.rebalancing:
            active_partitions = {tp for tp in active_partitions if tp.topic not in self._batched}
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
            await self.perform_seek()
            return
        early = False
        for tp, records in records_of.items():
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                continue
            if tp.topic in self._batched and self.app.rebalancing:
                early = True  # asked for before the rebalance, answered in the midst of it
                continue
            for message in self._messages(tp, records):
                if not self.flow_active or self.app.consumer_generation_id != generation:
                    return
                yield tp, message
        if early:
            await self.perform_seek()

    async def perform_seek(self) -> None:
        """Go back to the committed offsets; to the beginning, where nothing is committed yet.

        There, Faust would stay where it is, and what was fetched and dropped would be lost.
        """
        await super().perform_seek()
        assigned = {tp for tp in self.assignment() if tp.topic in self._batched}
        begun = {tp for tp in assigned if self._committed_offset[tp]}
        if fresh := assigned - begun:
            await self.seek_wait(await self.earliest_offsets(*fresh))

    def _messages(self, tp: TP, records: list[Any]) -> list[Message]:
        if tp.topic not in self._batched:
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
        """Acknowledge a message; of a batched topic, with all that came before it.

        Faust acknowledges what a stream passes over when a rebalance has begun, too. That is not done.
        """
        if message.topic in self._batched and self._is_passed_over(message):
            return False
        acked = bool(super().ack(message))
        if message.topic in self._batched:
            self._done[message.tp] = message.offset + 1
        return acked

    def _is_passed_over(self, message: Message) -> bool:
        in_time = message.generation_id == self.app.consumer_generation_id
        return not (in_time and self.app.flow_control.is_active())

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic not in self._batched:
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
        if tp.topic not in self._batched:
            await super()._add_gap(tp, offset_from, offset_to)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what was acknowledged in partitions that are going away."""
        for tp in revoked:
            self._done.pop(tp, None)
        await super().on_partitions_revoked(revoked)


class BatchTransport(RecordTransport):
    """Faust's Kafka transport, at another grain."""

    Consumer: ClassVar[type[BatchConsumer]] = BatchConsumer

    def __init__(self, url: URL, app: faust.App, batching: Batching) -> None:
        super().__init__([url], app, loop=None)
        self.batching = batching


class Records(faust.Schema[Any, Any]):
    """For a batched topic: hand the list of records through. Decoding is the agent's.

    A record has `offset`, `timestamp` (milliseconds) and `value`.
    """

    def loads_key(self, app: AppT, message: Message, *, loads: Any = None, serializer: Any = None) -> Any:
        """None: each record has its own."""
        return message.key

    def loads_value(self, app: AppT, message: Message, *, loads: Any = None, serializer: Any = None) -> Any:
        """The list of records."""
        return message.value
