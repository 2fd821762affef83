"""Follows the topics that endpoints subscribe to, and turns their events into notifications.

A plain consumer group: nothing is kept but its offsets, which are committed after the notifications are
durable; what is read again after a crash gives the same notifications again. It runs only while some enabled
endpoint subscribes to events.

Where it begins: at what it has committed; and where somebody subscribes to a topic that nobody did before,
at the moment of the subscription.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final

import numpy as np
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from clients.kafka.consumers import new_consumer
from clients.kafka.failures import AWAY
from clients.kafka.publisher import Message, Publisher
from clients.kafka.sizes import LARGEST_FETCH
from clients.retry import keeping_up
from schemas.codec import Codec
from schemas.columnar import ColumnarReader, refuse_future
from schemas.contract import schema
from schemas.errors import RefusedError, RegistryUnavailableError, SchemaError
from schemas.registry import SchemaRegistry
from schemas.time import Micros, clock, micros_of
from schemas.topics import CLOSED, NOTIFICATIONS, REQUESTS, SPANS
from schemas.validity import refuse_invalid
from streams.notifications import metrics
from streams.notifications.definitions import Definitions
from streams.notifications.subscriptions import Notification, Subscriptions
from streams.windows.block import read_rows

log = logging.getLogger(__name__)

GROUP: Final = "chatgauge-subscriptions"
_EVENTS: Final = {REQUESTS.name: "RequestEvent", SPANS.name: "SpanEvent"}
_TIMES: Final = ("watermark", "pane_start", "pane_end")
_AWAY: Final = (*AWAY, RegistryUnavailableError)
_FETCH_MS: Final = 200
_MOST_RECORDS: Final = 5_000
_FETCH_BYTES: Final = 2 * 1024 * 1024


class EventReader:
    """Reads the topics that can be subscribed to."""

    def __init__(self, registry: SchemaRegistry | None) -> None:
        self._columns = {
            topic: ColumnarReader(schema(record), registry=registry) for topic, record in _EVENTS.items()
        }
        self._closed = Codec(schema("ClosedPane"), registry)

    def notifications(
        self, topic: str, partition: int, records: list[Any], subscriptions: Subscriptions, now: Micros
    ) -> list[Notification]:
        """What there is to be told of records of one partition. What can't be read is counted."""
        metrics.SUBSCRIPTION_EVENTS.labels(topic).inc(len(records))
        if topic in _EVENTS:
            return self._of_events(topic, partition, records, subscriptions, now)
        return [each for record in records for each in self._of_share(partition, record, subscriptions, now)]

    def _of_events(
        self, topic: str, partition: int, records: list[Any], subscriptions: Subscriptions, now: Micros
    ) -> list[Notification]:
        offsets = np.fromiter((record.offset for record in records), np.int64, len(records))
        arrived = np.fromiter((record.timestamp for record in records), np.int64, len(records)) * 1000
        batch = refuse_future(self._columns[topic].read([each.value for each in records], offsets), arrived)
        batch = refuse_invalid(batch, _EVENTS[topic])
        metrics.UNREADABLE.labels(topic).inc(len(batch.refused))
        return subscriptions.events(topic, partition, batch.frame, now)

    def _of_share(
        self, partition: int, record: Any, subscriptions: Subscriptions, now: Micros
    ) -> list[Notification]:
        try:
            share = self._closed.decode(record.value or b"")
            if not subscriptions.may_mean(share):
                return []
            rows = read_rows(share["rows"], share["grouping"])
        except (SchemaError, RefusedError) as error:
            if isinstance(error, RegistryUnavailableError):
                raise
            metrics.UNREADABLE.labels(CLOSED.name).inc()
            log.error("%s, partition %d, offset %d: %s", CLOSED.name, partition, record.offset, error)
            return []
        share |= {name: micros_of(share[name]) for name in _TIMES}
        return subscriptions.closed(partition, record.offset, share, rows, now)


class Subscribing:
    """Runs from `start` to `stop`; Kafka may come and go."""

    def __init__(
        self,
        bootstrap: str,
        definitions: Definitions,
        public_url: str,
        registry: SchemaRegistry | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._definitions = definitions
        self._public_url = public_url
        self._reader = EventReader(registry)
        self._codec = Codec(schema("Notification"), registry)
        self._subscriptions = Subscriptions((), public_url)
        self._since: dict[str, Micros] = {}
        """Since when somebody subscribes to a topic that nobody had subscribed to before."""
        self._changed = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running event loop, with what is set up; the definitions have been read."""
        self._subscriptions = self._wanted()
        self._definitions.listen(self._redefine)
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End; a batch under way is read again by whoever comes next."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None

    def _wanted(self) -> Subscriptions:
        return Subscriptions(self._definitions.endpoints.values(), self._public_url)

    def _redefine(self) -> None:
        before, self._subscriptions = self._subscriptions, self._wanted()
        topics = self._subscriptions.topics
        for topic in topics - before.topics:
            self._since[topic] = self._subscribed_at(topic)
        if topics != before.topics:
            self._changed.set()

    def _subscribed_at(self, topic: str) -> Micros:
        subscribers = self._subscriptions.subscribers(topic)
        return min(map(self._definitions.endpoint_changed_at, subscribers), default=clock())

    async def _run(self) -> None:
        await keeping_up(self._as_wanted, passes=lambda error: True, failed=self._failed)

    async def _as_wanted(self) -> None:
        while True:
            self._changed.clear()
            topics = self._subscriptions.topics
            metrics.SUBSCRIBED.set(len(topics))
            if topics:
                await self._follow(topics)
            else:
                await self._changed.wait()

    def _failed(self, error: Exception, number: int, wait: float) -> None:
        # Whatever it is: alerts, which share the process, don't depend on it.
        expected = isinstance(error, _AWAY)
        metrics.SUBSCRIPTION_FAILURES.inc()
        log.log(
            logging.WARNING if expected else logging.ERROR,
            "events aren't followed (%s: %s); attempt %d in %.1f s",
            *(type(error).__name__, error, number, wait),
            exc_info=None if expected else error,
        )

    async def _follow(self, topics: Collection[str]) -> None:
        """Follow the topics until others are wanted."""
        async with contextlib.AsyncExitStack() as stack:
            publisher = Publisher(self._bootstrap, max_request_size=LARGEST_FETCH)
            stack.push_async_callback(publisher.stop)
            consumer = new_consumer(
                self._bootstrap,
                group_id=GROUP,
                auto_offset_reset="latest",
                session_timeout_ms=10_000,
                heartbeat_interval_ms=3_000,
                max_partition_fetch_bytes=_FETCH_BYTES,
            )
            stack.push_async_callback(consumer.stop)
            beginning = _Beginning(lambda places: self._begin(consumer, places))
            consumer.subscribe(sorted(topics), listener=beginning)
            await consumer.start()
            while not self._changed.is_set():
                await beginning.wait()
                batches = await consumer.getmany(timeout_ms=_FETCH_MS, max_records=_MOST_RECORDS)
                if not beginning.over:
                    continue  # the partitions are assigned anew meanwhile, and read from where they begin
                for place, records in batches.items():
                    made = self._reader.notifications(
                        place.topic, place.partition, records, self._subscriptions, clock()
                    )
                    await self._send(publisher, made)
                if batches:
                    await consumer.commit({place: each[-1].offset + 1 for place, each in batches.items()})

    async def _send(self, publisher: Publisher, made: Iterable[Notification]) -> None:
        messages = []
        for each in made:
            metrics.NOTIFICATIONS.labels(each["type"]).inc()
            key = each["endpoint_id"].encode()
            messages.append(Message(NOTIFICATIONS.name, self._codec.encode(each), key))
        await publisher.publish(messages)

    async def _begin(self, consumer: AIOKafkaConsumer, places: Iterable[TopicPartition]) -> None:
        """Seek where each partition begins, and put it on record."""
        positions: dict[TopicPartition, int] = {}
        for place in places:
            committed = await consumer.committed(place)
            since = self._since.get(place.topic)
            if committed is not None and since is None:
                continue
            if since is None:
                since = self._subscribed_at(place.topic)
            # Kafka's times are whole milliseconds: what came within that of the subscription came before.
            after = since // 1000 + 1
            found: Mapping[TopicPartition, Any] = await consumer.offsets_for_times({place: after})
            there = found[place]
            begin = there.offset if there else (await consumer.end_offsets([place]))[place]
            positions[place] = max(begin, committed or 0)
            consumer.seek(place, positions[place])
        if positions:
            await consumer.commit(positions)


class _Beginning(ConsumerRebalanceListener):  # type: ignore[misc]
    """Nothing is to be read before every assigned partition has begun.

    aiokafka doesn't see to that: it fetches while a listener is at work (what is then read and committed,
    the listener's own commit would take back), and only logs what a listener raises.
    """

    def __init__(self, begin: Callable[[list[TopicPartition]], Awaitable[None]]) -> None:
        self._begin = begin
        self._over = asyncio.Event()
        self._failure: Exception | None = None

    @property
    def over(self) -> bool:
        """Whether all have begun."""
        return self._over.is_set() and self._failure is None

    async def wait(self) -> None:
        """Return when all have begun. Raises what hindered them."""
        await self._over.wait()
        if self._failure is not None:
            raise self._failure

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """What was read of them is sent; it is committed, or read again."""
        self._over.clear()

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        """Seek where each begins."""
        try:
            await self._begin(assigned)
        except Exception as error:
            self._failure = error
        finally:
            self._over.set()
