"""Silences, as requests and answers."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from streams.notifications.silence import Matcher

SILENCE_EXAMPLE: Final[dict[str, Any]] = {
    "matchers": ["rule=error-rate", {"name": "service", "operator": "=~", "value": "support-*"}],
    "duration": "2h",
    "author": "Ada",
    "reason": "the provider is being moved, change 4711",
}
_SILENCE: Final[dict[str, Any]] = {
    "id": "si_8f14e45fceea167a",
    "kind": "silence",
    "state": "active",
    "matchers": [{"name": "service", "operator": "=~", "value": "support-*"}],
    "alert_id": None,
    "starts_at": "2026-05-04T10:00:00Z",
    "ends_at": "2026-05-04T12:00:00Z",
    "author": "Ada",
    "reason": "the provider is being moved, change 4711",
    "revision": 1,
    "changed_at": "2026-05-04T10:00:00Z",
    "changed_by": "admin key, from 127.0.0.1",
}
ACKNOWLEDGEMENT_EXAMPLE: Final[dict[str, Any]] = {"author": "Ada", "reason": "looking into it"}


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SilenceRequest(_Given):
    """A silence to be set up. It ends at `ends_at`, or after `duration`."""

    matchers: list[Matcher] = Field(
        min_length=1,
        max_length=20,
        description="What an alert must meet to be held back, all of it: `=`, `!=`, or `=~` with wildcards "
        "(`*`, `?`, `|`). Names are keys of the group (service, model, ...), labels of the rule, or alert, "
        "rule, rule_name, kind, severity, grouping, metric. Also written as text: `model=~gpt-4*`.",
    )
    starts_at: AwareDatetime | None = Field(None, description="When it begins; now, when left out.")
    ends_at: AwareDatetime | None = Field(None, description="When it ends.")
    duration: str | None = Field(None, description="Or how long it lasts: `30m`, `2h`, `1d`.")
    author: str = Field(min_length=1, max_length=200, description="Who wants it.")
    reason: str = Field(min_length=1, max_length=1_000, description="Why.")


class AcknowledgementRequest(_Given):
    """Taking charge of an alert: nothing more is told of it, but that it has resolved."""

    author: str = Field(min_length=1, max_length=200, description="Who takes charge.")
    reason: str = Field("", max_length=1_000, description="What is being done.")


class SilenceAnswer(BaseModel):
    """A silence, or the acknowledgement of an alert."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SILENCE]})

    id: str
    kind: Literal["silence", "acknowledgement"]
    state: Literal["pending", "active", "expired"] = Field(
        description="Whether it holds now, will, or has. An acknowledgement expires with its alert."
    )
    matchers: list[Matcher] = Field(description="What it matches; empty for an acknowledgement.")
    alert_id: str | None = Field(description="The alert that is acknowledged.")
    starts_at: datetime
    ends_at: datetime | None = Field(description="Null for an acknowledgement.")
    author: str
    reason: str
    revision: int
    changed_at: datetime
    changed_by: str


class SilenceList(BaseModel):
    """Silences and acknowledgements."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"silences": [_SILENCE]}]})

    silences: list[SilenceAnswer] = Field(description="Those that begin last first.")


class HeldBackByIt(BaseModel):
    """A transition of an alert that was not told of because of it."""

    decided_at: datetime
    what: str = Field(description="silenced or acknowledged.")
    alert_id: str | None
    transition: int | None
    rule_id: str | None
    group: list[str] = Field(description="The group's keys, as `key=value`.")
    endpoint_id: str | None
    reason: str


class SilenceDetail(SilenceAnswer):
    """A silence, and what it has held back so far."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_SILENCE,
                    "held_back": [
                        {
                            "decided_at": "2026-05-04T10:20:10.530000Z",
                            "what": "silenced",
                            "alert_id": "al_5f0c2a9be1d34c77a0b1",
                            "transition": 1,
                            "rule_id": "error-rate",
                            "group": ["service=support-chat"],
                            "endpoint_id": None,
                            "reason": "silence si_8f14e45fceea167a by Ada",
                        }
                    ],
                    "complete": True,
                    "missing": [],
                }
            ]
        }
    )

    held_back: list[HeldBackByIt] = Field(description="Newest first, at most 1,000.")
    complete: bool = Field(description="Whether everything is known that this answer says.")
    missing: list[str] = Field(description="Why not, in words.")
