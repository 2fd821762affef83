"""The steps of the limit that each group has reached in its period, and what is published of them.

Each step is published once per period and group, as one more transition of the group's alert. What was used
is counted in `spending`.
"""

from dataclasses import replace
from typing import Final

import numpy as np
import polars as pl

from schemas.time import MINUTE, Micros
from streams.alerts.kinds.budget.evidence import burned_hourly, evidence_of, shares_used
from streams.alerts.kinds.budget.period import period_of
from streams.alerts.kinds.budget.spending import (
    FIGURES,
    added,
    begin,
    count,
    keys_of,
    let_go,
    limit_groups,
    recount,
    slot_length,
    spending,
    start_over,
    summed,
)
from streams.alerts.kinds.budget.terms import BudgetTerms
from streams.alerts.kinds.comparison import Floats
from streams.alerts.kinds.kind import dumped
from streams.alerts.lifecycle import FIRING, RESOLVED, Group, OpenAlert, alert_id
from streams.alerts.limits import Judging
from streams.alerts.pane_series import ALWAYS
from streams.alerts.records import alert_record, named
from streams.alerts.state import RuleState
from streams.alerts.transitions import decide_pane, emit_unremembered
from streams.alerts.window import JudgedPane, Window

_WELL_UNDER: Final = 0.9
"""A rolling budget's alert resolves under this share of the lowest step: near the step, it would flap."""


def spend(state: RuleState, rule: BudgetTerms, pane: JudgedPane, at: Judging) -> None:
    """Count a minute's rows, and publish the steps that are reached."""
    window = pane.window
    if not state.figures:
        since = window.start if window.whole else window.end
        period = period_of(rule, window.start, at.zone)
        # Where nothing was ever said of a minute before this one, history has nothing to add.
        begin(state, rule, period, since, pane.whole_from == ALWAYS or since <= period[0])
    elif pane.whole_from > (state.judged or 0) or not window.whole:
        start_over(state, window.start if window.whole else window.end)
    _turn(state, rule, window, at)
    if window.whole:
        count(state, rule, spending(rule, rule.selected(window.rows)), window.start, 1)
    let_go(state, rule, window.end)
    limit_groups(state, at.limits.most_spenders)
    groups = state.frames["groups"]
    over = int((groups["told"] > 0).sum())
    if state.figures["answered"]:
        what, reason = "evaluated", f"{over} of {groups.height} groups have reached a step"
    else:
        what, reason = "incomplete", "what was used before is not known yet: there may be more than counted"
    if groups.height or not rule.keys:
        decide_pane(state, rule, window, what, reason, (groups.height, over), at)
    if not at.too_late:
        _publish_steps(state, rule, window, at)


def count_late(
    state: RuleState, rule: BudgetTerms, rows: pl.DataFrame, replaced: pl.DataFrame | None, end: Micros
) -> bool:
    """A minute that is counted has changed: count the difference. Whether it is of this period."""
    figures = state.figures
    start = end - MINUTE
    if not figures or start < max(figures["since"], figures["start"]):
        return False
    count(state, rule, spending(rule, rule.selected(rows)), start, 1)
    if replaced is not None:
        count(state, rule, spending(rule, rule.selected(replaced)), start, -1)
    return True


def unknown_span(state: RuleState) -> tuple[Micros, Micros] | None:
    """The span that history has still to say what was used in; None: none."""
    figures = state.figures
    if not figures or figures["answered"]:
        return None
    return (figures["start"], figures["since"])


def add_history(
    state: RuleState, rule: BudgetTerms, start: Micros, until: Micros, frame: pl.DataFrame
) -> bool:
    """What was used from `start` to `until` (excluded): keys, `at` (Int64, microseconds), and the sums.

    Whether it was asked for; an answer to another question is left.
    """
    if unknown_span(state) != (start, until):
        return False
    rows = spending(rule, rule.selected(frame), frame_time="at")
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


def resolve_all(state: RuleState, rule: BudgetTerms, why: str, now: Micros) -> None:
    """End all alerts, for another reason than the period's end."""
    ended = state.judged or 0
    window = Window(ended, ended, pl.DataFrame(), 0, 0, whole=True)
    _resolve(state, rule, state.frames["groups"]["told"] > 0, window, why, now)


def revise(state: RuleState, rule: BudgetTerms, now: Micros) -> None:
    """The rule has another version: what was published of steps that are not reached any more is void."""
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


def _turn(state: RuleState, rule: BudgetTerms, window: Window, at: Judging) -> None:
    """If another period has begun, the alerts of the last one are over, and nothing is used yet."""
    figures = state.figures
    start, end = period_of(rule, window.start, at.zone)
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


def _publish_steps(state: RuleState, rule: BudgetTerms, window: Window, at: Judging) -> None:
    groups = state.frames["groups"]
    told = groups["told"].to_numpy()
    reached = _reached(rule, groups)
    under = (told > 0) & (shares_used(rule, groups) < _WELL_UNDER * rule.steps[0])
    if not isinstance(rule.period, str) and under.any():
        _resolve(state, rule, pl.Series(under), window, "well under the lowest step again", at.now)
        groups = state.frames["groups"]
        told = groups["told"].to_numpy()
    crossing = np.flatnonzero(reached > told)[: at.limits.most_groups]
    if not crossing.size:
        return
    started = groups["started_at"].to_numpy().copy()
    transitions = groups["transition"].to_numpy().copy()
    published = told.copy()
    rows = groups[crossing]
    burned = burned_hourly(state, rule, rows, window.end)
    for place, (row, figures) in enumerate(zip(crossing.tolist(), rows.iter_rows(named=True), strict=True)):
        if told[row] == 0:
            started[row] = window.end
        group = tuple(figures[key] for key in rule.keys)
        for step in [step for step in rule.steps if told[row] < step <= reached[row]]:
            transitions[row] += 1
            alert = _alert(state, rule, group, int(started[row]), int(transitions[row]))
            evidence = evidence_of(state, rule, figures, window, step, burned[place])
            summary = rule.summary(alert, FIRING, evidence)
            record = alert_record(rule, state.revision, alert, FIRING, evidence, at.now, summary)
            emit_unremembered(state, record, at.now)
        published[row] = reached[row]
    state.frames["groups"] = groups.with_columns(
        pl.Series("told", published), pl.Series("transition", transitions), pl.Series("started_at", started)
    )


def _resolve(
    state: RuleState,
    rule: BudgetTerms,
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
        evidence = evidence_of(state, rule, figures, window, figures["told"], None, reset=reset)
        where = "".join(f", {part}" for part in named(rule.keys, group))
        summary = f"{rule.name}{where}: {why}"
        record = alert_record(rule, state.revision, alert, RESOLVED, evidence, now, summary)
        emit_unremembered(state, record, now)
    # In a calendar's period the same alert may come again, in a rolling one it is another.
    after = pl.col("transition") + 1 if isinstance(rule.period, str) else 0
    state.frames["groups"] = groups.with_columns(
        pl.when(which).then(0.0).otherwise(pl.col("told")).alias("told"),
        pl.when(which).then(after).otherwise(pl.col("transition")).alias("transition"),
    )


def _reached(rule: BudgetTerms, groups: pl.DataFrame) -> Floats:
    """The highest step that each row has reached; 0: none."""
    steps = np.array((0.0, *rule.steps))
    return np.asarray(steps[np.searchsorted(steps[1:], shares_used(rule, groups), side="right")])


def _alert(
    state: RuleState, rule: BudgetTerms, group: Group, started_at: Micros, transition: int
) -> OpenAlert:
    start = state.figures["start"] if isinstance(rule.period, str) else started_at
    return OpenAlert(group, alert_id(rule.id, group, start), "firing", transition, started_at, 1)
