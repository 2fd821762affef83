"""What a backtest found, for people and for programs. Pure: records in, text out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

import orjson

from schemas.time import SECOND, Micros
from streams.alerts.lifecycle import FIRING, RESOLVED
from streams.alerts.rule import Rule, dumped
from streams.alerts.units import show

Record = Mapping[str, Any]

_TIMES: Final = ("started_at", "changed_at", "judged_at", "window_start", "window_end", "created_at")


@dataclass
class Found:
    """All that a backtest gave."""

    rule: Rule
    start: Micros
    end: Micros
    alerts: list[Record] = field(default_factory=list)
    notifications: list[Record] = field(default_factory=list)
    decisions: dict[str, int] = field(default_factory=dict)
    """How many of each kind."""
    through: Micros | None = None
    """Up to where it came; None before the first pane."""


def lines(found: Found, zone: tzinfo) -> Iterator[str]:
    """A line for each transition, one for each notification, each in the order of time; and the sum."""
    rows = [
        (
            _at(alert["changed_at"], zone),
            alert["state"] if alert["step"] is None else f"{alert['state']} {show(alert['step'], 'ratio')}",
            ", ".join(alert["group"]) or "total",
            show(alert["value"], alert["unit"]),
            alert["summary"],
        )
        for alert in found.alerts
    ]
    if rows:
        yield from _table(("event time", "state", "group", "value", "summary"), rows)
        yield ""
    told = [
        (
            _at(notification["created_at"], zone),
            notification["endpoint_id"],
            notification["type"],
            f"{len(notification['alerts'])} transition{'s' if len(notification['alerts']) != 1 else ''}",
        )
        for notification in found.notifications
    ]
    if told:
        yield from _table(("notified at", "endpoint", "type", "tells of"), told)
        yield ""
    yield total(found)


def total(found: Found) -> str:
    """The sum, in a line."""
    fired = {alert["alert_id"] for alert in found.alerts if alert["state"] == FIRING}
    over = {alert["alert_id"] for alert in found.alerts if alert["state"] == RESOLVED}
    endpoints = {notification["endpoint_id"] for notification in found.notifications}
    return (
        f"{_counted(len(fired), 'alert')} would have fired ({len(fired - over):,} not over yet), "
        f"{_counted(len(found.notifications), 'notification')} to {_counted(len(endpoints), 'endpoint')}"
    )


def as_json(found: Found) -> str:
    """Everything, times in ISO 8601."""
    return orjson.dumps(
        {
            "rule": dumped(found.rule),
            "from": _iso(found.start),
            "to": _iso(found.end),
            "through": None if found.through is None else _iso(found.through),
            "alerts": [_readable(alert) for alert in found.alerts],
            "notifications": [
                {**_readable(each), "body": orjson.loads(each["body"])} for each in found.notifications
            ],
            "decisions": found.decisions,
        },
        option=orjson.OPT_INDENT_2,
    ).decode()


def _readable(record: Record) -> dict[str, Any]:
    return {name: _iso(value) if name in _TIMES else value for name, value in record.items()}


def _iso(time: Micros) -> str:
    return datetime.fromtimestamp(time / SECOND, UTC).isoformat()


def _at(time: Micros, zone: tzinfo) -> str:
    return datetime.fromtimestamp(time // SECOND, zone).strftime("%Y-%m-%d %H:%M:%S")


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
