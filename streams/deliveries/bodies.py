"""The notifications themselves, as chat.notifications has them: in memory within a bound, else read again.

The state has of a delivery where its notification lies, not what it says. What came lately is still in
memory when it is sent; a backlog, or what was open at a restart, is read again when it is due.
"""

import asyncio
import logging
from collections import OrderedDict
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from clients.kafka.consumers import consuming
from clients.kafka.failures import is_away
from clients.retry import keeping_up
from schemas.codec import Codec
from schemas.contract import schema
from schemas.topics import Topic
from streams.deliveries import metrics
from streams.deliveries.errors import BodyGoneError
from streams.deliveries.notification import Notification

log = logging.getLogger(__name__)

_CODEC: Final = Codec(schema("Notification"))
_OVERHEAD: Final = 200
_WAIT_MS: Final = 500
_FETCH: Final = 256 * 1024

Place = tuple[int, int]
"""Partition and offset."""


def read_notification(value: bytes) -> Notification:
    """The notification in a message's value. Raises SchemaError."""
    return Notification.of(_CODEC.decode(value))


class Bodies:
    """Holds at most `most` bytes of them, the latest used."""

    def __init__(self, bootstrap: str, topic: Topic, most: int) -> None:
        self._bootstrap = bootstrap
        self._topic = topic.name
        self._most = most
        self._held: OrderedDict[Place, bytes] = OrderedDict()
        self._asked: dict[Place, asyncio.Future[bytes]] = {}
        self._reading: asyncio.Task[None] | None = None
        self.nbytes = 0
        """How many are held."""

    def put(self, place: Place, value: bytes) -> None:
        """It is at hand."""
        self.drop(place)
        self._held[place] = value
        self.nbytes += len(value) + _OVERHEAD
        while self.nbytes > self._most:
            self.drop(next(iter(self._held)))

    def drop(self, place: Place) -> None:
        """It is not needed any more."""
        if (value := self._held.pop(place, None)) is not None:
            self.nbytes -= len(value) + _OVERHEAD

    async def get(self, place: Place) -> Notification:
        """The notification; waits while Kafka is away. Raises BodyGoneError."""
        value = self._held.get(place)
        if value is None:
            metrics.BODIES_READ.inc()
            asked = self._asked.get(place)
            if asked is None:
                asked = self._asked[place] = asyncio.get_running_loop().create_future()
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read())
            value = await asyncio.shield(asked)
        else:
            self._held.move_to_end(place)
        return read_notification(value)

    async def stop(self) -> None:
        """Read nothing more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        for asked in self._asked.values():
            asked.cancel()

    async def _read(self) -> None:
        while self._asked:
            await keeping_up(self._read_asked, passes=is_away, failed=self._failed)

    def _failed(self, error: Exception, number: int, wait: float) -> None:
        told = (self._topic, type(error).__name__, error, number, wait)
        log.warning("%s can't be read (%s: %s); attempt %d in %.1f s", *told)

    async def _read_asked(self) -> None:
        limits = {"max_partition_fetch_bytes": _FETCH, "fetch_max_wait_ms": _WAIT_MS}
        async with consuming(self._bootstrap, **limits) as consumer:
            while self._asked:
                await self._read_next(consumer)

    async def _read_next(self, consumer: AIOKafkaConsumer) -> None:
        """Read what lies at the first place that is asked for, and what a fetch brings with it."""
        partition, offset = min(self._asked)
        tp = TopicPartition(self._topic, partition)
        if consumer.assignment() != {tp}:
            consumer.assign([tp])
        consumer.seek(tp, offset)
        records = (await consumer.getmany(tp, timeout_ms=_WAIT_MS)).get(tp, [])
        if records and records[0].offset == offset:
            for record in records:
                self._came((partition, record.offset), record.value or b"")
        elif records or not await self._exists(consumer, tp, offset):
            self._gone((partition, offset))

    async def _exists(self, consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int) -> bool:
        begin, end = await consumer.beginning_offsets([tp]), await consumer.end_offsets([tp])
        return bool(begin[tp] <= offset < end[tp])

    def _came(self, place: Place, value: bytes) -> None:
        if (asked := self._asked.pop(place, None)) and not asked.done():
            asked.set_result(value)
        # What lies behind it is due soon, as often as not.
        self.put(place, value)

    def _gone(self, place: Place) -> None:
        asked = self._asked.pop(place)
        if not asked.done():
            asked.set_exception(
                BodyGoneError(
                    f"{self._topic} has no record at partition {place[0]}, offset {place[1]} any more"
                )
            )
