"""Creates the topics of Chatgauge, and tells how those that exist differ."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from infra.errors import TopicsDifferError
from schemas.topics import TOPICS, Topic

_CREATED_WITHIN_MS = 30_000
_VISIBLE_WITHIN = 30.0


@dataclass(frozen=True)
class TopicState:
    """One topic as it is now. `created` tells that it was missing before."""

    name: str
    partitions: int
    created: bool


async def create(
    bootstrap: str, *, partitions: int, replication: int = 1, topics: Iterable[Topic] = TOPICS
) -> list[TopicState]:
    """Create the topics that are missing; returns all of them, in the order given.

    `TopicsDifferError` when one exists with another number of partitions: the windows of a source partition
    live in the same partition of their changelog, so the numbers must agree, and Kafka can't lower one.
    """
    wanted = {topic.name: topic for topic in topics}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        present = await _partitions(admin, wanted)
        _refuse_differences(present, wanted, partitions)
        missing = [topic for name, topic in wanted.items() if name not in present]
        if missing:
            await _create(admin, missing, partitions, replication)
            # Another process may have been faster, with other numbers.
            _refuse_differences(await _visible(admin, wanted), wanted, partitions)
    finally:
        await admin.close()
    return [
        TopicState(name, _count(topic, partitions), name not in present) for name, topic in wanted.items()
    ]


async def describe(bootstrap: str, topics: Iterable[Topic] = TOPICS) -> dict[str, int]:
    """How many partitions each of the topics has; those that do not exist are left out."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return await _partitions(admin, {topic.name: topic for topic in topics})
    finally:
        await admin.close()


def _count(topic: Topic, partitions: int) -> int:
    return partitions if topic.follows_source else 1


async def _partitions(admin: AIOKafkaAdminClient, wanted: dict[str, Topic]) -> dict[str, int]:
    existing = set(await admin.list_topics()) & set(wanted)
    if not existing:
        return {}
    described = await admin.describe_topics(sorted(existing))
    return {topic["topic"]: len(topic["partitions"]) for topic in described if not topic["error_code"]}


async def _visible(admin: AIOKafkaAdminClient, wanted: dict[str, Topic]) -> dict[str, int]:
    # A created topic reaches the brokers' metadata a moment later, and clients look there.
    async with asyncio.timeout(_VISIBLE_WITHIN):
        while len(present := await _partitions(admin, wanted)) < len(wanted):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return present


def _refuse_differences(present: dict[str, int], wanted: dict[str, Topic], partitions: int) -> None:
    differing = [
        f"{name} has {count} and needs {_count(wanted[name], partitions)}"
        for name, count in present.items()
        if count != _count(wanted[name], partitions)
    ]
    if differing:
        raise TopicsDifferError(
            f"partitions differ: {'; '.join(differing)}. Set CHATGAUGE_KAFKA_PARTITIONS to what is there, "
            "or delete the topics (their data with them) and create them anew"
        )


async def _create(
    admin: AIOKafkaAdminClient, missing: list[Topic], partitions: int, replication: int
) -> None:
    answer = await admin.create_topics(
        [NewTopic(t.name, _count(t, partitions), replication, topic_configs=dict(t.config)) for t in missing],
        timeout_ms=_CREATED_WITHIN_MS,
    )
    for name, code, *rest in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:  # another process was faster
            raise error(f"{name}: {rest[0] if rest else error.description}")
