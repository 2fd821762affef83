"""Something that a person has set up: how it is written to its topic, and read from it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from clients.kafka.publisher import Message, Publisher, PublishError
from schemas.codec import Codec
from schemas.contract import schema
from schemas.time import Micros, micros_of
from schemas.topics import Topic

_CODEC: Final = Codec(schema("Definition"))
_WITHIN_S: Final = 20.0


@dataclass(frozen=True)
class Definition:
    """The present version of something that was set up."""

    id: str
    revision: int
    provisioned: bool
    """Comes from a file: not to be changed through the API."""
    changed_at: Micros
    changed_by: str
    definition: Mapping[str, Any]


def encode(definition: Definition) -> bytes:
    """The definition as a message's value."""
    return _CODEC.encode(
        {
            "id": definition.id,
            "revision": definition.revision,
            "provisioned": definition.provisioned,
            "changed_at": definition.changed_at,
            "changed_by": definition.changed_by,
            "definition": json.dumps(dict(definition.definition), ensure_ascii=False, sort_keys=True),
        }
    )


def decode(value: bytes) -> Definition:
    """The definition in a message's value. Raises SchemaError, or ValueError where the JSON is no object."""
    record = _CODEC.decode(value)
    try:
        definition = json.loads(record["definition"])
    except RecursionError:
        raise ValueError("the JSON of the definition is nested too deeply") from None
    if not isinstance(definition, dict):
        raise ValueError(f"the JSON of the definition is no object: {record['definition'][:40]}")
    return Definition(
        record["id"],
        record["revision"],
        record["provisioned"],
        micros_of(record["changed_at"]),
        record["changed_by"],
        definition,
    )


class Registrar:
    """Writes definitions. What it returns is the offset at which Kafka has them."""

    def __init__(self, bootstrap: str) -> None:
        self._publisher = Publisher(bootstrap, within_s=_WITHIN_S)

    async def publish(self, topic: Topic, definition: Definition) -> int:
        """Set up, or change. Raises KafkaError when Kafka doesn't take it in time."""
        return await self._send(topic, definition.id, encode(definition))

    async def delete(self, topic: Topic, id_: str) -> int:
        """Take back. Raises KafkaError when Kafka doesn't take it in time."""
        return await self._send(topic, id_, None)

    async def stop(self) -> None:
        """Send what waits, and leave."""
        await self._publisher.stop()

    async def _send(self, topic: Topic, key: str, value: bytes | None) -> int:
        try:
            (metadata,) = await self._publisher.publish([Message(topic.name, value, key.encode(), 0)])
        except PublishError as error:
            raise error.first from None
        return int(metadata.offset)
