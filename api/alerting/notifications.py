"""Publishes notifications to `chat.notifications`, from where the delivery agent delivers them."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from aiokafka.errors import KafkaError

from api.errors import UnavailableError
from clients.kafka.publisher import Message, Publisher, PublishError
from schemas.codec import Codec
from schemas.contract import schema
from schemas.topics import NOTIFICATIONS
from streams.deliveries.notification import Notification

_LARGEST: Final = 17 * 1024 * 1024
_PATIENCE_S: Final = 10.0


class NotificationPublisher(Protocol):
    """What publishes notifications."""

    async def publish(self, notifications: Sequence[Notification]) -> None: ...


class KafkaNotificationPublisher:
    """Keys notifications by endpoint, as the notifier does. Connects on first use."""

    def __init__(self, bootstrap: str) -> None:
        self._codec = Codec(schema(NOTIFICATIONS.record))
        self._publisher = Publisher(bootstrap, within_s=_PATIENCE_S, max_request_size=_LARGEST)

    async def publish(self, notifications: Sequence[Notification]) -> None:
        """Returns when Kafka has them. Raises UnavailableError when it doesn't acknowledge them in time."""
        messages = [
            Message(NOTIFICATIONS.name, self._codec.encode(each.record()), each.endpoint_id.encode())
            for each in notifications
        ]
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._publisher.publish(messages)
        except (KafkaError, OSError, TimeoutError) as error:
            reason = error.first if isinstance(error, PublishError) else error
            raise UnavailableError(
                f"Kafka does not answer ({type(reason).__name__}): nothing, or only a part, was asked to be "
                "delivered. Asking again delivers nothing twice that is still on its way.",
                where="kafka",
            ) from error

    async def stop(self) -> None:
        """Close the producer."""
        await self._publisher.stop()
