"""How far every part has come, looked at several times a second, straight from the broker."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

_EVERY_S = 0.25
_WITHIN_S = 5.0
_FOREVER_MS = 3_600_000

Offsets = Mapping[int, int]
"""By partition."""


@dataclass(frozen=True)
class Look:
    """What the broker said when asked."""

    at: float = 0.0
    """When the asking began, by the monotonic clock."""
    ends: Mapping[str, Offsets] = field(default_factory=dict)
    """Of each topic."""
    acknowledged: Mapping[tuple[str, str], Offsets] = field(default_factory=dict)
    """Of each group and topic; a partition of which nothing is acknowledged is missing."""

    def has_passed(self, group: str, topic: str, ends: Offsets) -> bool:
        """Whether the group has acknowledged more than these ends, in every partition."""
        reached = self.acknowledged.get((group, topic), {})
        return all(reached.get(partition, 0) > end for partition, end in ends.items())

    def lag(self, group: str, topic: str, ends: Offsets | None = None) -> int:
        """Offsets that the group has still to acknowledge: before these ends, or those of the topic."""
        reached = self.acknowledged.get((group, topic), {})
        wanted = self.ends.get(topic, {}) if ends is None else ends
        return sum(max(0, end - reached.get(p, 0)) for p, end in wanted.items())


class Watch:
    """Looks, on a thread of its own, at the ends of topics and the acknowledgements of groups.

    `groups` are pairs of a group and the topic it reads. While the broker is away, the last look stays.
    """

    def __init__(self, bootstrap: str, groups: list[tuple[str, str]]) -> None:
        self._bootstrap = bootstrap
        self._groups = groups
        self._last = Look()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="watch", daemon=True)

    @property
    def last(self) -> Look:
        """The newest look."""
        return self._last

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(KafkaError, OSError, TimeoutError, RuntimeError):
                await self._look_on()
            await asyncio.sleep(_EVERY_S)

    async def _look_on(self) -> None:
        """Until the broker goes away."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap, request_timeout_ms=5_000)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            request_timeout_ms=5_000,
            metadata_max_age_ms=_FOREVER_MS,
        )
        try:
            await admin.start()
            await consumer.start()
            cluster = await consumer._client.fetch_all_metadata()
            places = [
                TopicPartition(topic, partition)
                for topic in sorted({topic for _, topic in self._groups})
                for partition in sorted(cluster.partitions_for_topic(topic) or ())
            ]
            while not self._stopping.is_set():
                async with asyncio.timeout(_WITHIN_S):
                    self._last = await self._look(admin, consumer, places)
                await asyncio.sleep(_EVERY_S)
        finally:
            await consumer.stop()
            await admin.close()

    async def _look(
        self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, places: list[TopicPartition]
    ) -> Look:
        at, acknowledged = time.monotonic(), {}
        for group, topic in self._groups:
            found = await admin.list_consumer_group_offsets(group)
            acknowledged[group, topic] = {
                place.partition: one.offset
                for place, one in found.items()
                if place.topic == topic and one.offset >= 0
            }
        ends: dict[str, dict[int, int]] = {}
        # After the acknowledgements: what is said to be acknowledged is never past the ends.
        for place, end in (await consumer.end_offsets(places)).items():
            ends.setdefault(place.topic, {})[place.partition] = end
        return Look(at, ends, acknowledged)
