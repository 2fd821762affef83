"""A compacted topic of definitions (rules, endpoints, silences), followed from its beginning."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from aiokafka import TopicPartition

from clients.kafka.follower import Follower, Records
from schemas.errors import SchemaError
from schemas.topics import Topic
from streams.definitions.definition import Definition, decode

log = logging.getLogger(__name__)

_FETCH_MS: Final = 100


class DefinitionTopic:
    """The present definitions of a topic, by id. Kafka may come and go; what was read stays.

    `async with topic:` follows it meanwhile. `on_change` is called, in the event loop, whenever
    definitions have changed; what it raises ends the following, and `failure` says so.
    """

    def __init__(self, bootstrap: str, topic: Topic, on_change: Callable[[], None] | None = None) -> None:
        self._place = TopicPartition(topic.name, 0)
        self._items: dict[str, Definition] = {}
        self._on_change = on_change
        self._follower = Follower(
            bootstrap, [topic.name], self._take, poll_ms=_FETCH_MS, fetch_max_wait_ms=_FETCH_MS
        )
        self._following: asyncio.Task[None] | None = None
        self.unreadable = 0
        """Records that could not be read."""

    @property
    def items(self) -> Mapping[str, Definition]:
        """The present definitions by id."""
        return MappingProxyType(self._items)

    @property
    def failure(self) -> str | None:
        """Why it is not being followed; None while it is."""
        return self._follower.failure

    async def __aenter__(self) -> "DefinitionTopic":
        self._following = asyncio.create_task(self._follower.run(), name=f"following {self._place.topic}")
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
        """Return when everything has been read that was there at the start. Raises FollowingEndedError."""
        await self._follower.ready()

    async def reached(self, offset: int) -> None:
        """Return when the record at `offset` has been read: whoever wrote it reads it.

        Raises FollowingEndedError.
        """
        await self._follower.reached(self._place, offset)

    async def _take(self, fetched: Records) -> None:
        records = fetched.get(self._place, ())
        for record in records:
            self._read(record)
        if records and self._on_change is not None:
            self._on_change()

    def _read(self, record: Any) -> None:
        try:
            key = record.key.decode()
            if record.value is None:
                self._items.pop(key, None)
            else:
                self._items[key] = decode(record.value)
        except (SchemaError, ValueError, AttributeError) as error:
            self.unreadable += 1
            log.error("%s, offset %d: %s; it is ignored", self._place.topic, record.offset, error)
