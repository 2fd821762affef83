"""Which partitions there are."""

from collections.abc import Iterable

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient


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
