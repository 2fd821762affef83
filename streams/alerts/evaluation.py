"""A rule held against a window, in columns: which groups violate it, which hold, which can't be told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.time import Micros
from streams.alerts.baseline import Bools, Floats, deviation
from streams.alerts.lifecycle import Group
from streams.alerts.measures import Latency
from streams.alerts.rule import AbsenceRule, BudgetRule, ComparingRule, Rule
from streams.alerts.shares import Kind, Source

RISES: Final = (">", ">=")


@dataclass(frozen=True)
class Window:
    """The rows of a window, and how much of the traffic they are of."""

    start: Micros
    end: Micros
    rows: pl.DataFrame
    """One per group, as `streams.windows.merge.merge` has them."""
    parts: int
    """Source partitions of which the window's last pane is closed."""
    parts_expected: int
    whole: bool
    """No earlier pane of it is missed either."""
    find_sources: Callable[[], Sequence[Source]] = tuple

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The offsets between which its events are."""
        return tuple(self.find_sources())

    @property
    def complete(self) -> bool:
        """It has everything that was told of it."""
        return self.whole and self.parts >= self.parts_expected


@dataclass(frozen=True)
class Evaluated:
    """One row per group that the rule is about and that has rows in the window."""

    groups: pl.DataFrame
    """The keys."""
    values: Floats
    """What is held against the threshold, in its unit; NaN where there is none."""
    measured: Floats
    """In the metric's unit; NaN where there is no data."""
    requests: npt.NDArray[np.int64]
    violates: Bools
    holds: Bools
    """Neither: nothing is known, and the alert stays as it is; or there is no data."""
    no_data: Bools
    too_few: Bools
    no_baseline: Bools
    at_least: Bools
    """The value is a lower bound."""
    extra: dict[str, Floats] = field(default_factory=dict)
    """Further figures that an alert states."""

    def __len__(self) -> int:
        return len(self.values)

    def group(self, row: int) -> Group:
        """The keys of a row."""
        return self.groups.row(row) if self.groups.width else ()

    @cached_property
    def row_of(self) -> dict[Group, int]:
        """The row of each group."""
        if not self.groups.width:
            return dict.fromkeys([()] * len(self), 0)
        columns = [self.groups[name].to_list() for name in self.groups.columns]
        return {group: row for row, group in enumerate(zip(*columns, strict=True))}


def kind_of(rule: Rule) -> Kind:
    """The panes that a rule is judged by."""
    return Kind(rule.grouping, rule.pane)


def latencies_of(rule: Rule) -> tuple[str, ...]:
    """The latencies whose figures the rule needs."""
    if rule.kind in ("threshold", "baseline", "change", "capacity") and isinstance(rule.measure, Latency):
        return (rule.measure.column,)
    return ()


def rises(rule: Rule) -> bool:
    """The rule fires for too much, not for too little: a part of the traffic can be enough to tell."""
    return rule.operator in RISES


def evaluate(rule: ComparingRule, window: Window, reference: pl.DataFrame | None = None) -> Evaluated:
    """Hold the rule against every group that has rows in the window.

    `reference` is what a baseline or a change is held against (`baseline.References.of`); without one
    nothing is known. A window of a part of the traffic only tells that there is too much.
    """
    rows = selected(rule, window.rows)
    measured = measured_of(rule, rows)
    requests = rows["requests"].to_numpy()
    no_data = np.isnan(measured)
    too_few = ~no_data & (requests < rule.minimum_requests)
    none = np.zeros(len(measured), dtype=np.bool_)
    no_baseline, notable = none, ~none
    extra: dict[str, Floats] = {}
    groups = rows.select(rule.keys)
    if rule.kind == "capacity":
        values = measured / rule.capacity
        extra = {"measured": measured}
    elif rule.kind == "threshold":
        values = measured
    elif reference is None:
        values, no_baseline = np.full(len(measured), np.nan), ~no_data
    else:
        against = deviation(rule, groups, measured, reference)
        values, notable, no_baseline = against.values, against.notable, ~against.has_baseline & ~no_data
        extra = {"measured": measured, "mean": against.means, "samples": against.samples.astype(np.float64)}
        if rule.kind == "baseline":
            extra["std"] = against.stds
    at_least = rule.measure.lower_bound(rows, rule.aggregation).to_numpy()
    judged = ~(no_data | too_few | no_baseline)
    over = judged & notable & _compare(values, rule.operator, rule.threshold)
    holds = judged & ~over & window.complete
    if not rises(rule):
        # Of a part of the traffic, or of the costs, it can't be told that they are too little.
        over = over & ~at_least & window.complete
    return Evaluated(
        groups, values, measured, requests, over, holds, no_data, too_few, no_baseline, at_least, extra
    )


def selected(rule: ComparingRule | AbsenceRule | BudgetRule, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of the groups that the rule is about."""
    return rows.filter(rule.selects()) if rule.filter else rows


def measured_of(rule: ComparingRule, rows: pl.DataFrame) -> Floats:
    """The metric of each row; NaN where there is no data."""
    values = rule.measure.value(rows, rule.aggregation, rule.seconds)
    return values.fill_null(np.nan).to_numpy()


def _compare(values: Floats, operator: str, threshold: float) -> Bools:
    with np.errstate(invalid="ignore"):
        if operator == ">":
            found = values > threshold
        elif operator == ">=":
            found = values >= threshold
        elif operator == "<":
            found = values < threshold
        else:
            found = values <= threshold
    return np.asarray(found, dtype=np.bool_)
