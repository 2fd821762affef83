"""Alerts, as the API tells of them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from api.times import to_time
from schemas.time import Micros
from streams.alerts.kinds import KIND_NAMES
from streams.notifications.transition import pairs

ALERT_EXAMPLE: Final[dict[str, Any]] = {
    "alert_id": "al_5f0c2a9be1d34c77a0b1",
    "state": "firing",
    "transition": 1,
    "corrections": 0,
    "severity": "error",
    "summary": "Error rate of support-chat is 14 % (over 10 %) in the 5 minutes up to 10:05.",
    "rule": {"id": "error-rate", "name": "Error rate", "kind": "threshold", "revision": 3},
    "labels": {"team": "support"},
    "grouping": "service",
    "group": {"service": "support-chat"},
    "metric": "errors",
    "aggregation": "ratio",
    "unit": "ratio",
    "value": 0.14,
    "threshold": 0.1,
    "step": None,
    "requests": 1204,
    "window": {"start": "2026-05-04T10:00:00Z", "end": "2026-05-04T10:05:00Z"},
    "coverage": {"parts": 4, "parts_expected": 4, "complete": True},
    "started_at": "2026-05-04T10:05:00Z",
    "changed_at": "2026-05-04T10:05:00Z",
    "judged_at": "2026-05-04T10:05:10.214000Z",
    "details": {},
    "held_back": None,
    "links": {
        "self": "/api/alerts/al_5f0c2a9be1d34c77a0b1",
        "rule": "/api/rules/error-rate",
        "events": "/events?alert=al_5f0c2a9be1d34c77a0b1&transition=1",
    },
}


class JudgingRule(BaseModel):
    """The rule that judged, as it was then."""

    id: str
    name: str
    kind: str = Field(description=f"{KIND_NAMES}.")
    revision: int = Field(description="Which version of the rule judged.")


class JudgedWindow(BaseModel):
    """The span of event time that was judged."""

    start: datetime = Field(description="Start, included, UTC.")
    end: datetime = Field(description="End, excluded, UTC.")


class JudgedCoverage(BaseModel):
    """How much of the traffic the figure is of."""

    parts: int = Field(description="Source partitions that the window's panes were complete for.")
    parts_expected: int = Field(description="Source partitions that there are.")
    complete: bool = Field(description="Whether none was missing.")


class HeldBack(BaseModel):
    """Why nobody is told of an alert that fires."""

    what: str = Field(description="silenced, acknowledged, inhibited, quiet or unmatched.")
    reason: str = Field(description="Why, in words.")
    by: str | None = Field(
        description="The silence or acknowledgement, or the alert that inhibits; null for the others."
    )


class Links(BaseModel):
    """Where there is more."""

    self: str = Field(description="All that is known of the alert.")
    rule: str = Field(description="The rule, as it is now.")
    events: str = Field(description="The events of the window and group, in the event viewer.")


class Alert(BaseModel):
    """An alert at its newest transition, or at one of its transitions."""

    model_config = ConfigDict(json_schema_extra={"examples": [ALERT_EXAMPLE]})

    alert_id: str = Field(description="Stable while the alert lasts.")
    state: str = Field(description="pending, firing or resolved.")
    transition: int = Field(description="Counts the alert's transitions, from 1.")
    corrections: int = Field(description="How often late events corrected the figures of this transition.")
    severity: str = Field(description="info, warning, error or critical.")
    summary: str = Field(description="One sentence.")
    rule: JudgingRule
    labels: dict[str, str] = Field(description="The rule's labels.")
    grouping: str = Field(description="By what the rule groups.")
    group: dict[str, str] = Field(description="The group; empty for the total.")
    metric: str
    aggregation: str
    unit: str = Field(description="Of value and threshold.")
    value: float | None = Field(description="The figure; null where there was no data.")
    threshold: float | None = Field(description="What it was held against; null where the rule has none.")
    step: float | None = Field(description="Of a budget: the step that was reached; 0.8 is 80 %.")
    requests: int = Field(description="Requests of the group in the window.")
    window: JudgedWindow
    coverage: JudgedCoverage
    started_at: datetime = Field(description="When the alert began (event time).")
    changed_at: datetime = Field(description="When this transition happened (event time).")
    judged_at: datetime = Field(description="When it was judged, by the clock.")
    details: dict[str, str] = Field(description="Further figures: a budget's forecast, a baseline's mean.")
    held_back: HeldBack | None = Field(
        None, description="What holds notifications of it back now; null for one that is told of."
    )
    links: Links

    @classmethod
    def of(cls, record: Mapping[str, Any], held_back: HeldBack | None = None) -> Self:
        """From the Avro record, or a row of the table `alerts`; instants are aware, or in microseconds."""
        return cls(
            **{name: record[name] for name in _TAKEN},
            **{name: _instant(record[name]) for name in _INSTANTS},
            corrections=record["revision"],
            rule=JudgingRule(
                id=record["rule_id"],
                name=record["rule_name"],
                kind=record["kind"],
                revision=record["rule_revision"],
            ),
            labels=pairs(record["labels"]),
            group=pairs(record["group"]),
            window=JudgedWindow(start=_instant(record["window_start"]), end=_instant(record["window_end"])),
            coverage=JudgedCoverage(
                parts=record["parts"],
                parts_expected=record["parts_expected"],
                complete=record["parts"] >= record["parts_expected"],
            ),
            details=pairs(record["details"]),
            held_back=held_back,
            links=Links(
                self=f"/api/alerts/{quote(record['alert_id'], safe='')}",
                rule=f"/api/rules/{quote(record['rule_id'], safe='')}",
                events=events_link(record["alert_id"], record["transition"]),
            ),
        )


_TAKEN: Final = (
    *("alert_id", "state", "transition", "severity", "summary", "grouping", "metric", "aggregation"),
    *("unit", "value", "threshold", "step", "requests"),
)
_INSTANTS: Final = ("started_at", "changed_at", "judged_at")


class OpenAlertList(BaseModel):
    """The alerts that are open now, from memory."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"complete": True, "missing": [], "alerts": [ALERT_EXAMPLE], "left_out": 0}]
        }
    )

    complete: bool = Field(description="Whether everything is known that this answer says.")
    missing: list[str] = Field(description="Why not, in words.")
    alerts: list[Alert] = Field(description="By the time of the last transition, newest first.")
    left_out: int = Field(description="Alerts beyond `limit`.")


class AlertHistory(BaseModel):
    """A page of past and present alerts, from ClickHouse: each at its newest transition."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"alerts": [ALERT_EXAMPLE], "next": "WzE3Nzc4OTAzMDAsImFsXzVmMGMiXQ"}]
        }
    )

    alerts: list[Alert] = Field(description="By the time of the last transition, newest first.")
    next: str | None = Field(description="The cursor of the next page; null on the last.")


def _instant(time: datetime | Micros) -> datetime:
    return time if isinstance(time, datetime) else to_time(time)


def events_link(alert_id: str, transition: int) -> str:
    """The event viewer, at the events that a transition rests on; as notifications link to it."""
    return f"/events?alert={quote(alert_id, safe='')}&transition={transition}"
