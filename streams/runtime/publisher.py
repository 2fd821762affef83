"""Publishes with patience: while Kafka is away, it waits, and says so."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from aiokafka.errors import KafkaError

from clients.kafka.publisher import WITHIN_S, Message, Publisher, PublishError
from clients.kafka.sizes import LARGEST_FETCH
from clients.retry import GivenUp, retrying
from infra.liveness import Unit
from streams.runtime.errors import MovedError

log = logging.getLogger(__name__)

_WITHIN_S: Final = 2 * WITHIN_S
"""The publisher gives up sooner, by itself, unless it gets on."""


def _always() -> bool:
    return True


class PatientPublisher:
    """One producer for everything that an agent publishes."""

    def __init__(self, bootstrap: str, unit: Unit) -> None:
        self._publisher = Publisher(bootstrap, max_request_size=LARGEST_FETCH)
        self._unit = unit

    async def publish(self, messages: Sequence[Message], wanted: Callable[[], bool] = _always) -> list[int]:
        """Publish messages; returns when Kafka has them, with their offsets. Those of a key stay in order.

        While Kafka is away, what failed is published again, with all that came behind it. Raises MovedError
        when it isn't wanted any more before it is published, and KafkaError for what can never succeed.
        """
        offsets: list[int] = []

        async def attempt() -> None:
            left = messages[len(offsets) :]
            try:
                async with self._unit.bounded(f"the acknowledgement of {left[0].topic}", _WITHIN_S):
                    published = await self._publisher.publish(left)
            except PublishError as error:
                offsets.extend(each.offset for each in error.outcomes[: error.acknowledged])
                raise error if error.retriable else error.first from error
            offsets.extend(each.offset for each in published)

        def failed(error: Exception, number: int, wait: float) -> None:
            topic = messages[len(offsets)].topic
            log.warning("%s: not written yet (%s); attempt %d in %.1f s", topic, error, number, wait)

        def outage(error: Exception) -> AbstractContextManager[None]:
            return self._unit.waiting(f"Kafka, to write to {messages[len(offsets)].topic}")

        if messages:
            try:
                await retrying(attempt, passes=_passes, failed=failed, wanted=wanted, outage=outage)
            except GivenUp:
                raise MovedError(messages[0].topic) from None
        return offsets

    async def stop(self) -> None:
        """Send what waits, and leave."""
        await self._publisher.stop()


def _passes(error: Exception) -> bool:
    return isinstance(error, TimeoutError) or (isinstance(error, KafkaError) and bool(error.retriable))
