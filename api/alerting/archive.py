"""Alerts and deliveries that were, asked of ClickHouse."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from api.alerting import sql
from api.alerting.cursor import Cursor
from api.alerting.sql import AlertFilter, DeliveryFilter
from api.clickhouse import ClickHouse
from schemas.time import Micros
from streams.deliveries.notification import Notification

Row = Mapping[str, Any]
"""A row by its columns, which are the fields of the Avro record; instants are aware datetimes."""

_MOST_DECISIONS: Final = 1_000
_MOST_NOTIFICATIONS: Final = 1_000


class Page(NamedTuple):
    """Some rows, and whether there are more behind them."""

    rows: list[dict[str, Any]]
    more: bool


class Archive:
    """Questions of alerts, decisions, notifications and deliveries. All raise as `ClickHouse.rows` does."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def alerts(self, wanted: AlertFilter, cursor: Cursor | None, limit: int) -> Page:
        """Each alert at its newest transition, newest first."""
        return _page(await self._clickhouse.records(sql.alerts(wanted, cursor, limit + 1)), limit)

    async def transitions(self, alert_id: str) -> list[dict[str, Any]]:
        """Every transition of an alert, in order."""
        return await self._clickhouse.records(sql.transitions(alert_id))

    async def decisions(self, alert_id: str) -> list[dict[str, Any]]:
        """What was decided about an alert, in order."""
        return await self._clickhouse.records(sql.decisions(alert_id, _MOST_DECISIONS))

    async def held_back_by(self, silence_id: str) -> list[dict[str, Any]]:
        """What a silence or acknowledgement held back, newest first."""
        return await self._clickhouse.records(sql.held_back_by(silence_id, _MOST_DECISIONS))

    async def notifications_of(self, alert_id: str) -> list[dict[str, Any]]:
        """The notifications of an alert, in order, and what became of each."""
        return await self._clickhouse.records(sql.notifications_of(alert_id, _MOST_NOTIFICATIONS))

    async def deliveries(self, wanted: DeliveryFilter, cursor: Cursor | None, limit: int) -> Page:
        """Attempts, newest first."""
        return _page(await self._clickhouse.records(sql.deliveries(wanted, cursor, limit + 1)), limit)

    async def notification(self, notification_id: str) -> dict[str, Any] | None:
        """A notification, as it was asked for last; None when there is none of this id."""
        rows = await self._clickhouse.records(sql.notification(notification_id))
        return rows[0] if rows else None

    async def notifications_between(
        self,
        endpoint_id: str,
        start: Micros,
        end: Micros,
        *,
        undelivered: bool,
        cursor: Cursor | None,
        limit: int,
    ) -> Page:
        """The endpoint's notifications of [start, end), oldest first, each as it was asked for last."""
        query = sql.notifications_between(
            endpoint_id, start, end, undelivered=undelivered, cursor=cursor, limit=limit + 1
        )
        return _page(await self._clickhouse.records(query), limit)

    @staticmethod
    def notification_of(row: Row) -> Notification:
        """A row of `notifications` as the notification that it was."""
        return Notification.of(row)


def _page(rows: list[dict[str, Any]], limit: int) -> Page:
    return Page(rows[:limit], len(rows) > limit)
