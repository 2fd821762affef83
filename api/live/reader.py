"""From Kafka into the live state: `chat.windows` and `chat.usage`, as far back as held, and watermarks."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from api.live.coverage import Heartbeat
from api.live.live import Live, Record
from api.live.state import Limits
from api.times import Clock
from clients.kafka.partitions import partitions
from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import SchemaError
from schemas.time import MINUTE, SECOND, Micros, micros_of
from schemas.topics import CLOSED, USAGE, WINDOWS

_log = logging.getLogger(__name__)

_SLACK: Final[Micros] = 10 * MINUTE
"""An event may be five minutes ahead of the clock; a block is written after its events."""
_HEARTBEATS: Final[Micros] = 2 * MINUTE
_RETRY: Final = 1.0
_NEW_PARTITIONS: Final[Micros] = 30 * SECOND


class Reader:
    """Follows the topics without a consumer group: every API process holds all of them.

    Kafka may come and go; what was read stays. `failure` says why it is not reading, None while it is.
    """

    def __init__(self, bootstrap: str, live: Live, clock: Clock, limits: Limits | None = None) -> None:
        self._bootstrap = bootstrap
        self._live = live
        self._clock = clock
        self._limits = limits or Limits()
        self._closed = Codec(schema(CLOSED.record))
        self.positions: dict[TopicPartition, int] = {}
        """The offset that each partition is to be read from next."""
        self.failure: str | None = "Kafka has not been read yet"
        self.refused = 0
        """Records of `chat.closed` that could not be read."""

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError, TimeoutError) as error:
                self.failure = f"Kafka at {self._bootstrap} does not answer ({type(error).__name__}: {error})"
                _log.warning("%s", self.failure)
            await asyncio.sleep(_RETRY)

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=16 * 1024 * 1024,
            fetch_max_bytes=64 * 1024 * 1024,
        )
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(consumer.stop)
            await consumer.start()
            admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
            stack.push_async_callback(admin.close)
            await admin.start()
            places = await self._places(admin)
            await self._assign(consumer, places)
            target = await consumer.end_offsets(places)
            checked_at = self._clock()
            while True:
                batches = await consumer.getmany(timeout_ms=250)
                await self._take(batches)
                self.failure = None
                for place in places:
                    self.positions[place] = await consumer.position(place)
                if not self._live.caught_up and self._reached(target):
                    self._live.observe_caught_up()
                if self._clock() - checked_at >= _NEW_PARTITIONS:
                    checked_at = self._clock()
                    if await self._places(admin) != places:
                        return  # to begin again, with the new partitions

    async def _places(self, admin: AIOKafkaAdminClient) -> list[TopicPartition]:
        """All partitions of the topics, once all topics exist."""
        wanted = {WINDOWS.name, USAGE.name, CLOSED.name}
        while True:
            places = await partitions(admin, wanted)
            missing = wanted - {place.topic for place in places}
            if not missing:
                return places
            self.failure = f"awaiting the topics {', '.join(sorted(missing))} (chatgauge topics creates them)"
            await asyncio.sleep(_RETRY)

    async def _assign(self, consumer: AIOKafkaConsumer, places: Sequence[TopicPartition]) -> None:
        consumer.assign(places)
        unread = [place for place in places if place not in self.positions]
        now = self._clock()
        since = {
            WINDOWS.name: max(self._limits.minutes, self._limits.imported) + _SLACK,
            USAGE.name: self._limits.usage + _SLACK,
            CLOSED.name: _HEARTBEATS,
        }
        if unread:
            found = await consumer.offsets_for_times({p: (now - since[p.topic]) // 1000 for p in unread})
            ends = await consumer.end_offsets(unread)
            for place in unread:
                start = found.get(place)
                self.positions[place] = ends[place] if start is None else start.offset
        for place in places:
            consumer.seek(place, self.positions[place])

    def _reached(self, target: Mapping[TopicPartition, int]) -> bool:
        return all(self.positions[place] >= end for place, end in target.items())

    async def _take(self, batches: Mapping[TopicPartition, Sequence[Any]]) -> None:
        records = []
        for place, batch in batches.items():
            if place.topic == CLOSED.name:
                await self._hear(batch)
            else:
                records += [Record(record.key, record.value, record.timestamp * 1000) for record in batch]
        await self._live.apply(records, self._clock())

    async def _hear(self, batch: Sequence[Any]) -> None:
        heard = {}
        for record in batch:
            try:
                closed = self._closed.decode(record.value)
            except SchemaError:
                self.refused += 1
                continue
            heard[closed["table"], closed["partition"]] = Heartbeat(
                table=closed["table"],
                partition=closed["partition"],
                partitions=closed["partitions"],
                watermark=micros_of(closed["watermark"]),
                arrived_at=record.timestamp * 1000,
            )
        await self._live.observe_heartbeats(list(heard.values()))
