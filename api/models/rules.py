"""Rules, as answers show them. What a rule is, `streams.alerts.rule` says."""

from datetime import datetime
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field

from api.times import to_time
from streams.definitions.definition import Definition

RULE_EXAMPLE: Final[dict[str, Any]] = {
    "id": "error-rate",
    "name": "Error rate",
    "kind": "threshold",
    "metric": "errors",
    "aggregation": "ratio",
    "grouping": "service",
    "window": "5m",
    "operator": ">",
    "threshold": "10 %",
    "minimum_requests": 50,
    "severity": "error",
    "labels": {"team": "support"},
}
_ANSWER: Final[dict[str, Any]] = {
    "id": "error-rate",
    "revision": 3,
    "provisioned": False,
    "changed_at": "2026-05-04T09:12:44.120000Z",
    "changed_by": "admin key, from 127.0.0.1",
    "rule": RULE_EXAMPLE,
}


class RuleAnswer(BaseModel):
    """A rule, and who changed it when."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ANSWER]})

    id: str
    revision: int = Field(description="Counts its changes; also in the header ETag.")
    provisioned: bool = Field(description="Comes from a file, and can only be changed there.")
    changed_at: datetime
    changed_by: str
    rule: dict[str, Any] = Field(description="The rule with all its fields, units as people write them.")

    @classmethod
    def of(cls, definition: Definition) -> Self:
        """From its definition."""
        return cls(
            id=definition.id,
            revision=definition.revision,
            provisioned=definition.provisioned,
            changed_at=to_time(definition.changed_at),
            changed_by=definition.changed_by,
            rule=dict(definition.definition),
        )


class RuleList(BaseModel):
    """All rules."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rules": [_ANSWER]}]})

    rules: list[RuleAnswer] = Field(description="By id.")
