"""Writes definitions to their topics."""

from typing import Final

from clients.kafka.publisher import Message, Publisher, PublishError
from schemas.topics import Topic
from streams.definitions.definition import Definition, encode

_WITHIN_S: Final = 20.0


class DefinitionPublisher:
    """Publishes definitions. What its methods return is the record's offset."""

    def __init__(self, bootstrap: str) -> None:
        self._publisher = Publisher(bootstrap, within_s=_WITHIN_S)

    async def publish(self, topic: Topic, definition: Definition) -> int:
        """Create or replace it. Raises KafkaError when Kafka doesn't acknowledge it in time."""
        return await self._send(topic, definition.id, encode(definition))

    async def delete(self, topic: Topic, id_: str) -> int:
        """Delete it, by a tombstone. Raises KafkaError when Kafka doesn't acknowledge it in time."""
        return await self._send(topic, id_, None)

    async def stop(self) -> None:
        """Send what is buffered, and close the producer."""
        await self._publisher.stop()

    async def _send(self, topic: Topic, key: str, value: bytes | None) -> int:
        try:
            (metadata,) = await self._publisher.publish([Message(topic.name, value, key.encode(), 0)])
        except PublishError as error:
            raise error.first from None
        return int(metadata.offset)
