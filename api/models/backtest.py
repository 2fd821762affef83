"""Backtests, as requests and answers."""

from datetime import datetime
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from api.alerting.backtesting import Found
from api.models.alerts import ALERT_EXAMPLE, Alert
from api.models.rules import RULE_EXAMPLE
from api.times import to_time
from schemas.time import Micros
from streams.alerts.rule import Rule, dumped
from streams.notifications.transition import FIRING

BACKTEST_EXAMPLE: Final[dict[str, Any]] = {
    "rule": RULE_EXAMPLE,
    "start": "2026-05-01T00:00:00Z",
    "end": "2026-05-04T00:00:00Z",
}


class BacktestRequest(BaseModel):
    """A rule, or the id of one that there is, and the span of the past to hold it against."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: dict[str, Any] | None = Field(None, description="A rule, as for `POST /api/rules`.")
    rule_id: str | None = Field(None, description="Or the id of one that there is.", max_length=200)
    start: str = Field(description="From when on: ISO 8601, UTC unless it says otherwise; event time.")
    end: str | None = Field(None, description="Until when, excluded; now, when left out.")
    include: Literal["live", "imported", "all"] = Field(
        "live", description="Which requests count: live ones, imported ones (replayed traces), or all."
    )


class BacktestNotification(BaseModel):
    """A notification that would have gone out."""

    endpoint_id: str
    type: str = Field(description="alert.firing, alert.resolved or alert.reminder.")
    created_at: datetime = Field(description="When, by a clock that stands at the pane's end and lateness.")
    alerts: list[str] = Field(description="The transitions it tells of, as `alert_id/transition`.")


class Backtest(BaseModel):
    """What a rule would have done."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "rule": RULE_EXAMPLE,
                    "start": "2026-05-01T00:00:00Z",
                    "end": "2026-05-04T00:00:00Z",
                    "through": "2026-05-04T00:00:00Z",
                    "complete": True,
                    "stopped": None,
                    "fired": 1,
                    "alerts": [ALERT_EXAMPLE],
                    "notifications": [
                        {
                            "endpoint_id": "oncall",
                            "type": "alert.firing",
                            "created_at": "2026-05-04T10:05:10.300000Z",
                            "alerts": ["al_5f0c2a9be1d34c77a0b1/1"],
                        }
                    ],
                    "decisions": {"evaluated": 4320, "firing": 1, "notified": 1},
                }
            ]
        }
    )

    rule: dict[str, Any] = Field(description="The rule with all its fields.")
    start: datetime
    end: datetime
    through: datetime = Field(description="Panes up to here were judged.")
    complete: bool = Field(description="Whether all of them were.")
    stopped: str | None = Field(description="Why not, in words.")
    fired: int = Field(description="How many alerts would have fired.")
    alerts: list[Alert] = Field(description="Every transition, in order; `cause` offsets are not known.")
    notifications: list[BacktestNotification] = Field(
        description="Who would have been told, with the endpoints there are now and without silences."
    )
    decisions: dict[str, int] = Field(description="How many of each kind.")

    @classmethod
    def of(cls, rule: Rule, start: Micros, end: Micros, found: Found) -> Self:
        """From what came of it."""
        return cls(
            rule=dumped(rule),
            start=to_time(start),
            end=to_time(end),
            through=to_time(found.through),
            complete=found.stopped is None,
            stopped=found.stopped,
            fired=len({each["alert_id"] for each in found.alerts if each["state"] == FIRING}),
            alerts=[Alert.of(each) for each in found.alerts],
            notifications=[
                BacktestNotification(
                    endpoint_id=each["endpoint_id"],
                    type=each["type"],
                    created_at=to_time(each["created_at"]),
                    alerts=list(each["alerts"]),
                )
                for each in found.notifications
            ],
            decisions=dict(found.decisions),
        )
