"""Notifications that are to be delivered again."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from api.alerting.archive import Archive
from api.alerting.cursor import Cursor
from api.alerting.notifications import NotificationPublisher
from schemas.time import Micros
from streams.deliveries.notification import Notification

MOST_REDRIVEN: Final = 5_000
"""Notifications that one call delivers again."""
PAGE: Final = 500
_REMEMBERED: Final = 20_000


class Redriven(NamedTuple):
    """How many notifications, and the cursor to go on with, when there are more."""

    number: int
    next: str | None


class Redriver:
    """Publishes notifications once more, each with a higher `redriven` than ever before.

    History lags by a moment: what was redriven here lately is remembered, so that asking twice within that
    moment asks twice.
    """

    def __init__(self, publisher: NotificationPublisher) -> None:
        self._publisher = publisher
        self._redriven: OrderedDict[str, int] = OrderedDict()

    async def redrive(self, notifications: Sequence[Notification]) -> list[Notification]:
        """Publish them again; returns them as they were published. Raises UnavailableError."""
        again = [self._raised(each) for each in notifications]
        await self._publisher.publish(again)
        for each in again:
            self._redriven[each.notification_id] = each.redriven
            self._redriven.move_to_end(each.notification_id)
        while len(self._redriven) > _REMEMBERED:
            self._redriven.popitem(last=False)
        return again

    async def redrive_between(
        self,
        archive: Archive,
        endpoint_id: str,
        start: Micros,
        end: Micros,
        *,
        undelivered: bool,
        cursor: Cursor | None,
    ) -> Redriven:
        """The endpoint's notifications of [start, end), oldest first, from behind the cursor on.

        `undelivered`: those alone that no attempt has delivered. Raises as `ClickHouse.rows` does.
        """
        count = 0
        while True:
            page = await archive.notifications_between(
                endpoint_id, start, end, undelivered=undelivered, cursor=cursor, limit=PAGE
            )
            await self.redrive([archive.notification_of(row) for row in page.rows])
            count += len(page.rows)
            if not page.more:
                return Redriven(count, None)
            last = page.rows[-1]
            after = Cursor.of(last["created_at"], last["notification_id"])
            if count >= MOST_REDRIVEN:
                return Redriven(count, after)
            cursor = Cursor.read(after)

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
