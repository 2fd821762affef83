"""Topics that are read without a consumer group: by everybody, from wherever each begins, for ever."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, NoReturn

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from clients.kafka.consumers import consuming
from clients.kafka.failures import is_away
from clients.kafka.partitions import administering, partitions
from clients.kafka.tasks import ended_task
from clients.retry import keeping_up

log = logging.getLogger(__name__)

Offsets = Mapping[TopicPartition, int]
Records = Mapping[TopicPartition, Sequence[Any]]
"""What a fetch has brought, as aiokafka's ConsumerRecords."""
Start = Callable[[AIOKafkaConsumer, Sequence[TopicPartition]], Awaitable[Offsets]]
"""Where partitions that have not been read yet are to be read from."""

_LOOK_AGAIN_S: Final = 1.0
_NEW_PARTITIONS_S: Final = 30.0


class FollowingEndedError(Exception):
    """What was waited for is not read any more: whoever follows the topic has ended."""


class _TakingError(Exception):
    """Wraps what `take` has raised, so that nobody takes it for an answer of Kafka."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


async def earliest(consumer: AIOKafkaConsumer, unread: Sequence[TopicPartition]) -> Offsets:
    """From the first record that is still there."""
    found: Offsets = await consumer.beginning_offsets(unread)
    return found


def since(when_ms: Callable[[str], int]) -> Start:
    """From the first record that is not older than what is said of its topic, in milliseconds since 1970."""

    async def start(consumer: AIOKafkaConsumer, unread: Sequence[TopicPartition]) -> Offsets:
        found = await consumer.offsets_for_times({place: when_ms(place.topic) for place in unread})
        ends = await consumer.end_offsets(unread)
        return {
            place: ends[place] if (there := found.get(place)) is None else there.offset for place in unread
        }

    return start


class Follower:
    """Follows all partitions of topics, new ones too. Kafka may come and go; what was read stays read.

    `take` is given what has come, several times a second, also when nothing has: the next records are
    fetched when it returns. What it raises ends `run`. `on_caught_up` is called once. `settings` are those
    of the consumer.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Collection[str],
        take: Callable[[Records], Awaitable[None]],
        *,
        start: Start = earliest,
        on_caught_up: Callable[[], None] = lambda: None,
        poll_ms: int = 250,
        most_records: int | None = None,
        **settings: Any,
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = frozenset(topics)
        self._name = ", ".join(sorted(topics))
        self._take = take
        self._start = start
        self._on_caught_up = on_caught_up
        self._poll_ms = poll_ms
        self._most_records = most_records
        self._settings = settings
        self._moved = asyncio.Condition()
        self._ended = False
        self.positions: dict[TopicPartition, int] = {}
        """The offset that each partition is to be read from next: it passes over markers of transactions,
        and over what compaction has removed."""
        self.failure: str | None = f"not read yet: {self._name}"
        """Why the topics are not being read; None while they are."""
        self.caught_up = False
        """All that could be read at the start has been read.

        That is what the position says, held against the end that a consumer of committed records is told:
        where the first transaction lies that was open then, or the end of the log. What such a transaction
        holds is not waited for.
        """

    async def run(self) -> NoReturn:
        """Follow until cancelled. Raises what `take` raises; `failure` says that it has ended, and why."""
        try:
            while True:
                await keeping_up(self._session, passes=is_away, failed=self._failed)
        except _TakingError as raised:
            self.failure = self._last_words(raised.error)
            raise raised.error from None
        except BaseException as error:
            self.failure = self._last_words(error)
            raise
        finally:
            self._ended = True
            async with self._moved:
                self._moved.notify_all()

    async def ready(self) -> None:
        """Return when it has caught up. Raises FollowingEndedError."""
        await self._until(lambda: self.caught_up)

    async def reached(self, place: TopicPartition, offset: int) -> None:
        """Return when the record at `offset` has been read. Raises FollowingEndedError."""
        await self._until(lambda: self.positions.get(place, 0) > offset)

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: self._ended or reached())
        if not reached():
            raise FollowingEndedError(self.failure or f"{self._name} is not followed any more")

    async def _session(self) -> None:
        """Follow until there are other partitions, or Kafka is away."""
        async with (
            administering(self._bootstrap) as admin,
            consuming(self._bootstrap, **self._settings) as consumer,
        ):
            places = await self._places(admin)
            await self._assign(consumer, places)
            target: Offsets = await consumer.end_offsets(places)
            looked_at = time.monotonic()
            while True:
                await self._poll(consumer, places, target)
                if time.monotonic() - looked_at > _NEW_PARTITIONS_S:
                    looked_at = time.monotonic()
                    if await partitions(admin, self._topics) != places:
                        return

    async def _places(self, admin: AIOKafkaAdminClient) -> list[TopicPartition]:
        """All partitions, once all topics exist."""
        while True:
            places = await partitions(admin, self._topics)
            missing = self._topics - {place.topic for place in places}
            if not missing:
                return places
            named = ", ".join(sorted(missing))
            self.failure = f"awaiting topics that don't exist yet (chatgauge topics creates them): {named}"
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _assign(self, consumer: AIOKafkaConsumer, places: Sequence[TopicPartition]) -> None:
        consumer.assign(places)
        if unread := [place for place in places if place not in self.positions]:
            self.positions |= await self._start(consumer, unread)
        for place in places:
            consumer.seek(place, self.positions[place])

    async def _poll(
        self, consumer: AIOKafkaConsumer, places: Sequence[TopicPartition], target: Offsets
    ) -> None:
        if (ended := ended_task(consumer)) is not None:
            raise KafkaError(ended)
        fetched = await consumer.getmany(timeout_ms=self._poll_ms, max_records=self._most_records)
        try:
            await self._take(fetched)
        except Exception as error:
            raise _TakingError(error) from error
        self.failure = None
        for place in places:
            self.positions[place] = await consumer.position(place)
        if not self.caught_up and all(self.positions[place] >= target[place] for place in places):
            self.caught_up = True
            self._on_caught_up()
        async with self._moved:
            self._moved.notify_all()

    def _failed(self, error: Exception, number: int, wait: float) -> None:
        self.failure = f"Kafka at {self._bootstrap} does not answer ({_named(error)})"
        log.warning("%s: %s; attempt %d in %.1f s", self._name, self.failure, number, wait)

    def _last_words(self, error: BaseException) -> str:
        return f"not followed any more: {self._name} ({_named(error)})"


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


async def read_range(
    bootstrap: str, place: TopicPartition, begin: int, end: int, *, within_s: float
) -> list[Any]:
    """The committed records of a partition from offset `begin` to before `end`, as aiokafka's.

    There may be fewer than offsets. Raises KafkaError, and TimeoutError when they are not there in time:
    a transaction that is still open holds back what lies behind it.
    """
    found: list[Any] = []
    async with asyncio.timeout(within_s), consuming(bootstrap) as consumer:
        consumer.assign([place])
        consumer.seek(place, begin)
        while await consumer.position(place) < end:
            fetched = await consumer.getmany(place, timeout_ms=500)
            found += [record for record in fetched.get(place, ()) if record.offset < end]
    return found
