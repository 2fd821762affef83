"""What Kafka knows of the groups and topics, looked up again and again."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from api.health.progress import LIVE_STATE, Follower, Offsets, Progress, Sighting
from api.live.live import Live
from api.live.reader import Reader
from api.times import Clock
from clients.kafka.consumers import consuming, high_watermarks
from clients.kafka.failures import AWAY
from clients.kafka.notes import why_halted
from clients.kafka.partitions import administering, partitions
from schemas.topics import DEAD_LETTERS, REQUESTS

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """From where to where a partition can be read, and how many offsets an open transaction holds back."""

    begin: int
    end: int
    held_back: int


class Probe:
    """Observes every follower each `interval` seconds, and gives the live state the source partitions.

    Kafka may come and go: `failure` says why the last look failed, None when it succeeded.
    """

    def __init__(
        self,
        bootstrap: str,
        progress: Progress,
        live: Live,
        reader: Reader,
        clock: Clock,
        *,
        interval: float = 1.0,
    ) -> None:
        self._bootstrap = bootstrap
        self._progress = progress
        self._live = live
        self._reader = reader
        self._clock = clock
        self._interval = interval
        self.failure: str | None = "Kafka has not been looked at yet"
        self.dead_letters: int | None = None
        """How many dead letters there have ever been; None while unknown."""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self._look_on()
            except AWAY as error:
                self.failure = f"Kafka at {self._bootstrap} does not answer ({type(error).__name__}: {error})"
                _log.warning("%s", self.failure)
            await asyncio.sleep(self._interval)

    async def _look_on(self) -> None:
        async with (
            administering(self._bootstrap, request_timeout_ms=5_000) as admin,
            consuming(self._bootstrap, request_timeout_ms=5_000) as consumer,
        ):
            while True:
                await self._look(admin, consumer)
                self.failure = None
                await asyncio.sleep(self._interval)

    async def _look(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> None:
        followers = self._progress.followers
        topics = {f.topic for f in followers} | {REQUESTS.name, DEAD_LETTERS.name}
        bounds = await _bounds(consumer, await partitions(admin, topics))
        source = {tp.partition: found.end for tp, found in bounds.items() if tp.topic == REQUESTS.name}
        if source:
            empty = frozenset(partition for partition, end in source.items() if not end)
            await self._live.observe_partitions(len(source), empty)
        dead = [found.end for tp, found in bounds.items() if tp.topic == DEAD_LETTERS.name]
        self.dead_letters = sum(dead) if dead else None
        for follower in LIVE_STATE:
            read = Sighting(1, _partitions(follower.topic, bounds, self._reader.positions))
            self._progress.observe(follower, read, self._clock())
        groups = [follower for follower in followers if follower not in LIVE_STATE]
        members = await _members(admin, {f.group for f in groups})
        for follower in groups:
            sighting = await _sighting(admin, follower, bounds, members[follower.group])
            self._progress.observe(follower, sighting, self._clock())


async def _bounds(
    consumer: AIOKafkaConsumer, places: Sequence[TopicPartition]
) -> dict[TopicPartition, Bounds]:
    if not places:
        return {}
    begins = await consumer.beginning_offsets(places)
    # In this order: what comes in between is not held back.
    high = await high_watermarks(consumer, places)
    ends = await consumer.end_offsets(places)
    return {place: Bounds(begins[place], ends[place], max(0, high[place] - ends[place])) for place in places}


async def _members(admin: AIOKafkaAdminClient, groups: Iterable[str]) -> dict[str, int]:
    members: dict[str, int] = defaultdict(int)
    for name in sorted(groups):
        # One at a time: aiokafka 0.14 misreads an answer about several groups.
        for response in await admin.describe_consumer_groups([name]):
            for _error, group, _state, _type, _protocol, present, *_ in response.groups:
                members[group] = len(present)
    return members


async def _sighting(
    admin: AIOKafkaAdminClient, follower: Follower, bounds: Mapping[TopicPartition, Bounds], members: int
) -> Sighting:
    places = [place for place in bounds if place.topic == follower.topic]
    if not places:
        return Sighting(members, {})
    stored = await admin.list_consumer_group_offsets(follower.group, partitions=places)
    committed = {place: found.offset for place, found in stored.items() if found.offset >= 0}
    notes = {place: why_halted(found.metadata or "") for place, found in stored.items() if place in committed}
    return Sighting(members, _partitions(follower.topic, bounds, committed, notes))


def _partitions(
    topic: str,
    bounds: Mapping[TopicPartition, Bounds],
    committed: Mapping[TopicPartition, int],
    notes: Mapping[TopicPartition, str] = MappingProxyType({}),
) -> dict[int, Offsets]:
    return {
        place.partition: Offsets(
            committed.get(place), found.begin, found.end, notes.get(place, ""), found.held_back
        )
        for place, found in bounds.items()
        if place.topic == topic
    }
