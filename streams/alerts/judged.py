"""What a judge is told, what it asks, and what a step of it comes to."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from schemas.time import Micros
from streams.alerts.lifecycle import Record
from streams.alerts.rule import Rule


class RuleVersion(NamedTuple):
    """A rule, and the revision of its definition."""

    rule: Rule
    revision: int


class Question(NamedTuple):
    """What a rule has to know of the past, from `start` to `until` (excluded)."""

    rule: Rule
    what: Literal["reference", "spent"]
    start: Micros
    until: Micros
    step: Micros | None = None
    """In spans of which length it is to be told what was spent; None: in one sum."""


@dataclass
class Judged:
    """What a step has come to: `entries` are to be written first, then the records are to be sent."""

    alerts: list[Record] = field(default_factory=list)
    """As in `schemas/alert.avsc`."""
    decisions: list[Record] = field(default_factory=list)
    """As in `schemas/decision.avsc`."""
    entries: dict[bytes, bytes | None] = field(default_factory=dict)
    """Entries of the state by key; None: to be deleted."""
    refused: int = 0
    """Shares whose rows could not be read."""

    def __bool__(self) -> bool:
        return bool(self.alerts or self.decisions or self.entries)
