"""Asks the delivery agent to deliver: notifications, written to `chat.notifications`."""

import asyncio
from collections import OrderedDict
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
_REMEMBERED: Final = 20_000


class NotificationPublisher(Protocol):
    """What takes notifications."""

    async def send(self, notifications: Sequence[Notification]) -> None: ...


class KafkaNotificationPublisher:
    """Writes notifications, keyed by endpoint as the notifier does it. Connects on first use."""

    def __init__(self, bootstrap: str) -> None:
        self._codec = Codec(schema(NOTIFICATIONS.record))
        self._publisher = Publisher(bootstrap, within_s=_PATIENCE_S, max_request_size=_LARGEST)

    async def send(self, notifications: Sequence[Notification]) -> None:
        """Returns when Kafka has them. Raises UnavailableError when it doesn't take them in time."""
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
        """Leave."""
        await self._publisher.stop()


class Redriver:
    """Sends notifications once more, each with a higher `redriven` than ever before.

    History lags by a moment: what was redriven here lately is remembered, so that asking twice within that
    moment asks twice.
    """

    def __init__(self, outlet: NotificationPublisher) -> None:
        self._outlet = outlet
        self._redriven: OrderedDict[str, int] = OrderedDict()

    async def redrive(self, notifications: Sequence[Notification]) -> list[Notification]:
        """Send them again; returns them as they were sent. Raises UnavailableError."""
        again = [self._raised(each) for each in notifications]
        await self._outlet.send(again)
        for each in again:
            self._redriven[each.notification_id] = each.redriven
            self._redriven.move_to_end(each.notification_id)
        while len(self._redriven) > _REMEMBERED:
            self._redriven.popitem(last=False)
        return again

    def _raised(self, notification: Notification) -> Notification:
        last = max(notification.redriven, self._redriven.get(notification.notification_id, 0))
        return Notification(
            notification.notification_id,
            notification.endpoint_id,
            notification.type,
            notification.created_at,
            notification.body,
            notification.alerts,
            last + 1,
        )
