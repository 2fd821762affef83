"""What a budget's alerts state: how much is used, how fast, when it will be all; and the same in words."""

from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import polars as pl

from schemas.time import HOUR, SECOND, Micros
from streams.alerts.kinds.budget.spending import RECENT, keys_of
from streams.alerts.kinds.budget.terms import BudgetTerms
from streams.alerts.kinds.comparison import Floats
from streams.alerts.lifecycle import Group
from streams.alerts.records import Evidence, named
from streams.alerts.state import RuleState
from streams.alerts.units import rounded
from streams.alerts.window import Window

_NANO: Final = 1_000_000_000


def shares_used(rule: BudgetTerms, groups: pl.DataFrame) -> Floats:
    """Which share of the limit each row has used."""
    used = (groups["own_spent"] + groups["prior_spent"]).to_numpy()
    return np.asarray(used / (rule.limit * _scale(rule)))


def burned_hourly(state: RuleState, rule: BudgetTerms, rows: pl.DataFrame, end: Micros) -> list[float | None]:
    """What each row used per hour, over the last hour: in whole quarters, of which one is running."""
    since = max(end - HOUR, state.figures["since"])
    first = -(-since // RECENT) * RECENT
    first = first if first < end else since - since % RECENT
    span = end - max(first, state.figures["since"])
    on = keys_of(rule)
    recent = state.frames["recent"].filter(pl.col("slot") >= first).group_by(on).agg(pl.col("spent").sum())
    spent = rows.select(on).join(recent, on=on, how="left", maintain_order="left")["spent"].fill_null(0)
    return [value * HOUR / span if span > 0 else None for value in spent.to_list()]


def evidence_of(
    state: RuleState,
    rule: BudgetTerms,
    figures: dict[str, Any],
    window: Window,
    step: float,
    burned: float | None,
    reset: bool = False,
) -> Evidence:
    spent = figures["own_spent"] + figures["prior_spent"]
    limit, scale = rule.limit, _scale(rule)
    start, end = state.figures["start"], state.figures["end"]
    unpriced = figures["own_unpriced"] + figures["prior_unpriced"] if rule.metric == "cost" else 0
    details = [f"spent={spent / scale:.9g}", f"limit={limit:.9g}", f"period_start={_iso(start)}"]
    if isinstance(rule.period, str):
        details.append(f"period_end={_iso(end)}")
    if unpriced:
        details.append(f"unpriced={unpriced}")
    if not state.figures["answered"]:
        details.append("history=missing")
    if reset:
        details.append("reset=true")
    if burned is not None:
        hourly, even = burned / scale, limit / ((end - start) / HOUR)
        details += [f"burn_per_hour={hourly:.6g}", f"even_per_hour={even:.6g}"]
        left = limit - spent / scale
        if left > 0 and hourly > 0:
            exhausted = window.end + int(left / hourly * HOUR)
            within = not isinstance(rule.period, str) or exhausted < end
            details.append(f"exhausted_at={_iso(exhausted)}" if within else "exhausted_at=not in this period")
    return Evidence(
        start,
        window.end,
        spent / scale / limit,
        figures["own_requests"] + figures["prior_requests"],
        window.parts,
        window.parts_expected,
        window.sources,
        at_least=bool(unpriced) or not state.figures["answered"],
        step=step,
        details=tuple(details),
    )


def summary_of(rule: BudgetTerms, group: Group, evidence: Evidence) -> str:
    """That a step is reached, of how much, and when all of it will be used."""
    where = "".join(f", {part}" for part in named(rule.keys, group))
    stated = dict(detail.split("=", 1) for detail in evidence.details)
    unit = rule.measured_unit
    least = "at least " if evidence.at_least else ""
    forecast = stated.get("exhausted_at", "")
    ending = f"; at this rate all of it by {forecast}" if forecast[:1].isdigit() else ""
    period = rule.period if isinstance(rule.period, str) else f"last {rounded(rule.period / HOUR)} h"
    return (
        f"{rule.name}{where}: {least}{unit.show(float(stated['spent']))} of {unit.show(rule.limit)} used "
        f"({period}), {100 * (evidence.step or 0):g} % reached{ending}"
    )


def _scale(rule: BudgetTerms) -> int:
    """How many of what is counted make one of the limit's unit."""
    return _NANO if rule.metric == "cost" else 1


def _iso(at: Micros) -> str:
    return datetime.fromtimestamp(at // SECOND, UTC).isoformat().replace("+00:00", "Z")
