"""A Kafka producer that connects when there is something to send, and is never waited for without end."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError
from aiokafka.structs import RecordMetadata

from infra.tasks import end

log = logging.getLogger(__name__)

ACKNOWLEDGED_WITHIN_S: Final = 60.0
"""How long an acknowledgement may take: longer than the client takes to give a request up (40 s)."""
_LEAVE_WITHIN_S: Final = 5.0
_CLOSED_WITHIN_S: Final = 1.0


class Message(NamedTuple):
    """A record to be written; without a partition, its key says to which."""

    value: bytes | None
    key: bytes | None = None
    partition: int | None = None


class OnDemandProducer:
    """Of one process; `settings` are aiokafka's. Acknowledged is what all in-sync replicas have."""

    def __init__(self, bootstrap: str, **settings: Any) -> None:
        self._settings = {"bootstrap_servers": bootstrap, "acks": "all", **settings}
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    @property
    def client(self) -> AIOKafkaProducer | None:
        """The client, while there is one."""
        return self._producer

    async def started(self) -> AIOKafkaProducer:
        """The producer, connected. Raises KafkaError when Kafka doesn't answer; it may be asked again."""
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(**self._settings)
                try:
                    await producer.start()
                except BaseException:
                    await _abandon(producer)
                    raise
                self._producer = producer
            return self._producer

    async def acknowledged(
        self, topic: str, messages: Sequence[Message], within: float = ACKNOWLEDGED_WITHIN_S
    ) -> list[RecordMetadata | BaseException]:
        """Writes the messages, those of a partition in their order; what became of each.

        Raises KafkaError when Kafka can't be reached, or has not answered for all within so many seconds.
        Then the producer is given up, and the next call makes another: what was under way may have been
        written or not.
        """
        try:
            async with asyncio.timeout(within) as limit:
                producer = await self.started()
                sent = [
                    await producer.send(topic, value, key=key, partition=partition)
                    for value, key, partition in messages
                ]
                return await asyncio.gather(*sent, return_exceptions=True)
        except TimeoutError as error:
            if not limit.expired():
                raise
            await self._give_up()
            raise KafkaTimeoutError(f"{topic}: not acknowledged within {within:g} s") from error

    async def stop(self) -> None:
        """Send what waits, and leave, in five seconds at most."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        leaving = asyncio.ensure_future(producer.stop())
        await asyncio.wait([leaving], timeout=_LEAVE_WITHIN_S)
        if leaving.done():
            leaving.result()
            return
        await end([leaving])
        await _abandon(producer)
        log.warning("a producer left without Kafka's word for all that it had sent")

    async def _give_up(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _abandon(producer)


async def _abandon(producer: AIOKafkaProducer) -> None:
    """End the client at once: nothing more is sent."""
    producer._closed = True
    sender = producer._sender
    if sender is not None and sender.sender_task is not None:
        await end([sender.sender_task])
    closing = asyncio.ensure_future(producer.client.close())
    # A connection that the broker doesn't read from isn't closed before it does.
    await asyncio.wait([closing], timeout=_CLOSED_WITHIN_S)
    await end([closing])
