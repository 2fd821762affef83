"""Deliveries, as answers show them."""

from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

_ATTEMPT: Final[dict[str, Any]] = {
    "attempt_id": "at_90ac",
    "notification_id": "nt_2c81",
    "endpoint_id": "oncall",
    "channel": "webhook",
    "type": "alert.firing",
    "attempt": 1,
    "redriven": 0,
    "outcome": "failed",
    "status": 503,
    "error": "503 Service Unavailable",
    "started_at": "2026-05-04T10:05:10.530000Z",
    "took_ms": 87.4,
    "next_attempt_at": "2026-05-04T10:05:15.411000Z",
    "request": None,
    "response": None,
}


class Attempt(BaseModel):
    """An attempt to deliver a notification, or the decision not to make one."""

    attempt_id: str
    notification_id: str = Field(description="The `webhook-id`.")
    endpoint_id: str
    channel: str = Field(description="webhook, mail, slack, teams, pagerduty or alertmanager.")
    type: str = Field(description="The notification's type: alert.firing, ...")
    attempt: int = Field(description="The number of the attempt, from 1; 0 when none was made.")
    redriven: int = Field(description="How often a person had asked to deliver it again.")
    outcome: str = Field(
        description="delivered, failed (another attempt follows), exhausted (none does), refused (not to be "
        "called), parked (the endpoint is disabled)."
    )
    status: int | None = Field(description="The HTTP status or the SMTP reply code, where there was one.")
    error: str | None = Field(description="What went wrong, in words.")
    started_at: datetime
    took_ms: float
    next_attempt_at: datetime | None
    request: str | None = Field(
        description="What was sent, without secrets, cut to 8 KiB; null without the admin key."
    )
    response: str | None = Field(description="What came back, cut to 2 KiB; null without the admin key.")


class DeliveryLog(BaseModel):
    """A page of attempts."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"attempts": [_ATTEMPT], "next": None}]})

    attempts: list[Attempt] = Field(description="Newest first.")
    next: str | None = Field(description="The cursor of the next page; null on the last.")


class RetryAnswer(BaseModel):
    """A notification that is being delivered again."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "notification_id": "nt_2c81",
                    "endpoint_id": "oncall",
                    "redriven": 1,
                    "deliveries": "/api/deliveries?notification=nt_2c81",
                }
            ]
        }
    )

    notification_id: str
    endpoint_id: str
    redriven: int = Field(description="How often a person has asked to deliver it again, this time included.")
    deliveries: str = Field(description="Where its attempts are listed.")


def log_link(notification_id: str) -> str:
    """Where the attempts of a notification are listed."""
    return f"/api/deliveries?notification={notification_id}"
