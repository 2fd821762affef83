"""What people have set up: rules, endpoints, silences. A compacted topic of Definitions, followed whole."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.errors import SchemaError
from schemas.topics import Topic
from streams.definitions import Definition, decode

log = logging.getLogger(__name__)

_AGAIN_S: Final = 1.0
_FETCH_MS: Final = 100


class Catalogue:
    """The present definitions of a topic, by id. Kafka may come and go; what was read stays.

    `async with catalogue:` follows the topic meanwhile. `on_change` is called, in the event loop, whenever
    definitions have changed.
    """

    def __init__(self, bootstrap: str, topic: Topic, on_change: Callable[[], None] | None = None) -> None:
        self._bootstrap = bootstrap
        self._place = TopicPartition(topic.name, 0)
        self._items: dict[str, Definition] = {}
        self._on_change = on_change
        self._position = 0
        self._moved = asyncio.Condition()
        self._caught_up = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self.failure: str | None = f"{topic.name} has not been read yet"
        """Why it is not being followed; None while it is."""
        self.unreadable = 0
        """Records that could not be read."""

    @property
    def items(self) -> Mapping[str, Definition]:
        """The present definitions by id."""
        return MappingProxyType(self._items)

    async def __aenter__(self) -> "Catalogue":
        self._following = asyncio.create_task(self._follow(), name=f"following {self._place.topic}")
        self._following.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    @property
    def task(self) -> "asyncio.Task[None]":
        """The task that follows the topic, within `async with`."""
        if self._following is None:
            raise RuntimeError(f"{self._place.topic} is not being followed")
        return self._following

    async def ready(self) -> None:
        """Return when everything has been read that was there at the start."""
        await self._caught_up.wait()

    async def reached(self, offset: int) -> None:
        """Return when the record at `offset` has been read: whoever wrote it reads it."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._position > offset)

    async def _follow(self) -> None:
        while True:
            try:
                await self._read()
            except (KafkaError, OSError, TimeoutError) as error:
                self.failure = f"{self._place.topic}: Kafka does not answer ({type(error).__name__}: {error})"
                log.warning("%s", self.failure)
            await asyncio.sleep(_AGAIN_S)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        self.failure = f"{self._place.topic} is no longer followed" + (f" ({error!r})" if error else "")

    async def _read(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_FETCH_MS,
        )
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(consumer.stop)
            await consumer.start()
            consumer.assign([self._place])
            consumer.seek(self._place, self._position)
            end = (await consumer.end_offsets([self._place]))[self._place]
            while True:
                batches = await consumer.getmany(timeout_ms=_FETCH_MS)
                self._take([record for batch in batches.values() for record in batch])
                self.failure = None
                position = await consumer.position(self._place)
                async with self._moved:
                    self._position = position
                    self._moved.notify_all()
                if position >= end:
                    self._caught_up.set()

    def _take(self, records: list[Any]) -> None:
        for record in records:
            try:
                key = record.key.decode()
                if record.value is None:
                    self._items.pop(key, None)
                else:
                    self._items[key] = decode(record.value)
            except (SchemaError, ValueError, AttributeError) as error:
                self.unreadable += 1
                log.error("%s, offset %d: %s; it is ignored", self._place.topic, record.offset, error)
        if records and self._on_change is not None:
            self._on_change()
