"""The end of a Kafka consumer."""

import asyncio
import logging
from typing import Final

from aiokafka import AIOKafkaConsumer

from infra.tasks import end

log = logging.getLogger(__name__)

_LEAVE_WITHIN_S: Final = 2.0


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
