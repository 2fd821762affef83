"""The life of an alert: pending, firing, resolved; one transition at a time, each with its number.

Pure. What follows from a pane for a group is a verdict; consecutive violations make an alert fire, the first
pane that holds resolves it, and where nothing is known, nothing changes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, Literal

from schemas.time import Micros

Group = tuple[str, ...]
"""The values of a grouping's keys, in their order."""
Record = dict[str, Any]
"""An Avro record as a dict: an Alert, or a Decision. Times are microseconds."""

PENDING: Final = "pending"
FIRING: Final = "firing"
RESOLVED: Final = "resolved"


class Verdict(Enum):
    """What follows from a pane for a group."""

    VIOLATES = "violates"
    HOLDS = "holds"
    UNKNOWN = "unknown"
    """Nothing: not enough is known, so the alert stays as it is."""


@dataclass(frozen=True)
class OpenAlert:
    """An alert that is pending or firing."""

    group: Group
    alert_id: str
    state: Literal["pending", "firing"]
    transition: int
    """The number of its latest transition, from 1."""
    started_at: Micros
    violations: int
    """How many panes in a row have violated the rule, while it is pending."""
    record: Record = field(default_factory=dict)
    """Its latest transition, as it was published."""


def alert_id(rule_id: str, group: Sequence[str], start: Micros) -> str:
    """The id of the alert of a rule and a group that began at `start`: `al_` and 20 hexadecimal digits."""
    name = "\0".join((rule_id, *group, str(start)))
    return "al_" + hashlib.sha256(name.encode()).hexdigest()[:20]


def advance(
    alert: OpenAlert | None, verdict: Verdict, rule_id: str, group: Group, end: Micros, consecutive: int
) -> tuple[OpenAlert | None, str | None]:
    """The alert after a pane that ends at `end`, None when there is none; and its new state, if that changed.

    A resolved alert is given back as it was last, with the number of its last transition.
    """
    if verdict is Verdict.UNKNOWN or (alert is None and verdict is Verdict.HOLDS):
        return alert, None
    if alert is None:
        name = alert_id(rule_id, group, end)
        if consecutive <= 1:
            return OpenAlert(group, name, "firing", 1, end, 1), FIRING
        return OpenAlert(group, name, "pending", 1, end, 1), PENDING
    if verdict is Verdict.HOLDS:
        return replace(alert, transition=alert.transition + 1), RESOLVED
    if alert.state == FIRING:
        return alert, None
    violations = alert.violations + 1
    if violations < consecutive:
        return replace(alert, violations=violations), None
    return replace(alert, state="firing", violations=violations, transition=alert.transition + 1), FIRING
