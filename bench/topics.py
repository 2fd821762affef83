"""The benchmark's topics: each round has fresh ones to write to."""

import asyncio
from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient

from infra import topics as product
from schemas import topics
from schemas.topics import Topic

SHORT = Topic("chat.requests.short", topics.REQUESTS.record, topics.REQUESTS.config)
"""A smaller load of the same kind, for the contender that would need hours for the whole."""

WRITTEN = (topics.WINDOWS, topics.USAGE, topics.CLOSED, topics.DEAD_LETTERS)
"""What the product writes to while it reads `chat.requests`."""

_GONE_WITHIN_S = 30.0


async def create(bootstrap: str, wanted: Sequence[Topic], partitions: int) -> None:
    """Make the topics, empty: one that is there already is deleted first."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        there = await product.describe(bootstrap, wanted)
        if there:
            await admin.delete_topics(list(there))
        async with asyncio.timeout(_GONE_WITHIN_S):
            # Kafka deletes behind its answer.
            while await product.describe(bootstrap, wanted):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        await admin.close()
    await product.create(bootstrap, partitions=partitions, topics=wanted)
