"""Raw events, as answers show them."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.models.alerts import ALERT_EXAMPLE, Alert

_REQUEST: Final[dict[str, Any]] = {
    "type": "request",
    "occurred_at": "2026-05-04T10:04:58.120000Z",
    "event_id": "ev_81b0",
    "source": {"topic": "chat.requests", "partition": 2, "offset": 83_377},
    "imported": False,
    "service": "support-chat",
    "instance": "chat-1",
    "request_id": "rq_5520",
    "trace_id": None,
    "phase": "finished",
    "provider": "openai",
    "model": "gpt-4o",
    "space_id": "space-7",
    "user_id": "u_19",
    "workflow": None,
    "workflow_version": None,
    "error_type": "timeout",
    "cache_hit": False,
    "prompt_tokens": 1_830,
    "cached_tokens": 1_024,
    "completion_tokens": None,
    "reasoning_tokens": None,
    "cost_usd": None,
    "total_ms": 30_000.4,
    "context_ms": 212.9,
    "model_ms": 29_700.1,
    "first_token_ms": None,
}


class EventSource(BaseModel):
    """Where on Kafka an event is."""

    topic: str
    partition: int
    offset: int


class _Shown(BaseModel):
    occurred_at: datetime = Field(description="Event time.")
    event_id: str
    source: EventSource
    imported: bool = Field(description="Brought in after the fact; no part of an alert's window.")
    service: str
    instance: str | None


class _OfSomebody(_Shown):
    trace_id: str | None
    request_id: str | None
    phase: str = Field(description="started or finished.")
    space_id: str | None
    user_id: str | None = Field(description="A pseudonym.")
    workflow: str | None
    workflow_version: str | None
    error_type: str | None = Field(description="null when it went well.")


class ShownRequest(_OfSomebody):
    """A request. What it did not report is null."""

    type: Literal["request"] = "request"
    provider: str
    model: str
    cache_hit: bool
    prompt_tokens: int | None
    cached_tokens: int | None = Field(description="A part of prompt_tokens.")
    completion_tokens: int | None
    reasoning_tokens: int | None = Field(description="A part of completion_tokens.")
    cost_usd: float | None = Field(description="null when it is not known, which is not 0.")
    total_ms: float | None
    context_ms: float | None
    model_ms: float | None
    first_token_ms: float | None


class ShownSpan(_OfSomebody):
    """A span: a step inside a request."""

    type: Literal["span"] = "span"
    span_id: str
    parent_id: str | None
    kind: str
    name: str
    duration_ms: float | None


class ShownSample(_Shown):
    """A state of an instance, sampled."""

    type: Literal["sample"] = "sample"
    name: str
    value: float
    state: str | None


ShownEvent = Annotated[ShownRequest | ShownSpan | ShownSample, Field(discriminator="type")]


class Covered(BaseModel):
    """What was asked for."""

    by: Literal["alert", "span", "place"]
    topic: str = Field(description="chat.requests, chat.spans or chat.samples.")
    start: datetime | None = Field(
        description="Start, included; of sampled states excluded. Null for a place."
    )
    end: datetime | None = Field(description="End, excluded; of sampled states included. Null for a place.")
    equal: dict[str, str] = Field(description="What the events have in common: the alert's group.")
    include: str | None = Field(description="live, imported or all; null for a place.")


class Events(BaseModel):
    """A page of events, and what they are of."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "covers": {
                        "by": "alert",
                        "topic": "chat.requests",
                        **ALERT_EXAMPLE["window"],
                        "equal": ALERT_EXAMPLE["group"],
                        "include": "live",
                    },
                    "alert": ALERT_EXAMPLE,
                    "complete": True,
                    "missing": [],
                    "stored": 1_204,
                    "events": [_REQUEST],
                    "more": True,
                    "next": "WzE3Nzc4OTAzMDAsImV2XzgxYjAiXQ",
                }
            ]
        }
    )

    covers: Covered
    alert: Alert | None = Field(description="The alert at this transition, when it was asked for by one.")
    complete: bool = Field(description="Whether ClickHouse has all of these events, over all pages.")
    missing: list[str] = Field(description="Why not, in words.")
    stored: int | None = Field(
        description="How many ClickHouse has of an alert's window, over all pages; null for windows longer "
        "than two hours, or with more than can be counted in time, and without an alert."
    )
    events: list[ShownEvent] = Field(description="Newest first.")
    more: bool = Field(description="Whether there are older ones.")
    next: str | None = Field(description="The cursor of the next page; null on the last.")
