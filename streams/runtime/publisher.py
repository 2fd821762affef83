"""Publishes records, with endless patience: while Kafka is away, it waits, and says so."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, cast

from aiokafka.errors import KafkaError

from clients.kafka.producers import OnDemandProducer
from clients.kafka.sizes import LARGEST_FETCH
from streams.runtime.errors import MovedError

log = logging.getLogger(__name__)

_AGAIN_S: Final = 1.0
_WITHIN_S: Final = 60.0


class Record(NamedTuple):
    """A record to be published."""

    key: bytes | None
    value: bytes | None
    partition: int | None = None
    """None: by the key."""
    headers: Sequence[tuple[str, bytes]] = ()


def _always() -> bool:
    return True


class Publisher:
    """One producer for everything that a worker publishes."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = OnDemandProducer(bootstrap, max_request_size=LARGEST_FETCH)

    async def publish(
        self, topic: str, records: Sequence[Record], wanted: Callable[[], bool] = _always
    ) -> list[int]:
        """Publish records; returns when Kafka has them, with their offsets. Those of a key stay in order.

        While Kafka is away, what failed is sent again, with all that came behind it. Raises MovedError
        when it isn't wanted any more before it is sent, and KafkaError for what can never succeed.
        """
        offsets: list[int] = []
        left = list(records)
        while left:
            if not wanted():
                raise MovedError(topic)
            try:
                producer = await self._producer.started()
                sent: list[Awaitable[Any]] = [
                    await producer.send(
                        topic,
                        record.value,
                        key=record.key,
                        partition=record.partition,
                        headers=list(record.headers),
                    )
                    for record in left
                ]
                async with asyncio.timeout(_WITHIN_S):
                    outcomes = await asyncio.gather(*sent, return_exceptions=True)
            except (KafkaError, TimeoutError) as error:
                failed: Any = error
            else:
                at = next((i for i, each in enumerate(outcomes) if isinstance(each, BaseException)), None)
                offsets += [cast("Any", each).offset for each in outcomes[:at]]
                if at is None:
                    return offsets
                failed = outcomes[at]
                left = left[at:]  # those behind it too: the order of a key must stay
            if not getattr(failed, "retriable", False) and not isinstance(failed, OSError):
                raise failed
            log.warning("%s: not written yet (%s: %s)", topic, type(failed).__name__, failed)
            await asyncio.sleep(_AGAIN_S)
        return offsets

    async def stop(self) -> None:
        """Send what waits, and leave."""
        try:
            await self._producer.stop()
        except KafkaError as error:
            log.info("the producer ended with %s: %s", type(error).__name__, error)
