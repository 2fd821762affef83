"""The end of a Kafka consumer."""

import asyncio
import logging
from collections.abc import Collection
from typing import Any, Final

from aiokafka import AIOKafkaConsumer

log = logging.getLogger(__name__)

_LEAVE_WITHIN_S: Final = 2.0
_AGAIN_S: Final = 0.1


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


async def end(tasks: Collection["asyncio.Task[Any]"]) -> None:
    """Cancel tasks until they have ended, however they end.

    A task of aiokafka's may lose a cancellation, when what it waits for is done at the same moment. What a
    task does when it is cancelled is cut short if it takes longer than a tenth of a second.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
