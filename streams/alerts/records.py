"""Alerts and decisions as records (`schemas/*.avsc`), with their summaries in words."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from schemas.time import Micros
from schemas.topics import REQUESTS, SAMPLES
from streams.alerts.closed_share import Source
from streams.alerts.durations import write_duration
from streams.alerts.lifecycle import FIRING, PENDING, RESOLVED, Group, OpenAlert, Record
from streams.alerts.measures import SAMPLE_GROUPING
from streams.alerts.units import Unit, show
from streams.alerts.window import Window

_COMPARED: Final = {">": "over", ">=": "at or over", "<": "under", "<=": "at or under"}


class StatedRule(Protocol):
    """What records state of a rule, whatever its kind. Rules of all kinds have these."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def grouping(self) -> str: ...
    @property
    def keys(self) -> tuple[str, ...]: ...
    @property
    def metric(self) -> str: ...
    @property
    def aggregation(self) -> str: ...
    @property
    def operator(self) -> str: ...
    @property
    def consecutive(self) -> int: ...
    @property
    def no_data(self) -> str: ...

    @property
    def threshold_unit(self) -> Unit:
        """The unit of value and threshold."""

    @property
    def stated_threshold(self) -> float | None:
        """What the value is held against; None where the rule has no one threshold."""

    def kind_name(self) -> str: ...

    def summary(self, alert: OpenAlert, state: str, evidence: "Evidence") -> str:
        """One sentence for a person, of a transition to `state`."""


@dataclass(frozen=True)
class Evidence:
    """What a transition rests on. Figures in the unit of the rule's threshold."""

    window_start: Micros
    window_end: Micros
    value: float | None
    requests: int
    parts: int
    parts_expected: int
    sources: tuple[Source, ...] = ()
    at_least: bool = False
    step: float | None = None
    details: tuple[str, ...] = ()

    @classmethod
    def without_data(cls, window: Window) -> "Evidence":
        """Of a window, without a figure."""
        return cls(
            window.start, window.end, None, 0, window.parts, window.parts_expected, sources=window.sources
        )


def alert_record(
    rule: StatedRule,
    revision: int,
    alert: OpenAlert,
    state: str,
    evidence: Evidence,
    judged_at: Micros,
    summary: str,
) -> Record:
    """A transition of an alert."""
    return {
        "alert_id": alert.alert_id,
        "transition": alert.transition,
        "revision": 0,
        "state": state,
        "rule_id": rule.id,
        "rule_revision": revision,
        "rule_name": rule.name,
        "kind": rule.kind_name(),
        "severity": rule.severity,
        "labels": [f"{name}={value}" for name, value in rule.labels.items()],
        "grouping": rule.grouping,
        "group": named(rule.keys, alert.group),
        "started_at": alert.started_at,
        "changed_at": evidence.window_end,
        "judged_at": judged_at,
        "metric": rule.metric,
        "aggregation": rule.aggregation,
        "unit": rule.threshold_unit.symbol,
        "threshold": rule.stated_threshold if evidence.step is None else evidence.step,
        "summary": summary,
        **stated(rule, evidence),
    }


def stated(rule: StatedRule, evidence: Evidence) -> Record:
    """The fields of an Alert that say what it rests on."""
    topic = SAMPLES.name if rule.grouping == SAMPLE_GROUPING else REQUESTS.name
    return {
        "window_start": evidence.window_start,
        "window_end": evidence.window_end,
        "value": evidence.value,
        "step": evidence.step,
        "requests": evidence.requests,
        "parts": evidence.parts,
        "parts_expected": evidence.parts_expected,
        "sources": [f"{topic}/{s.partition}/{max(s.first, 0)}-{s.last}" for s in evidence.sources],
        "details": list(evidence.details),
    }


def decision_record(
    what: str,
    reason: str,
    decided_at: Micros,
    rule_id: str,
    rule_revision: int,
    name: Sequence[object],
    **more: Any,
) -> Record:
    """A decision. `name` tells it from others of the same rule and `what`."""
    text = "\0".join(map(str, (what, rule_id, *name)))
    return {
        "decision_id": "de_" + hashlib.sha256(text.encode()).hexdigest()[:20],
        "decided_at": decided_at,
        "what": what,
        "reason": reason,
        "rule_id": rule_id,
        "rule_revision": rule_revision,
        **more,
    }


def transition_decision(record: Mapping[str, Any], what: str, decided_at: Micros) -> Record:
    """That a transition was made, or corrected."""
    return decision_record(
        what,
        record["summary"],
        decided_at,
        record["rule_id"],
        record["rule_revision"],
        (record["alert_id"], record["transition"], record["revision"]),
        alert_id=record["alert_id"],
        transition=record["transition"],
        grouping=record["grouping"],
        group=record["group"],
        pane_end=record["window_end"],
        value=record["value"],
        threshold=record["threshold"],
        groups=1,
        violating=int(record["state"] != RESOLVED),
        parts=record["parts"],
        parts_expected=record["parts_expected"],
    )


def named(keys: Iterable[str], group: Group) -> list[str]:
    """A group as `key=value`."""
    return [f"{key}={value}" for key, value in zip(keys, group, strict=True)]


def number(value: float) -> float | None:
    """A figure for a record: NaN is none."""
    return None if math.isnan(value) else float(value)


def window_summary(rule: StatedRule, alert: OpenAlert, state: str, evidence: Evidence) -> str:
    """One sentence for a person, of a rule that looks at a window."""
    about = f"{rule.metric} ({rule.aggregation})"
    where = "".join(f", {part}" for part in named(rule.keys, alert.group))
    span = f"in {write_duration(evidence.window_end - evidence.window_start)}"
    unit, threshold = rule.threshold_unit.symbol, rule.stated_threshold
    if evidence.value is None:
        figure = f"no data {span}"
    else:
        figure = f"{'at least ' if evidence.at_least else ''}{show(evidence.value, unit)} {span}"
    if threshold is not None:
        figure += f" (alert when {_COMPARED[rule.operator]} {show(threshold, unit)})"
    ending = {
        PENDING: ": not yet for long enough",
        FIRING: "",
        RESOLVED: ": it is over" if alert.state == FIRING else ": it is over before it fired",
    }[state]
    missing = evidence.parts_expected - evidence.parts
    note = f"; {missing} of {evidence.parts_expected} partitions are missing" if missing > 0 else ""
    return f"{rule.name}{where}: {about} {figure}{ending}{note}"
