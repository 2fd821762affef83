"""Kafka's consumers: how they are made, and how they end."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection
from copy import copy
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import READ_UNCOMMITTED

from infra.tasks import end

log = logging.getLogger(__name__)

ISOLATION: Final = "read_committed"
"""Records of transactions that were aborted are never seen; those of an open one, once it is committed."""
_LEAVE_WITHIN_S: Final = 2.0


def new_consumer(bootstrap: str, **settings: Any) -> AIOKafkaConsumer:
    """A consumer that reads what is committed, from the beginning, and commits nothing by itself.

    Its `end_offsets` are where open transactions begin, or the end of the log: as far as it can read.
    Further `settings` are aiokafka's.
    """
    ours = {
        "bootstrap_servers": bootstrap,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": ISOLATION,
    }
    return AIOKafkaConsumer(**ours | settings)


async def high_watermarks(
    consumer: AIOKafkaConsumer, places: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """The ends of these partitions' logs, beyond open transactions too. Raises KafkaError."""
    asking = copy(consumer._fetcher)
    asking._isolation_level = READ_UNCOMMITTED
    ends: dict[TopicPartition, int] = await asking.end_offsets(places, consumer._request_timeout_ms)
    return ends


@contextlib.asynccontextmanager
async def consuming(bootstrap: str, **settings: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group, connected. Raises KafkaError when Kafka doesn't answer."""
    consumer = new_consumer(bootstrap, **settings)
    try:
        await consumer.start()
        yield consumer
    finally:
        await leave(consumer, "a consumer without a group")


async def leave(consumer: AIOKafkaConsumer, name: str) -> None:
    """Stop a consumer; it leaves its group if Kafka answers, else that will notice by itself. Never raises.

    `name` is what the log calls it.
    """
    leaving = asyncio.ensure_future(consumer.stop())
    await asyncio.wait([leaving], timeout=_LEAVE_WITHIN_S)
    if leaving.done() and not leaving.cancelled() and leaving.exception() is None:
        return
    # A fetch that was just waiting to be repeated ends aiokafka's leaving by a cancellation of its own.
    await end([leaving])
    await consumer._client.close()
    log.warning("%s: left without a word to Kafka, which does not answer", name)
