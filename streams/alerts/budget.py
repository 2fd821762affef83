"""Budgets: the steps of the limit that each group has reached in its period, and what is told of them.

Each step is told once per period and group, as one more transition of the group's alert. What was used is
counted in `spending`.
"""

from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

import numpy as np
import polars as pl

from schemas.time import HOUR, MINUTE, SECOND, Micros
from streams.alerts.baseline import Floats
from streams.alerts.evaluation import Window, selected
from streams.alerts.judgement import say
from streams.alerts.lifecycle import FIRING, RESOLVED, Group, OpenAlert, alert_id
from streams.alerts.limits import Judging
from streams.alerts.records import Evidence, alert_record, named, transition_decision
from streams.alerts.rule import BudgetRule, dumped
from streams.alerts.spending import (
    FIGURES,
    RECENT,
    added,
    begin,
    count,
    keys_of,
    let_go,
    limit_groups,
    period_of,
    recount,
    slot_length,
    spending,
    start_over,
    summed,
)
from streams.alerts.state import RuleState
from streams.alerts.units import rounded

_WELL_UNDER: Final = 0.9
"""A rolling budget's alert resolves under this share of the lowest step: near the step, it would flap."""
_NANO: Final = 1_000_000_000


def spend(
    state: RuleState,
    rule: BudgetRule,
    window: Window,
    at: Judging,
    zone: tzinfo,
    *,
    begun: bool,
    missed: bool,
) -> None:
    """Count a minute's rows, and tell the steps that are reached.

    `begun`: nothing was ever told of a minute before this one, so that history has nothing to add.
    `missed`: minutes are missing between the last one that was counted and this.
    """
    if not state.figures:
        since = window.start if window.whole else window.end
        period = period_of(rule, window.start, zone)
        begin(state, rule, period, since, begun or since <= period[0])
    elif missed or not window.whole:
        start_over(state, window.start if window.whole else window.end)
    _turn(state, rule, window, at, zone)
    if window.whole:
        count(state, rule, spending(rule, selected(rule, window.rows)), window.start, 1)
    let_go(state, rule, window.end)
    limit_groups(state, at.limits.most_spenders)
    groups = state.frames["groups"]
    over = int((groups["told"] > 0).sum())
    if state.figures["answered"]:
        what, reason = "evaluated", f"{over} of {groups.height} groups have reached a step"
    else:
        what, reason = "incomplete", "what was used before is not known yet: there may be more than counted"
    if groups.height or not rule.keys:
        say(state, rule, window, what, reason, (groups.height, over), at)
    if not at.too_late:
        _tell_steps(state, rule, window, at)


def correct_spending(
    state: RuleState, rule: BudgetRule, rows: pl.DataFrame, replaced: pl.DataFrame | None, end: Micros
) -> bool:
    """A minute that is counted has changed: count the difference. Whether it is of this period."""
    figures = state.figures
    start = end - MINUTE
    if not figures or start < max(figures["since"], figures["start"]):
        return False
    count(state, rule, spending(rule, selected(rule, rows)), start, 1)
    if replaced is not None:
        count(state, rule, spending(rule, selected(rule, replaced)), start, -1)
    return True


def missing_history(state: RuleState) -> tuple[Micros, Micros] | None:
    """The span of which history is to be asked what was used in it; None: none."""
    figures = state.figures
    if not figures or figures["answered"]:
        return None
    return (figures["start"], figures["since"])


def add_history(
    state: RuleState, rule: BudgetRule, start: Micros, until: Micros, frame: pl.DataFrame
) -> bool:
    """What was used from `start` to `until` (excluded): keys, `at` (Int64, microseconds), and the sums.

    Whether it was asked for; an answer to another question is left.
    """
    if missing_history(state) != (start, until):
        return False
    rows = spending(rule, selected(rule, frame), frame_time="at")
    on = keys_of(rule)
    if isinstance(rule.period, str):
        groups = state.frames["groups"].with_columns(pl.lit(0, pl.Int64).alias(f"prior_{f}") for f in FIGURES)
        prior = rows.select(*on, *(pl.col(figure).alias(f"prior_{figure}") for figure in FIGURES))
        state.frames["groups"] = added(groups, prior, on)
    else:
        length = slot_length(rule)
        slots = state.frames["slots"].filter(pl.col("slot") >= until - until % length)
        before = rows.with_columns((pl.col("at") - pl.col("at") % length).alias("slot")).drop("at")
        state.frames["slots"] = summed(slots, before, (*on, "slot"))
        recount(state, rule)
    state.figures["answered"] = True
    return True


def resolve_budget(state: RuleState, rule: BudgetRule, why: str, now: Micros) -> None:
    """End all alerts, for another reason than the period's end."""
    ended = state.judged or 0
    window = Window(ended, ended, pl.DataFrame(), 0, 0, whole=True)
    _resolve(state, rule, state.frames["groups"]["told"] > 0, window, why, now)


def revise_budget(state: RuleState, rule: BudgetRule, now: Micros) -> None:
    """The rule has another version: what was told of steps that are not reached any more is void."""
    state.figures["rule"] = dumped(rule)
    groups = state.frames["groups"]
    reached = _reached(rule, groups)
    void = (groups["told"] > 0).to_numpy() & (reached == 0)
    if void.any():
        ended = state.judged or 0
        window = Window(ended, ended, pl.DataFrame(), 0, 0, whole=True)
        why = "the rule was changed, and no step of it is reached"
        _resolve(state, rule, pl.Series(void), window, why, now)
    told = np.minimum(state.frames["groups"]["told"].to_numpy(), reached)
    state.frames["groups"] = state.frames["groups"].with_columns(pl.Series("told", told))


def _turn(state: RuleState, rule: BudgetRule, window: Window, at: Judging, zone: tzinfo) -> None:
    """If another period has begun, the alerts of the last one are over, and nothing is used yet."""
    figures = state.figures
    start, end = period_of(rule, window.start, zone)
    if not isinstance(rule.period, str):
        if figures["answered"]:
            figures["start"], figures["end"] = start, end
        return
    if start == figures["start"]:
        figures["end"] = end
        return
    last = replace(window, end=figures["end"])
    why = "a new period has begun"
    _resolve(state, rule, state.frames["groups"]["told"] > 0, last, why, at.now, reset=True)
    state.frames["groups"] = state.frames["groups"].clear()
    figures["answered"] = figures["since"] <= start
    figures["start"], figures["end"] = start, end


def _tell_steps(state: RuleState, rule: BudgetRule, window: Window, at: Judging) -> None:
    groups = state.frames["groups"]
    told = groups["told"].to_numpy()
    reached = _reached(rule, groups)
    under = (told > 0) & (_shares(rule, groups) < _WELL_UNDER * rule.steps[0])
    if not isinstance(rule.period, str) and under.any():
        _resolve(state, rule, pl.Series(under), window, "well under the lowest step again", at.now)
        groups = state.frames["groups"]
        told = groups["told"].to_numpy()
    crossing = np.flatnonzero(reached > told)[: at.limits.most_groups]
    if not crossing.size:
        return
    started = groups["started_at"].to_numpy().copy()
    transitions = groups["transition"].to_numpy().copy()
    new_told = told.copy()
    rows = groups[crossing]
    burned = _burned(state, rule, rows, window.end)
    for place, (row, figures) in enumerate(zip(crossing.tolist(), rows.iter_rows(named=True), strict=True)):
        if told[row] == 0:
            started[row] = window.end
        group = tuple(figures[key] for key in rule.keys)
        for step in [step for step in rule.steps if told[row] < step <= reached[row]]:
            transitions[row] += 1
            alert = _alert(state, rule, group, int(started[row]), int(transitions[row]))
            evidence = _evidence(state, rule, figures, window, step, burned[place])
            words = _words(rule, group, evidence, step)
            record = alert_record(rule, state.revision, alert, FIRING, evidence, at.now, words)
            state.outbox.alerts.append(record)
            state.outbox.decisions.append(transition_decision(record, FIRING, at.now))
        new_told[row] = reached[row]
    state.frames["groups"] = groups.with_columns(
        pl.Series("told", new_told), pl.Series("transition", transitions), pl.Series("started_at", started)
    )


def _resolve(
    state: RuleState,
    rule: BudgetRule,
    which: pl.Series,
    window: Window,
    why: str,
    now: Micros,
    reset: bool = False,
) -> None:
    """End the alerts of these rows, at the window's end."""
    groups = state.frames["groups"]
    for figures in groups.filter(which).sort(keys_of(rule)).iter_rows(named=True):
        group = tuple(figures[key] for key in rule.keys)
        alert = _alert(state, rule, group, figures["started_at"], figures["transition"] + 1)
        evidence = _evidence(state, rule, figures, window, figures["told"], None, reset=reset)
        where = "".join(f", {part}" for part in named(rule.keys, group))
        words = f"{rule.name}{where}: {why}"
        record = alert_record(rule, state.revision, alert, RESOLVED, evidence, now, words)
        state.outbox.alerts.append(record)
        state.outbox.decisions.append(transition_decision(record, RESOLVED, now))
    # In a calendar's period the same alert may come again, in a rolling one it is another.
    after = pl.col("transition") + 1 if isinstance(rule.period, str) else 0
    state.frames["groups"] = groups.with_columns(
        pl.when(which).then(0.0).otherwise(pl.col("told")).alias("told"),
        pl.when(which).then(after).otherwise(pl.col("transition")).alias("transition"),
    )


def _reached(rule: BudgetRule, groups: pl.DataFrame) -> Floats:
    """The highest step that each row has reached; 0: none."""
    steps = np.array((0.0, *rule.steps))
    return np.asarray(steps[np.searchsorted(steps[1:], _shares(rule, groups), side="right")])


def _shares(rule: BudgetRule, groups: pl.DataFrame) -> Floats:
    """Which share of the limit each row has used."""
    used = (groups["own_spent"] + groups["prior_spent"]).to_numpy()
    return np.asarray(used / (rule.limit * _scale(rule)))


def _burned(state: RuleState, rule: BudgetRule, rows: pl.DataFrame, end: Micros) -> list[float | None]:
    """What each row used per hour, over the last hour: in whole quarters, of which one is running."""
    since = max(end - HOUR, state.figures["since"])
    first = -(-since // RECENT) * RECENT
    first = first if first < end else since - since % RECENT
    span = end - max(first, state.figures["since"])
    on = keys_of(rule)
    recent = state.frames["recent"].filter(pl.col("slot") >= first).group_by(on).agg(pl.col("spent").sum())
    spent = rows.select(on).join(recent, on=on, how="left", maintain_order="left")["spent"].fill_null(0)
    return [value * HOUR / span if span > 0 else None for value in spent.to_list()]


def _evidence(
    state: RuleState,
    rule: BudgetRule,
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


def _words(rule: BudgetRule, group: Group, evidence: Evidence, step: float) -> str:
    where = "".join(f", {part}" for part in named(rule.keys, group))
    told = dict(detail.split("=", 1) for detail in evidence.details)
    unit = rule.measured_unit
    least = "at least " if evidence.at_least else ""
    forecast = told.get("exhausted_at", "")
    ending = f"; at this rate all of it by {forecast}" if forecast[:1].isdigit() else ""
    period = rule.period if isinstance(rule.period, str) else f"last {rounded(rule.period / HOUR)} h"
    return (
        f"{rule.name}{where}: {least}{unit.show(float(told['spent']))} of {unit.show(rule.limit)} used "
        f"({period}), {100 * step:g} % reached{ending}"
    )


def _alert(
    state: RuleState, rule: BudgetRule, group: Group, started_at: Micros, transition: int
) -> OpenAlert:
    start = state.figures["start"] if isinstance(rule.period, str) else started_at
    return OpenAlert(group, alert_id(rule.id, group, start), "firing", transition, started_at, 1)


def _scale(rule: BudgetRule) -> int:
    """How many of what is counted make one of the limit's unit."""
    return _NANO if rule.metric == "cost" else 1


def _iso(at: Micros) -> str:
    return datetime.fromtimestamp(at // SECOND, UTC).isoformat().replace("+00:00", "Z")
