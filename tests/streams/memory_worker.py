"""A worker without Kafka: what an agent writes, publishes and acknowledges is kept, in order."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, TypeVar

from clients.kafka.publisher import Message
from schemas.topics import Topic
from streams.runtime.errors import MovedError

_T = TypeVar("_T")


class Written(NamedTuple):
    """Entries of a partition's state; None deletes one."""

    partition: int
    entries: dict[bytes, bytes | None]


class Published(NamedTuple):
    """Messages that went out together."""

    messages: list[Message]


class Acknowledged(NamedTuple):
    """The fetches of a partition, to this offset."""

    partition: int
    through: int


class MemoryWorker:
    """A `streams.runtime.ledger.Worker`. All is durable at once, unless `during` says what comes first."""

    def __init__(self, source_partitions: int = 1) -> None:
        self.source_partitions = source_partitions
        self.entries: dict[int, dict[bytes, bytes]] = {}
        self.log: list[Written | Published | Acknowledged] = []
        self.behind: set[int] = set()
        """Partitions of which not everything is acknowledged."""
        self.moved: set[int] = set()
        """Partitions that are not ours any more."""
        self.during: dict[str, Callable[[], Awaitable[object]]] = {}
        """What happens before `write`, `publish` or `acknowledge` takes effect."""
        self.waits: list[str] = []
        """What was declared to be waited for."""
        self.computed = 0
        self._beside: list[asyncio.Task[None]] = []

    async def settled(self) -> None:
        """Everything that goes on beside has ended. Raises its error."""
        while self._beside:
            beside, self._beside = self._beside, []
            await asyncio.gather(*beside)

    def entry(self, partition: int, key: bytes) -> bytes | None:
        return self.entries.get(partition, {}).get(key)

    def caught_up(self, partition: int) -> bool:
        return partition not in self.behind

    async def write(self, partition: int, entries: Mapping[bytes, bytes | None]) -> None:
        await self._first("write")
        if partition in self.moved:
            raise MovedError(f"partition {partition}")
        self.log.append(Written(partition, dict(entries)))
        mine = self.entries.setdefault(partition, {})
        for key, value in entries.items():
            if value is None:
                mine.pop(key, None)
            else:
                mine[key] = value

    async def send(self, topic: Topic, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        raise NotImplementedError

    async def publish(self, messages: Sequence[Message]) -> None:
        await self._first("publish")
        self.log.append(Published(list(messages)))

    async def acknowledge(self, partition: int, through: int) -> None:
        await self._first("acknowledge")
        self.log.append(Acknowledged(partition, through))

    def waiting(self, what: str) -> AbstractContextManager[None]:
        @contextmanager
        def declared() -> Iterator[None]:
            self.waits.append(what)
            yield

        return declared()

    async def compute(self, work: Callable[[], _T]) -> _T:
        self.computed += 1
        return await asyncio.to_thread(work)

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        self._beside.append(asyncio.get_running_loop().create_task(work))

    async def _first(self, what: str) -> None:
        if (first := self.during.get(what)) is not None:
            await first()
