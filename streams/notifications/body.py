"""The bodies of notifications: JSON, as Standard Webhooks has it.

    {"type": "alert.firing", "timestamp": "2026-01-31T09:30:00.000000Z", "data": {"version": 1, ...}}

A body says what has happened and where to look, not everything about it. Within a version fields are only
ever added; docs/notifications.md describes each of them. Bodies of a notification never change, however
often it is delivered.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import orjson

from schemas.time import Micros
from streams.notifications.transition import Transition, pairs

VERSION: Final = 1
MOST_SOURCES: Final = 16
"""Offset ranges that a body lists for an alert; the alert's record has them all."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def instant(time: Micros) -> str:
    """A time as in 2026-01-31T09:30:00.000000Z."""
    return (_EPOCH + timedelta(microseconds=time)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def body(type_: str, timestamp: Micros, data: Mapping[str, Any]) -> str:
    """The event as it is sent."""
    event = {"type": type_, "timestamp": instant(timestamp), "data": {"version": VERSION, **data}}
    return orjson.dumps(event).decode()


def alert_item(heard: Transition, public_url: str, transitions: Sequence[int] = ()) -> dict[str, Any]:
    """An alert in a body, and what subscriptions' filters look at. `transitions` are those told now."""
    return {
        "alert_id": heard.alert_id,
        "transition": heard.transition,
        "transitions": list(transitions) or [heard.transition],
        "state": heard.state,
        "severity": heard.severity,
        "summary": heard.summary,
        "rule_id": heard.rule_id,
        "rule_name": heard.rule_name,
        "rule_revision": heard.rule_revision,
        "kind": heard.kind,
        "labels": heard.labels_by_name,
        "grouping": heard.grouping,
        "group": heard.group_by_name,
        "started_at": instant(heard.started_at),
        "changed_at": instant(heard.changed_at),
        "window": {"start": instant(heard.window_start), "end": instant(heard.window_end)},
        "metric": heard.metric,
        "aggregation": heard.aggregation,
        "unit": heard.unit,
        "value": heard.value,
        "threshold": heard.threshold,
        "step": heard.step,
        "requests": heard.requests,
        "coverage": {"parts": heard.parts, "expected": heard.parts_expected},
        "details": pairs(heard.details),
        "sources": list(heard.sources[:MOST_SOURCES]),
        "links": {
            "alert": f"{public_url}/api/alerts/{quote(heard.alert_id)}",
            "events": f"{public_url}/events?alert={quote(heard.alert_id)}&transition={heard.transition}",
        },
    }


def alerts_data(
    group: Mapping[str, str], alerts: Sequence[Mapping[str, Any]], part: int, parts: int, total: int
) -> dict[str, Any]:
    """`data` of alert.firing, alert.resolved and alert.reminder.

    `group` is what these alerts have in common, by which they were put together. `total` alerts are told in
    `parts` notifications, of which this is number `part`, from 1.
    """
    return {"group": dict(group), "part": part, "parts": parts, "total": total, "alerts": list(alerts)}


def test_data(endpoint_id: str, name: str, requested_by: str, public_url: str) -> dict[str, Any]:
    """`data` of endpoint.test: somebody wants to see whether notifications arrive."""
    return {
        "endpoint_id": endpoint_id,
        "name": name,
        "requested_by": requested_by,
        "links": {"endpoint": f"{public_url}/api/endpoints/{quote(endpoint_id)}"},
    }


def window_data(
    share: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], part: int, parts: int, public_url: str
) -> dict[str, Any]:
    """`data` of window.closed: a source partition's share of a closed pane; shares add up."""
    start, end = instant(share["pane_start"]), instant(share["pane_end"])
    return {
        "table": share["table"],
        "pane": share["pane"],
        "start": start,
        "end": end,
        "grouping": share["grouping"],
        "share": {"partition": share["partition"], "of": share["partitions"], "revision": share["revision"]},
        "part": part,
        "parts": parts,
        "rows": list(rows),
        "links": {"events": f"{public_url}/events?from={start}&to={end}"},
    }


def event_data(
    event: Mapping[str, Any], topic: str, partition: int, offset: int, public_url: str
) -> dict[str, Any]:
    """`data` of request.failed and span.ended: the event's fields, and where it is.

    `links` are the notification's, so those of a span are `linked_spans`.
    """
    return {
        **{"linked_spans" if name == "links" else name: value for name, value in event.items()},
        "source": {"topic": topic, "partition": partition, "offset": offset},
        "links": {"events": f"{public_url}/events?topic={topic}&partition={partition}&offset={offset}"},
    }
