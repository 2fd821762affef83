"""Publishing whole batches to Kafka, keyed as the SDK keys them.

aiokafka's `send` costs some 30 µs a message, most of it for a future of its own. Here messages are packed
into one record batch per partition, so the key's partition is computed here too: by Kafka's own rule
(murmur2), so that a user's events meet in one partition whoever sent them.
"""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from types import TracebackType
from typing import Self

from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from clients.kafka.producers import new_producer
from schemas.topics import REQUESTS, SAMPLES, SPANS
from traffic.errors import KafkaUnavailableError, MissingTopicError

_BATCH_BYTES = 512 * 1024
_MOST_IN_FLIGHT = 32

EVENT_TOPICS = (REQUESTS.name, SPANS.name, SAMPLES.name)


@lru_cache(maxsize=500_000)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Kafka's default partitioner has it."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


class Publisher:
    """An idempotent producer (acks=all) of batches; use it as an async context manager.

    At most 32 batches of 512 KiB are on their way at once: `send` waits for room. Messages of one
    partition keep the order in which they were given.
    """

    def __init__(self, bootstrap: str, topics: Sequence[str] = EVENT_TOPICS, timeout: float = 30) -> None:
        self._bootstrap = bootstrap
        self._timeout = timeout
        self._topics = topics
        self._partitions: dict[str, int] = {}
        self._in_flight: set[asyncio.Future[object]] = set()
        self._failure: BaseException | None = None
        self.acknowledged = 0
        """Messages that Kafka has confirmed."""

    async def __aenter__(self) -> Self:
        self._producer = new_producer(
            self._bootstrap,
            client_id="chatgauge-traffic",
            enable_idempotence=True,
            max_batch_size=_BATCH_BYTES,
            request_timeout_ms=int(self._timeout * 1_000),
        )
        try:
            await self._producer.start()
            cluster = await self._producer.client.fetch_all_metadata()
        except KafkaConnectionError as error:
            await self._producer.stop()
            raise KafkaUnavailableError(
                f"Kafka does not answer at {self._bootstrap}: start it with `chatgauge up`, "
                "or say where it is with CHATGAUGE_KAFKA_BOOTSTRAP"
            ) from error
        self._partitions = {name: len(cluster.partitions_for_topic(name) or ()) for name in self._topics}
        missing = [name for name, partitions in self._partitions.items() if not partitions]
        if missing:
            await self._producer.stop()
            raise MissingTopicError(
                f"Kafka at {self._bootstrap} has no topic {', '.join(missing)}: "
                "create the topics with `chatgauge topics`"
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            await self._producer.stop()

    async def send(self, topic: str, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Hand over messages; returns when they are packed and under way, not yet confirmed.

        Raises KafkaUnavailableError when Kafka has refused, or not confirmed, earlier ones.
        """
        partitions = self._partitions[topic]
        builders: dict[int, BatchBuilder] = {}
        for key, value in zip(keys, values, strict=True):
            partition = partition_of(key, partitions)
            builder = builders.get(partition)
            if builder is None:
                builder = builders[partition] = self._producer.create_batch()
            if builder.append(key=key, value=value, timestamp=None) is None:
                await self._submit(builder, topic, partition)
                builder = builders[partition] = self._producer.create_batch()
                builder.append(key=key, value=value, timestamp=None)
        for partition, builder in builders.items():
            await self._submit(builder, topic, partition)

    async def flush(self) -> None:
        """Wait until Kafka has confirmed everything. Raises KafkaUnavailableError if it doesn't."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)
        self._raise_failure()

    async def _submit(self, builder: BatchBuilder, topic: str, partition: int) -> None:
        while len(self._in_flight) >= _MOST_IN_FLIGHT:
            await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
        self._raise_failure()
        builder.close()
        records = builder.record_count()
        try:
            confirmed = await self._producer.send_batch(builder, topic, partition=partition)
        except KafkaError as error:
            self._failure = error
            self._raise_failure()
        self._in_flight.add(confirmed)
        confirmed.add_done_callback(lambda done: self._settle(done, records))

    def _settle(self, done: "asyncio.Future[object]", records: int) -> None:
        self._in_flight.discard(done)
        if done.cancelled():
            return
        if error := done.exception():
            self._failure = error
        else:
            self.acknowledged += records

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise KafkaUnavailableError(
                f"Kafka at {self._bootstrap} did not confirm what was sent: {self._failure!r}; "
                f"{self.acknowledged:,} messages are confirmed"
            ) from self._failure
