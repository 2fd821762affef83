"""Alerts, rules and endpoints to be told with."""

from typing import Any

from schemas.time import SECOND
from streams.alerts.rule import Rule, parse_rule
from streams.endpoints.endpoint import Endpoint, parse_endpoint

START = 1_700_000_000 * SECOND
"""2023-11-14 22:13:20 UTC, a Tuesday."""


def alert_record(
    alert_id: str = "al_1",
    transition: int = 1,
    state: str = "firing",
    *,
    rule: str = "slow",
    at: int = START,
    group: dict[str, str] | None = None,
    **other: Any,
) -> dict[str, Any]:
    """An `Alert` record."""
    return {
        "alert_id": alert_id,
        "transition": transition,
        "revision": 0,
        "state": state,
        "rule_id": rule,
        "rule_revision": 1,
        "rule_name": rule.capitalize(),
        "kind": "threshold",
        "severity": "error",
        "labels": ["team=search"],
        "grouping": "model" if group else "total",
        "group": [f"{key}={value}" for key, value in (group or {}).items()],
        "started_at": at,
        "changed_at": at,
        "judged_at": at,
        "window_start": at - 60 * SECOND,
        "window_end": at,
        "metric": "latency",
        "aggregation": "avg",
        "unit": "ms",
        "value": 7200.5,
        "threshold": 5000.0,
        "step": None,
        "requests": 120,
        "parts": 4,
        "parts_expected": 4,
        "summary": "Average latency is 7.2 s, over 5 s",
        "sources": ["chat.requests/0/17-99"],
        "details": [],
        **other,
    }


def rule_of(id_: str = "slow", **fields: Any) -> Rule:
    """A rule."""
    return parse_rule(
        {
            "id": id_,
            "name": id_.capitalize(),
            "kind": "threshold",
            "metric": "latency",
            "aggregation": "avg",
            "window": "5m",
            "threshold": "5 s",
            "severity": "error",
            **fields,
        }
    )


def endpoint_of(id_: str = "ops", **fields: Any) -> Endpoint:
    """A webhook; without subscriptions it takes all alerts."""
    return parse_endpoint({"id": id_, "channel": "webhook", "url": "https://example.org/hook", **fields})
