"""Alerts and decisions as records (`schemas/*.avsc`), with what is said in words."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from schemas.time import Micros
from schemas.topics import REQUESTS, SAMPLES
from streams.alerts.lifecycle import FIRING, PENDING, RESOLVED, Group, OpenAlert, Record
from streams.alerts.measures import SAMPLE_GROUPING
from streams.alerts.rule import Rule
from streams.alerts.shares import Source
from streams.alerts.units import show, write_duration

_COMPARED: Final = {">": "over", ">=": "at or over", "<": "under", "<=": "at or under"}


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


def alert_record(
    rule: Rule,
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
        "kind": rule.kind,
        "severity": rule.severity,
        "labels": [f"{name}={value}" for name, value in rule.labels.items()],
        "grouping": rule.grouping,
        "group": named(rule.keys, alert.group),
        "started_at": alert.started_at,
        "changed_at": evidence.window_end,
        "judged_at": judged_at,
        "metric": rule.metric,
        "aggregation": rule.aggregation,
        "unit": unit_of(rule),
        "threshold": threshold_of(rule) if evidence.step is None else evidence.step,
        "summary": summary,
        **stated(rule, evidence),
    }


def stated(rule: Rule, evidence: Evidence) -> Record:
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


def unit_of(rule: Rule) -> str:
    """The symbol of the unit of value and threshold."""
    return "number" if rule.kind == "watchdog" else rule.threshold_unit.symbol


def threshold_of(rule: Rule) -> float | None:
    """What the value is held against; None where the rule has no one threshold."""
    return rule.threshold if rule.kind in ("threshold", "baseline", "change", "capacity") else None


def number(value: float) -> float | None:
    """A figure for a record: NaN is none."""
    return None if math.isnan(value) else float(value)


def summary(rule: Rule, alert: OpenAlert, state: str, evidence: Evidence) -> str:
    """One sentence for a person, of a rule that holds a window against a threshold."""
    about = f"{rule.metric} ({rule.aggregation})"
    where = "".join(f", {part}" for part in named(rule.keys, alert.group))
    span = f"in {write_duration(evidence.window_end - evidence.window_start)}"
    if evidence.value is None:
        told = f"no data {span}"
    else:
        told = f"{'at least ' if evidence.at_least else ''}{show(evidence.value, unit_of(rule))} {span}"
    threshold = threshold_of(rule)
    if threshold is not None:
        limit = f"{_COMPARED[rule.operator]} {show(threshold, unit_of(rule))}"
        told += f" (alert when {limit})"
    ending = {
        PENDING: ": not yet for long enough",
        FIRING: "",
        RESOLVED: ": it is over" if alert.state == FIRING else ": it is over before it fired",
    }[state]
    missing = evidence.parts_expected - evidence.parts
    note = f"; {missing} of {evidence.parts_expected} partitions are missing" if missing > 0 else ""
    return f"{rule.name}{where}: {about} {told}{ending}{note}"
