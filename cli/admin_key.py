"""`chatgauge admin-key`: whether there is one, and a new one for one that was lost."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Final

import typer
from aiokafka.errors import KafkaError

from api.access.first import KEY_ID, first_key, renewed_key
from api.times import system_clock, to_time
from infra.settings import AccessSettings, KafkaSettings
from schemas.topics import ACCESS
from streams.definitions.publisher import DefinitionPublisher
from streams.definitions.topic import DefinitionTopic

_PATIENCE_S: Final = 15.0
_OVERRIDDEN: Final = "CHATGAUGE_ACCESS_ADMIN_KEY is set: it comes before the key that Kafka keeps."


def admin_key(
    renew: Annotated[
        bool, typer.Option("--renew", help="Make a new key and print it; the present one ends.")
    ] = False,
) -> None:
    """Tell since when there is an admin key, or make a new one. A key is shown once, when it is made."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    settings = KafkaSettings()
    try:
        lines = asyncio.run(_renewed(settings.bootstrap) if renew else _told(settings.bootstrap))
    except (KafkaError, OSError, TimeoutError) as error:
        typer.echo(
            f"chatgauge: Kafka at {settings.bootstrap} does not answer, or has no topic {ACCESS.name} "
            f"({type(error).__name__}): start it, set CHATGAUGE_KAFKA_BOOTSTRAP, or run chatgauge topics",
            err=True,
        )
        raise typer.Exit(1) from error
    if AccessSettings().admin_key is not None:
        typer.echo(f"chatgauge: {_OVERRIDDEN}", err=True)
    typer.echo(lines)


async def made_at_first_start(bootstrap: str) -> str | None:
    """The admin key, when it had to be made; None when there is one, or the settings give it.

    Raises KafkaError, or TimeoutError.
    """
    if AccessSettings().admin_key is not None:
        return None
    async with _access(bootstrap) as (access, publisher):
        return await first_key(access, publisher, system_clock)


async def _renewed(bootstrap: str) -> str:
    async with _access(bootstrap) as (access, publisher):
        return await renewed_key(access, publisher, system_clock, "chatgauge admin-key")


async def _told(bootstrap: str) -> str:
    async with _access(bootstrap) as (access, _):
        held = access.items.get(KEY_ID)
    if held is None:
        return "There is no admin key yet: the API makes it when it first starts, and prints it once."
    made = to_time(held.changed_at).isoformat(timespec="seconds")
    return f"There is an admin key, made {made} by {held.changed_by}. Lost? chatgauge admin-key --renew"


@contextlib.asynccontextmanager
async def _access(bootstrap: str) -> AsyncIterator[tuple[DefinitionTopic, DefinitionPublisher]]:
    """What is followed and what writes, with everything read that there is."""
    publisher = DefinitionPublisher(bootstrap)
    try:
        async with asyncio.timeout(_PATIENCE_S), DefinitionTopic(bootstrap, ACCESS) as access:
            await access.ready()
            yield access, publisher
    finally:
        await publisher.stop()
