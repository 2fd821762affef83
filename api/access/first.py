"""The admin key's life in `chat.access`: made at the first start, and anew when it was lost."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from api.access.key import Hashed, make_key
from api.definitions.store import DefinitionReader, DefinitionWriter
from api.times import Clock
from clients.kafka.failures import is_away
from clients.retry import retrying
from schemas.topics import ACCESS
from streams.definitions.definition import Definition

_log = logging.getLogger(__name__)

KEY_ID: Final = "admin-key"
_SETTLED_S: Final = 0.5


def kept_key(items: Mapping[str, Definition]) -> Hashed | None:
    """What is kept of the admin key; None when there is none, or none that can be read."""
    definition = items.get(KEY_ID)
    if definition is None:
        return None
    try:
        return Hashed.from_document(definition.definition)
    except ValueError as error:
        _log.error("chat.access: %s; chatgauge admin-key --renew makes a new key", error)
        return None


async def first_key(reader: DefinitionReader, writer: DefinitionWriter, clock: Clock) -> str | None:
    """A new key, when there has been none; it can't be had again. Raises KafkaError.

    None when there is one, also when another process has made it at the same time.
    """
    await reader.ready()
    if KEY_ID in reader.items:
        return None
    key, hashed = await _write(reader, writer, clock, 1, "the first start")
    # Another process may be starting too: whichever key comes last is the one that holds.
    await asyncio.sleep(_SETTLED_S)
    return key if kept_key(reader.items) == hashed else None


async def renewed_key(reader: DefinitionReader, writer: DefinitionWriter, clock: Clock, by: str) -> str:
    """A new key in place of the one there is. Raises KafkaError."""
    await reader.ready()
    held = reader.items.get(KEY_ID)
    key, _ = await _write(reader, writer, clock, held.revision + 1 if held else 1, by)
    return key


async def first_key_in_time(reader: DefinitionReader, writer: DefinitionWriter, clock: Clock) -> str | None:
    """As `first_key`, however long Kafka is away."""
    return await retrying(
        lambda: first_key(reader, writer, clock),
        passes=is_away,
        failed=lambda error, number, wait: _log.warning(
            "the admin key can't be made yet: Kafka does not answer (%s); attempt %d in %.1f s",
            *(error, number, wait),
        ),
    )


async def _write(
    reader: DefinitionReader, writer: DefinitionWriter, clock: Clock, revision: int, by: str
) -> tuple[str, Hashed]:
    key = make_key()
    hashed = await asyncio.to_thread(Hashed.of, key)
    definition = Definition(KEY_ID, revision, False, clock(), by, hashed.document())
    await reader.reached(await writer.publish(ACCESS, definition))
    return key, hashed
