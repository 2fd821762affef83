"""A transition of an alert, as it stands on `chat.alerts`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from schemas.time import Micros, micros_of

PENDING: Final = "pending"
FIRING: Final = "firing"
RESOLVED: Final = "resolved"


@dataclass(frozen=True)
class Transition:
    """The fields of the Avro record `Alert`; times in microseconds since 1970."""

    alert_id: str
    transition: int
    revision: int
    state: str
    rule_id: str
    rule_revision: int
    rule_name: str
    kind: str
    severity: str
    labels: tuple[str, ...]
    grouping: str
    group: tuple[str, ...]
    started_at: Micros
    changed_at: Micros
    judged_at: Micros
    window_start: Micros
    window_end: Micros
    metric: str
    aggregation: str
    unit: str
    value: float | None
    threshold: float | None
    step: float | None
    requests: int
    parts: int
    parts_expected: int
    summary: str
    sources: tuple[str, ...]
    details: tuple[str, ...]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Transition":
        """From a record, as it is decoded or as it was made; fields that have a default may be missing."""
        return cls(**{name: _plain(record.get(name, _DEFAULTS.get(name))) for name in _NAMES})

    def row(self) -> list[Any]:
        """Its fields in their order, for the state."""
        return [getattr(self, name) for name in _NAMES]

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Transition":
        """The inverse of `row`; also of a row that an earlier version wrote, with fewer fields."""
        values = [tuple(value) if isinstance(value, list) else value for value in row]
        return cls(**{**_DEFAULTS, **dict(zip(_NAMES, values, strict=False))})

    @cached_property
    def labels_by_name(self) -> dict[str, str]:
        """The rule's labels."""
        return pairs(self.labels)

    @cached_property
    def group_by_name(self) -> dict[str, str]:
        """The group's keys."""
        return pairs(self.group)

    @cached_property
    def properties(self) -> dict[str, str]:
        """By what silences and grouping know it: its group's keys, its rule's labels, and what it is. A key
        of the group comes before a label of the same name; `rule`, `severity` and so on before both."""
        return {
            **self.labels_by_name,
            **self.group_by_name,
            "alert": self.alert_id,
            "rule": self.rule_id,
            "rule_name": self.rule_name,
            "kind": self.kind,
            "severity": self.severity,
            "grouping": self.grouping,
            "metric": self.metric,
        }


_NAMES: Final = tuple(field.name for field in fields(Transition))
_DEFAULTS: Final[dict[str, Any]] = {
    "revision": 0,
    "labels": (),
    "group": (),
    "value": None,
    "threshold": None,
    "step": None,
    "requests": 0,
    "sources": (),
    "details": (),
}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return micros_of(value)
    return tuple(value) if isinstance(value, list) else value


def pairs(entries: Sequence[str]) -> dict[str, str]:
    """`key=value` texts by their keys."""
    return {key: value for key, _, value in (entry.partition("=") for entry in entries)}
