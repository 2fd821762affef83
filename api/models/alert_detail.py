"""All that is known of an alert, as an answer shows it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from api.models.alerts import ALERT_EXAMPLE, Alert, JudgedCoverage, JudgedWindow, JudgingRule

_SOURCE: Final[dict[str, Any]] = {"topic": "chat.requests", "partition": 2, "first": 81_204, "last": 83_377}


class Decision(BaseModel):
    """What was decided about an alert, and why."""

    decided_at: datetime
    what: str = Field(
        description="pending, firing, resolved, corrected, notified, silenced, acknowledged, inhibited, "
        "quiet, unmatched, ..."
    )
    reason: str = Field(description="Why, in words.")
    transition: int | None
    value: float | None
    endpoint_id: str | None = Field(description="The endpoint that was notified, or would have been.")
    notification_id: str | None
    silence_id: str | None = Field(description="The silence or acknowledgement that held it back.")


class AlertNotification(BaseModel):
    """A notification that tells of the alert, and what became of it."""

    notification_id: str
    endpoint_id: str
    type: str
    created_at: datetime
    outcome: str | None = Field(description="Of the last attempt; null before the first.")
    attempts: int = Field(description="Attempts so far.")
    deliveries: str = Field(description="Where its attempts are listed.")


class Offsets(BaseModel):
    """Records on Kafka, both offsets included."""

    topic: str
    partition: int
    first: int
    last: int


class Cause(BaseModel):
    """What an alert rests on: of its newest transition."""

    rule: JudgingRule
    window: JudgedWindow
    value: float | None
    threshold: float | None
    unit: str
    requests: int
    details: dict[str, str]
    coverage: JudgedCoverage
    offsets: list[Offsets] = Field(description="Where on Kafka the window's events are.")
    events: str = Field(description="The same events in the event viewer.")


class AlertDetail(BaseModel):
    """All that is known of an alert."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "alert": ALERT_EXAMPLE,
                    "cause": {
                        **{
                            key: ALERT_EXAMPLE[key]
                            for key in ("rule", "window", "value", "threshold", "unit")
                        },
                        **{key: ALERT_EXAMPLE[key] for key in ("requests", "details", "coverage")},
                        "offsets": [_SOURCE],
                        "events": ALERT_EXAMPLE["links"]["events"],
                    },
                    "transitions": [ALERT_EXAMPLE],
                    "decisions": [
                        {
                            "decided_at": "2026-05-04T10:05:10.530000Z",
                            "what": "notified",
                            "reason": "the endpoint subscribes to alerts of this severity",
                            "transition": 1,
                            "value": 0.14,
                            "endpoint_id": "oncall",
                            "notification_id": "nt_2c81",
                            "silence_id": None,
                        }
                    ],
                    "notifications": [
                        {
                            "notification_id": "nt_2c81",
                            "endpoint_id": "oncall",
                            "type": "alert.firing",
                            "created_at": "2026-05-04T10:05:10.530000Z",
                            "outcome": "delivered",
                            "attempts": 1,
                            "deliveries": "/api/deliveries?notification=nt_2c81",
                        }
                    ],
                    "complete": True,
                    "missing": [],
                }
            ]
        }
    )

    alert: Alert
    cause: Cause
    transitions: list[Alert] = Field(description="In order, each with its newest figures.")
    decisions: list[Decision] = Field(description="In order.")
    notifications: list[AlertNotification] = Field(description="In order.")
    complete: bool = Field(description="Whether everything is known that this answer says.")
    missing: list[str] = Field(description="Why not, in words.")


def offsets_of(sources: list[str]) -> list[Offsets]:
    """`topic/partition/first-last` texts, read; what can't be read is left out."""
    found = []
    for source in sources:
        topic, _, rest = source.partition("/")
        partition, _, span = rest.partition("/")
        first, _, last = span.partition("-")
        if partition.isdecimal() and first.isdecimal() and last.isdecimal():
            found.append(Offsets(topic=topic, partition=int(partition), first=int(first), last=int(last)))
    return found


def cause_of(record: Mapping[str, Any]) -> Cause:
    """What the transition of this record rests on."""
    alert = Alert.of(record)
    return Cause(
        rule=alert.rule,
        window=alert.window,
        value=alert.value,
        threshold=alert.threshold,
        unit=alert.unit,
        requests=alert.requests,
        details=alert.details,
        coverage=alert.coverage,
        offsets=offsets_of(record["sources"]),
        events=alert.links.events,
    )
