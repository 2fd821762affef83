"""Raw events, as the API tells of them."""

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
    "attributes": ["channel=web"],
    "request_id": "rq_5520",
    "trace_id": "7f0c2f4b9d6e4a1c8b3d5e6f70819203",
    "conversation_id": "cv_208",
    "phase": "finished",
    "region": "eu-central-1",
    "provider": "openai",
    "model": "gpt-4o",
    "operation": "chat",
    "space_id": "space-7",
    "user_id": "u_19",
    "workflow": "answer",
    "workflow_version": "3.2.0",
    "experiment": "greeting",
    "variant": "short",
    "error_type": "timeout",
    "retries": 2,
    "finish_reason": None,
    "cache_hit": False,
    "streamed": False,
    "prompt_tokens": 1_830,
    "cached_tokens": 1_024,
    "cache_write_tokens": None,
    "cache_write_1h_tokens": None,
    "prompt_audio_tokens": None,
    "completion_tokens": None,
    "reasoning_tokens": None,
    "completion_audio_tokens": None,
    "cost_usd": None,
    "total_ms": 30_000.4,
    "context_ms": 212.9,
    "model_ms": 29_700.1,
    "first_token_ms": None,
    "last_token_ms": None,
    "output_chunks": None,
}
_SPAN: Final[dict[str, Any]] = {
    "type": "span",
    "occurred_at": "2026-05-04T10:04:51.803200Z",
    "event_id": "ev_90c4",
    "source": {"topic": "chat.spans", "partition": 0, "offset": 4_100},
    "imported": False,
    "service": "support-chat",
    "instance": "chat-1",
    "attributes": [],
    "trace_id": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "request_id": "rq_5519",
    "conversation_id": "cv_208",
    "phase": "finished",
    "region": "eu-central-1",
    "space_id": "space-7",
    "user_id": "u_19",
    "workflow": "answer",
    "workflow_version": "3.2.0",
    "error_type": None,
    "span_id": "5e6f708192030a1b",
    "parent_id": "2c3d4e5f60718293",
    "depends_on": ["4a1c8b3d5e6f7081"],
    "links": [],
    "kind": "model",
    "name": "draft",
    "duration_ms": 2_840.7,
    "provider": "anthropic",
    "model": "claude-sonnet-4-5",
    "operation": "chat",
    "prompt_tokens": 9_214,
    "cached_tokens": 7_168,
    "cache_write_tokens": 1_792,
    "cache_write_1h_tokens": 0,
    "prompt_audio_tokens": None,
    "completion_tokens": 311,
    "reasoning_tokens": None,
    "completion_audio_tokens": None,
    "cost_usd": None,
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
    attributes: list[str] = Field(description="key=value, of those that the service allows.")


class _OfSomebody(_Shown):
    trace_id: str | None
    request_id: str | None
    conversation_id: str | None
    phase: str = Field(description="started or finished.")
    region: str | None
    space_id: str | None
    user_id: str | None = Field(description="A pseudonym.")
    workflow: str | None
    workflow_version: str | None
    error_type: str | None = Field(description="null when it went well.")


class _Usage(BaseModel):
    """Tokens: two totals, and their parts, which are never added to them."""

    prompt_tokens: int | None
    cached_tokens: int | None = Field(description="A part of prompt_tokens.")
    cache_write_tokens: int | None = Field(description="A part of prompt_tokens.")
    cache_write_1h_tokens: int | None = Field(description="A part of cache_write_tokens.")
    prompt_audio_tokens: int | None = Field(description="A part of prompt_tokens.")
    completion_tokens: int | None
    reasoning_tokens: int | None = Field(description="A part of completion_tokens.")
    completion_audio_tokens: int | None = Field(description="A part of completion_tokens.")


class ShownRequest(_Usage, _OfSomebody):
    """A request. What it did not report is null."""

    type: Literal["request"] = "request"
    provider: str
    model: str
    operation: str | None = Field(description="chat, embeddings, ...")
    experiment: str | None
    variant: str | None
    retries: int | None = Field(description="Attempts that failed before the one that is reported.")
    finish_reason: str | None = Field(description="Why the model stopped, as the provider spells it.")
    cache_hit: bool
    streamed: bool
    cost_usd: float | None = Field(description="null when it is not known, which is not 0.")
    total_ms: float | None
    context_ms: float | None
    model_ms: float | None
    first_token_ms: float | None
    last_token_ms: float | None
    output_chunks: int | None = Field(description="In how many chunks the answer was streamed.")


class ShownSpan(_Usage, _OfSomebody):
    """A span: a step inside a request. Tokens and cost are those of a model call, which the request's
    include."""

    type: Literal["span"] = "span"
    span_id: str
    parent_id: str | None
    depends_on: list[str] = Field(description="Spans of the same trace whose results it needs.")
    links: list[str] = Field(description="Related spans of other traces, as trace_id/span_id.")
    kind: str
    name: str
    duration_ms: float | None
    provider: str | None
    model: str | None
    operation: str | None
    cost_usd: float | None = Field(description="What the provider charged; null when it did not say.")


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
                },
                {
                    "covers": {
                        "by": "place",
                        "topic": "chat.spans",
                        "start": None,
                        "end": None,
                        "equal": {},
                        "include": None,
                    },
                    "alert": None,
                    "complete": True,
                    "missing": [],
                    "stored": None,
                    "events": [_SPAN],
                    "more": False,
                    "next": None,
                },
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
