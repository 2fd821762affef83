"""Which partitions there are."""

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient


@contextlib.asynccontextmanager
async def administering(bootstrap: str, **settings: Any) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client, connected. Raises KafkaError when Kafka doesn't answer; `settings` are aiokafka's."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **settings)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def partitions(admin: AIOKafkaAdminClient, topics: Iterable[str]) -> list[TopicPartition]:
    """All partitions of those of the topics that exist, in order."""
    # The admin client is asked, as a consumer knows only the topics that it already reads.
    existing = sorted(set(topics) & set(await admin.list_topics()))
    if not existing:
        return []
    return sorted(
        TopicPartition(topic["topic"], partition["partition"])
        for topic in await admin.describe_topics(existing)
        if not topic["error_code"]
        for partition in topic["partitions"]
    )
