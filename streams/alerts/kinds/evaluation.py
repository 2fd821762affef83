"""A rule held against a window, in columns: which groups violate it, which hold, which can't be told."""

from typing import Final

import numpy as np
import polars as pl

from streams.alerts.kinds.comparison import Bools, Evaluated, Floats
from streams.alerts.kinds.windowed import WindowedRule
from streams.alerts.window import Window

RISES: Final = (">", ">=")
"""A rule with one of these fires for too much: a part of the traffic can be enough to tell."""


def evaluate(rule: WindowedRule, window: Window, reference: pl.DataFrame | None = None) -> Evaluated:
    """Hold the rule against every group that has rows in the window.

    `reference` is what some kinds hold a value against (`references.References.of`); without one nothing is
    known of them. A window of a part of the traffic only tells that there is too much.
    """
    rows = rule.selected(window.rows)
    measured = rule.measure.value(rows, rule.aggregation, rule.seconds).fill_null(np.nan).to_numpy()
    requests = rows["requests"].to_numpy()
    no_data = np.isnan(measured)
    too_few = ~no_data & (requests < rule.minimum_requests)
    compared = rule.compare(rows, measured, reference)
    none = np.zeros(len(measured), dtype=np.bool_)
    no_baseline = none if compared.no_baseline is None else compared.no_baseline
    notable = ~none if compared.notable is None else compared.notable
    at_least = rule.measure.lower_bound(rows, rule.aggregation).to_numpy()
    judged = ~(no_data | too_few | no_baseline)
    over = judged & notable & _compare(compared.values, rule.operator, rule.stated_threshold)
    holds = judged & ~over & window.complete
    if rule.operator not in RISES:
        # Of a part of the traffic, or of the costs, it can't be told that they are too little.
        over = over & ~at_least & window.complete
    return Evaluated(
        rows.select(rule.keys),
        compared.values,
        measured,
        requests,
        over,
        holds,
        no_data,
        too_few,
        no_baseline,
        at_least,
        compared.extra,
    )


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
