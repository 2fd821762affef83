"""All about one alert, from memory and from ClickHouse."""

import asyncio
from collections.abc import Awaitable
from typing import Any, NamedTuple

from api.alerting.alerts import Alerts
from api.alerting.opened import Record
from api.errors import NotFoundError, UnavailableError
from api.models.alert_detail import AlertDetail, AlertNotification, Decision, cause_of
from api.models.alerts import Alert
from api.models.deliveries import log_link


class _Asked(NamedTuple):
    """What ClickHouse was asked, as far as it has answered."""

    rows: list[dict[str, Any]]
    failure: str | None


async def detail_of(alerts: Alerts, key: str) -> AlertDetail:
    """What is known of the alert; without ClickHouse what is in memory, and the answer says so.

    Raises NotFoundError, or UnavailableError when neither knows it and ClickHouse is away.
    """
    live = alerts.opened.get(key)
    transitions, decisions, notifications = await asyncio.gather(
        _asked(alerts.archive.transitions(key)),
        _asked(alerts.archive.decisions(key)),
        _asked(alerts.archive.notifications_of(key)),
    )
    failures = {asked.failure for asked in (transitions, decisions, notifications) if asked.failure}
    rows = _with_live(transitions.rows, live)
    if not rows:
        if failures:
            raise UnavailableError(failures.pop(), where="clickhouse")
        raise NotFoundError(
            f"There is no alert {key!r}: /api/alerts lists those that are open, /api/alerts/history all.",
            where="id",
        )
    return AlertDetail(
        alert=alerts.shown(rows[-1:])[0],
        cause=cause_of(rows[-1]),
        transitions=[Alert.of(row) for row in rows],
        decisions=[Decision.model_validate(row) for row in decisions.rows],
        notifications=[_notification(row) for row in notifications.rows],
        complete=not failures,
        missing=sorted(failures),
    )


async def _asked(asking: Awaitable[list[dict[str, Any]]]) -> _Asked:
    try:
        return _Asked(await asking, None)
    except UnavailableError as error:
        return _Asked([], error.detail)


def _with_live(stored: list[dict[str, Any]], live: Record | None) -> list[Record]:
    """The transitions in order, with the one in memory: ClickHouse is a second or two behind, or away."""
    rows: list[Record] = [*stored]
    if live is not None and not any(_covers(row, live) for row in rows):
        rows = [row for row in rows if row["transition"] != live["transition"]] + [live]
    return sorted(rows, key=lambda row: int(row["transition"]))


def _covers(row: Record, live: Record) -> bool:
    return (row["transition"], row["revision"]) >= (live["transition"], live["revision"])


def _notification(row: dict[str, Any]) -> AlertNotification:
    return AlertNotification(
        **{**row, "outcome": row["outcome"] or None}, deliveries=log_link(row["notification_id"])
    )
