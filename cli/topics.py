"""`chatgauge topics`: what topics there are, and those that are missing."""

import asyncio
import logging
from typing import Annotated

import typer
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.table import Table

from infra import topics as kafka_topics
from infra.errors import TopicsDifferError
from infra.settings import KafkaSettings
from schemas.topics import TOPICS


def topics(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Create nothing, only look.")] = False,
) -> None:
    """Create the Kafka topics that are missing, and list all of them."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    settings = KafkaSettings()
    try:
        before, now = asyncio.run(_ensure(settings, dry_run=dry_run))
    except KafkaError as error:
        _fail(
            f"Kafka at {settings.bootstrap} does not answer ({error}): start it, or set "
            "CHATGAUGE_KAFKA_BOOTSTRAP"
        )
    except TopicsDifferError as error:
        _fail(str(error))
    table = Table("topic", "record", "partitions", "kept", "")
    for topic in TOPICS:
        table.add_row(
            topic.name,
            topic.record,
            str(now.get(topic.name, "—")),
            _kept(topic.config),
            "missing" if topic.name not in now else "" if topic.name in before else "created",
        )
    Console().print(table)
    if len(now) < len(TOPICS):
        raise typer.Exit(1)


async def _ensure(settings: KafkaSettings, *, dry_run: bool) -> tuple[dict[str, int], dict[str, int]]:
    before = await kafka_topics.describe(settings.bootstrap)
    if dry_run:
        return before, before
    states = await kafka_topics.create(
        settings.bootstrap, partitions=settings.partitions, replication=settings.replication
    )
    return before, {state.name: state.partitions for state in states}


def _kept(config: "dict[str, str] | object") -> str:
    values = dict(config) if isinstance(config, dict) else {}
    if values.get("cleanup.policy") == "compact":
        return "newest of each key"
    hours = int(values.get("retention.ms", 0)) / 3_600_000
    return f"{hours / 24:g} days" if hours >= 24 else f"{hours:g} hours"


def _fail(message: str) -> None:
    typer.echo(f"chatgauge: {message}", err=True)
    raise typer.Exit(1)
