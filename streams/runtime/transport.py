"""A Faust transport that hands over whole fetches: one event is one partition's list of records.

Assignment, commits, tables and recovery stay Faust's. What changes, for the sources and the changelogs
that ask for it: a fetch of a partition becomes one event, whose value is a `Fetch` of record batches and
whose offset is the last that it covers; and acknowledging it acknowledges everything before it. That rests on
one stream taking a topic's events in order (agents of concurrency 1), and on internals of
faust-streaming and aiokafka, hence on their pinned versions.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Protocol, cast

import faust
from aiokafka.errors import IllegalStateError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as RecordConsumer
from faust.transport.drivers.aiokafka import Transport as RecordTransport
from faust.types import TP, AppT, Message
from faust.types.tuples import ConsumerMessage
from yarl import URL

from clients.kafka.fetched import Fetched
from infra.liveness import Part
from streams.runtime.consumer_thread import COMMIT_WITHIN_S, Batching, ConsumerThread
from streams.runtime.fetch import Fetch

_LOG_APPEND_TIME = 1
"""The type of timestamp that messages are given: nobody asks for it."""
_REBALANCING_PAUSE = 0.05
"""Seconds between two looks whether a rebalance is over."""


class Reading(Protocol):
    """What says how the partitions of the sources and the changelogs are read."""

    async def expect(self, assigned: frozenset[int]) -> Collection[int]:
        """These partitions of the source are assigned; those of the changelog that are to be read whole."""
        ...

    def reading_from(self, tp: TP, committed: int) -> int:
        """From which offset on a source's partition is read; what is before `committed` is acknowledged."""
        ...


class BatchConsumer(RecordConsumer):
    """Faust's consumer, at another grain."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        transport = cast("BatchTransport", self.transport)
        self._batching = transport.batching
        self._sources: frozenset[str] = transport.batching.sources
        self._reading = transport.reading
        self._done: dict[TP, int] = {}
        self._begun: dict[TP, int] = {}
        self._notes: dict[TP, str] = {}

    def caught_up(self, tp: TP) -> bool:
        """Everything in the partition, as far as the last fetch could see, is acknowledged.

        A fetch reaches as far as the consumer's position, which passes what holds no records: the marker
        of a transaction, and what was aborted.
        """
        end = self.highwater(tp)
        return end is not None and self._next(tp) >= end

    async def committed_notes(self, places: Collection[TP]) -> dict[TP, str]:
        """What is committed with the offsets of these partitions of sources; from now on, with each."""
        found = await self._consumer_thread.committed_notes(places)
        self._notes.update({tp: found.get(tp, "") for tp in places})
        return found

    async def commit_note(self, tp: TP, note: str) -> bool:
        """Commit a note with the offset of a partition, now and from now on.

        False when Kafka refuses it, as the group has a newer generation. Raises KafkaError or TimeoutError
        when it may be committed or not.
        """
        generation = self.app.consumer_generation_id
        async with asyncio.timeout(COMMIT_WITHIN_S):
            committed = (await self._consumer_thread.committed_offsets([tp])).get(tp)
            if committed is None:
                committed = (await self.earliest_offsets(tp))[tp]
        self._notes[tp] = note
        if await self._consumer_thread.commit_note(tp, committed, note, generation):
            return True
        self._notes.pop(tp, None)
        return False

    def note_of(self, tp: TP) -> str | None:
        """What is committed with the offsets of a partition. None: it isn't known, and must not be lost."""
        return self._notes.get(tp)

    @property
    def _consumer_thread(self) -> "ConsumerThread":
        return cast("ConsumerThread", self._thread)

    async def has_work(self, places: Collection[TP]) -> bool:
        """Whether in any of these partitions of sources something can be read that has not been fetched.

        Asks Kafka, as a consumer that fetches nothing any more doesn't know. What an open transaction holds
        back can't be read. Raises KafkaError.
        """
        ends = await self.highwaters(*places)
        positions = {tp: await self.position(tp) for tp in places}
        return any((ends[tp] or 0) > (positions[tp] or 0) for tp in places)

    def begun_at(self, tp: TP) -> int | None:
        """The offset from which a source's partition is read since it was sought; None: yet to be."""
        return self._begun.get(tp)

    def _next(self, tp: TP) -> int:
        # Where retention has passed what was committed, there is nothing before the place that was sought.
        known = self._done.get(tp), self._committed_offset[tp], self._begun.get(tp)
        return max((offset for offset in known if offset is not None), default=0)

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

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
        fetched_of, active = await self._wait_next_records(timeout)
        records_of = cast("Mapping[TP, list[Any]]", fetched_of)
        generation = self.app.consumer_generation_id
        if self.should_stop:
            return
        if not self.flow_active:
            await self._seek_again()
            return
        beside = [fetched for tp in records_of if tp.topic in self._sources for fetched in records_of[tp]]
        early = False
        for tp, records in records_of.items():
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                continue
            if tp.topic in self._sources and self.app.rebalancing:
                early = True  # asked for before the rebalance, answered in the midst of it
                continue
            for message in self._messages(tp, records, beside):
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
            self._begun[tp] = max(self._reading.reading_from(tp, committed), earliest[tp])
            self._read_offset[tp] = None
        await self.seek_wait({tp: self._begun[tp] for tp in sources})

    def _messages(self, tp: TP, records: Sequence[Any], beside: Sequence[Fetched]) -> list[Message]:
        if tp.topic not in self._batching:
            return [self._to_message(tp, record) for record in records]
        return [
            ConsumerMessage(
                tp.topic,
                tp.partition,
                fetched.next_offset - 1,
                fetched.batches[-1].max_timestamp / 1000 if fetched.batches else 0.0,
                _LOG_APPEND_TIME,
                headers=None,
                key=None,
                value=cast("Any", self._fetch(tp, fetched, beside)),
                checksum=None,
                tp=tp,
                generation_id=self.app.consumer_generation_id,
            )
            for fetched in records
        ]

    def _fetch(self, tp: TP, fetched: Fetched, beside: Sequence[Fetched]) -> Fetch:
        return Fetch(tp.topic, tp.partition, fetched, beside, self._batching.most_bytes)

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
            self._notes.pop(tp, None)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Before Faust recovers the changelogs: who owned them last, and what has to be read of them."""
        sources = frozenset(tp.partition for tp in assigned if tp.topic in self._sources)
        whole = set(await self._reading.expect(sources))
        recovered_to = cast("Any", self.app.tables).recovery.active_offsets
        for tp in assigned:
            if tp.topic in self._batching.changelogs and tp.partition in whole:
                recovered_to.pop(tp, None)  # else Faust goes on where it had come to
        await super().on_partitions_assigned(assigned, generation_id)


class BatchTransport(RecordTransport):
    """Faust's Kafka transport, at another grain."""

    Consumer: ClassVar[type[BatchConsumer]] = BatchConsumer

    def __init__(
        self, urls: list[URL], app: faust.App, batching: Batching, reading: Reading, part: Part
    ) -> None:
        super().__init__(urls, app)
        self.batching = batching
        self.reading = reading
        self.part = part


class Records(faust.Schema[Any, Any]):
    """For a topic read by the fetch: hand the `Fetch` through. Decoding is the agent's."""

    def loads_key(self, app: AppT, message: Message, *, loads: Any = None, serializer: Any = None) -> Any:
        """None: each record has its own."""
        return None

    def loads_value(self, app: AppT, message: Message, *, loads: Any = None, serializer: Any = None) -> Any:
        """The fetch."""
        return message.value
