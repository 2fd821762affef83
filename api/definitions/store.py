"""The definitions of a topic: read as they are followed, written so that nobody's change gets lost."""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aiokafka.errors import KafkaError

from api.errors import ChangedError, ConflictError, NotFoundError, UnavailableError
from api.times import Clock
from schemas.topics import Topic
from streams.definitions.definition import Definition

_PATIENCE_S: Final = 5.0


class DefinitionReader(Protocol):
    """What is read, as `streams.topic.DefinitionTopic` does it."""

    unreadable: int

    @property
    def failure(self) -> str | None: ...
    @property
    def items(self) -> Mapping[str, Definition]: ...
    async def ready(self) -> None: ...
    async def reached(self, offset: int) -> None: ...


class DefinitionWriter(Protocol):
    """What publishes them: `streams.definitions.publisher.DefinitionPublisher`."""

    async def publish(self, topic: Topic, definition: Definition) -> int: ...
    async def delete(self, topic: Topic, id_: str) -> int: ...


@dataclass(frozen=True)
class DefinitionKind:
    """Definitions of one topic: what one is called (`rule`), and under which address they are."""

    topic: Topic
    name: str
    address: str
    provisioned: str = ""
    """What to do about one that comes from a file."""


class DefinitionStore:
    """The definitions of a topic.

    One write at a time, each by the revision that it replaces, and done once this process has read it
    back. Kafka itself compares nothing: of two API processes that write the same id within the same
    moment the later one wins.
    """

    def __init__(
        self, kind: DefinitionKind, reader: DefinitionReader, writer: DefinitionWriter, clock: Clock
    ) -> None:
        self._kind = kind
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._writing = asyncio.Lock()

    async def all(self) -> list[Definition]:
        """All of them, by id. Raises UnavailableError while they have not been read."""
        await self._read()
        return [self._reader.items[key] for key in sorted(self._reader.items)]

    async def get(self, key: str) -> Definition:
        """The one with this id. Raises NotFoundError, UnavailableError."""
        await self._read()
        found = self._reader.items.get(key)
        if found is None:
            raise NotFoundError(
                f"There is no {self._kind.name} {key!r}: {self._kind.address} lists what there is.",
                where="id",
            )
        return found

    async def create(self, key: str, document: Mapping[str, Any], by: str) -> Definition:
        """A new one. Raises ConflictError when there is one of this id already."""
        async with self._writing:
            await self._read()
            held = self._reader.items.get(key)
            if held is not None:
                self._refuse_provisioned(held)
                raise ConflictError(
                    f"There is a {self._kind.name} {key!r} already: replace it with "
                    f"PUT {self._kind.address}/{key}, or choose another id.",
                    where=f"{self._kind.name}.id",
                )
            return await self._write(self._made(key, 1, document, by))

    async def replace(
        self, key: str, document: Mapping[str, Any], by: str, expected: int | None
    ) -> Definition:
        """Another version of one. `expected` is the revision that it replaces; None takes any.

        Raises NotFoundError, ConflictError for one that comes from a file, ChangedError when it has
        another revision by now, UnavailableError.
        """
        async with self._writing:
            held = await self._held(key, expected)
            return await self._write(self._made(key, held.revision + 1, document, by))

    async def put(self, key: str, document: Mapping[str, Any], by: str) -> Definition:
        """A new one, or another version of the one there is, whichever. Raises as `replace` does."""
        async with self._writing:
            await self._read()
            revision = (await self._held(key, None)).revision if key in self._reader.items else 0
            return await self._write(self._made(key, revision + 1, document, by))

    async def remove(self, key: str, expected: int | None) -> None:
        """Delete one. Raises as `replace` does."""
        async with self._writing:
            await self._held(key, expected)
            await self._written(self._writer.delete(self._kind.topic, key))

    async def _held(self, key: str, expected: int | None) -> Definition:
        held = await self.get(key)
        self._refuse_provisioned(held)
        if expected is not None and held.revision != expected:
            raise ChangedError(
                f"The {self._kind.name} {key!r} has revision {held.revision} by now, not {expected}: read it "
                "again, and make the change to what it is now.",
                where="If-Match",
            )
        return held

    def _refuse_provisioned(self, held: Definition) -> None:
        if held.provisioned:
            raise ConflictError(
                f"The {self._kind.name} {held.id!r} comes from a file and can't be changed here: "
                f"{self._kind.provisioned}",
                where="id",
            )

    def _made(self, key: str, revision: int, document: Mapping[str, Any], by: str) -> Definition:
        return Definition(
            id=key,
            revision=revision,
            provisioned=False,
            changed_at=self._clock(),
            changed_by=by,
            definition=dict(document),
        )

    async def _write(self, made: Definition) -> Definition:
        await self._written(self._writer.publish(self._kind.topic, made))
        return made

    async def _written(self, writing: Coroutine[Any, Any, int]) -> None:
        """Done when Kafka has it, and this process has read it."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._reader.reached(await writing)
        except (KafkaError, OSError, TimeoutError) as error:
            raise UnavailableError(
                f"Kafka does not answer ({type(error).__name__}): the {self._kind.name} may have been "
                "written or not. Read it again before trying once more.",
                where="kafka",
            ) from error

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._reader.ready()
        except TimeoutError:
            raise UnavailableError(
                f"{self._kind.topic.name} has not been read yet: is Kafka there, and the topic? "
                "(chatgauge topics creates it)",
                where="kafka",
            ) from None
