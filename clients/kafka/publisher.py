"""A Kafka producer whose waits end: for a connection, for acknowledgements, and when it stops.

aiokafka's own may wait for ever in each of them; docs/decisions/producer-waits.md says when.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.structs import RecordMetadata

from clients.kafka.link import AcknowledgementTimeoutError, Link, Message, ProducerReplacedError
from clients.kafka.producers import new_producer

__all__ = [
    "AcknowledgementTimeoutError",
    "Message",
    "ProducerReplacedError",
    "PublishError",
    "Publisher",
]

log = logging.getLogger(__name__)

WITHIN_S: Final = 60.0
_STOP_WITHIN_S: Final = 5.0


class PublishError(KafkaError):  # type: ignore[misc]
    """Not every message was acknowledged. `retriable` tells whether publishing again may succeed."""

    def __init__(self, outcomes: Sequence[RecordMetadata | KafkaError]) -> None:
        self.outcomes = outcomes
        """What became of each message, in their order: its metadata, or its error."""
        self.acknowledged = next(i for i, each in enumerate(outcomes) if isinstance(each, KafkaError))
        """So many at the beginning are there. To keep the order of a key, publish again all that follow."""
        self.first: KafkaError = outcomes[self.acknowledged]
        self.retriable = all(each.retriable for each in outcomes if isinstance(each, KafkaError))
        super().__init__(f"{type(self.first).__name__}: {self.first}".removesuffix(": "))


class Publisher:
    """Publishes to one Kafka cluster; connects when there is something to publish.

    `within_s` bounds every wait, in seconds: after so long without an acknowledgement the producer is given
    up, and the next call makes a new one. `settings` are aiokafka's; acknowledged is what all in-sync
    replicas have.
    """

    def __init__(self, bootstrap: str, *, within_s: float = WITHIN_S, **settings: Any) -> None:
        self._within_s = within_s
        # Half of the bound, so that aiokafka's own error, which says more, comes first.
        timeout_ms = int(within_s * 500)
        self._bootstrap = bootstrap
        self._settings = {"request_timeout_ms": timeout_ms} | settings
        self._link: Link | None = None
        self._connecting = asyncio.Lock()

    async def publish(self, messages: Sequence[Message]) -> list[RecordMetadata]:
        """Return the metadata of the messages, in their order, when Kafka has acknowledged all.

        Messages of one partition are written in their order. Raises PublishError when one was not
        acknowledged in time or was refused, and KafkaError when there is no connection.
        """
        if not messages:
            return []
        link = await self._connected()
        outcomes = await link.publish(messages, self._within_s)
        if not any(isinstance(each, KafkaError) for each in outcomes):
            return outcomes
        error = PublishError(outcomes)
        if link.spent(outcomes):
            await self._give_up(link, error)
        raise error from error.first

    async def stop(self, within_s: float = _STOP_WITHIN_S) -> None:
        """Wait up to `within_s` for what is under way, then close. Never raises KafkaError."""
        link, self._link = self._link, None
        if link is not None:
            await link.stop(within_s)

    async def _connected(self) -> Link:
        try:
            async with asyncio.timeout(self._within_s), self._connecting:
                if self._link is not None and self._link.broken:
                    await self._give_up(self._link, "its tasks have ended")
                if self._link is None:
                    self._link = await Link.connected(new_producer(self._bootstrap, **self._settings))
                return self._link
        except TimeoutError as error:
            where = self._bootstrap
            raise KafkaConnectionError(f"no connection to {where} in {self._within_s:g} s") from error

    async def _give_up(self, link: Link, reason: object) -> None:
        if self._link is link:
            self._link = None
            log.warning("the producer is replaced: %s", reason)
        await link.abandon()
