"""What groups have used, in columns: counted minute by minute, and put together with what history says.

A state's frame `groups` has a row per group: its `own` figures are counted here from `since` on, `prior`
ones come from history. `recent` keeps quarters of an hour, for the burn rate; `slots` what a rolling
period is made of.
"""

from typing import Final

import polars as pl

from schemas.time import HOUR, MINUTE, Micros
from streams.alerts.kinds.budget.terms import BudgetTerms
from streams.alerts.kinds.kind import dumped
from streams.alerts.measures import Counted
from streams.alerts.state import RuleState

RECENT: Final[Micros] = 15 * MINUTE
"""In spans of it the last hour is kept."""
_SLOTS: Final = 60
"""A rolling period is kept in so many spans at most: it is rounded up to whole ones."""
_ALL: Final = "_all"
"""The key of the one group of the total."""
FIGURES: Final = ("spent", "requests", "unpriced")
SUMS: Final = tuple(f"{origin}_{figure}" for origin in ("own", "prior") for figure in FIGURES)
PUBLISHED: Final[dict[str, type[pl.DataType]]] = {
    "told": pl.Float64,
    "transition": pl.Int64,
    "started_at": pl.Int64,
}
"""The highest step that was published (stored states have called it so); the alert's transitions in this
period; when it began."""


def slot_length(rule: BudgetTerms) -> Micros:
    """In spans of which length a rolling budget counts."""
    span = rule.period if not isinstance(rule.period, str) else 0
    return max(RECENT, -(-span // (_SLOTS * RECENT)) * RECENT)


def spending(rule: BudgetTerms, rows: pl.DataFrame, frame_time: str | None = None) -> pl.DataFrame:
    """Keys, spent, requests and unpriced of each row; of a frame over time, its times."""
    measure = rule.measure
    columns = measure.columns if isinstance(measure, Counted) else ("cost_nano_usd",)
    keys = [pl.col(key).cast(pl.String) for key in rule.keys] or [pl.lit("").alias(_ALL)]
    times = [pl.col(frame_time)] if frame_time else []
    return rows.select(
        *keys, *times, pl.sum_horizontal(columns).cast(pl.Int64).alias("spent"), "requests", "unpriced"
    )


def count(state: RuleState, rule: BudgetTerms, rows: pl.DataFrame, start: Micros, sign: int) -> None:
    """Add (or, with a sign of -1, take away) what the groups used in the minute from `start`."""
    if not rows.height:
        return
    on = keys_of(rule)
    rows = rows.with_columns(pl.col(figure) * sign for figure in FIGURES)
    own = rows.select(*on, *(pl.col(figure).alias(f"own_{figure}") for figure in FIGURES))
    state.frames["groups"] = added(state.frames["groups"], own, on)
    for name, length in (("recent", RECENT), ("slots", slot_length(rule))):
        if name == "slots" and isinstance(rule.period, str):
            continue
        slot = pl.lit(start - start % length, pl.Int64).alias("slot")
        state.frames[name] = summed(state.frames[name], rows.with_columns(slot), (*on, "slot"))


def let_go(state: RuleState, rule: BudgetTerms, end: Micros) -> None:
    """Let go of the slots that are over: slots end with a quarter of an hour."""
    frames = state.frames
    if end % RECENT:
        return
    frames["recent"] = frames["recent"].filter(pl.col("slot") >= end - HOUR - RECENT)
    if not isinstance(rule.period, str):
        over = pl.col("slot") + slot_length(rule) <= end - rule.period
        left = frames["slots"].filter(~over)
        if left.height < frames["slots"].height:
            frames["slots"] = left
            recount(state, rule)


def limit_groups(state: RuleState, most: int) -> None:
    """Where there are too many groups, let go of those that used least."""
    frames = state.frames
    excess = frames["groups"].height - most
    if excess > 0:
        spent = pl.col("own_spent") + pl.col("prior_spent")
        frames["groups"] = frames["groups"].sort(pl.col("told") > 0, spent, descending=True).head(-excess)
        state.forgotten += excess


def recount(state: RuleState, rule: BudgetTerms) -> None:
    """A rolling budget's figures are those of the slots that are left."""
    on = keys_of(rule)
    sums = state.frames["slots"].group_by(on).agg(pl.col(f).sum().alias(f"own_{f}") for f in FIGURES)
    alerts = state.frames["groups"].select(*on, *PUBLISHED).filter(pl.col("told") > 0)
    state.frames["groups"] = added(_empty(state.frames["groups"], alerts), sums, on)


def begin(
    state: RuleState, rule: BudgetTerms, period: tuple[Micros, Micros], since: Micros, known: bool
) -> None:
    """Nothing is counted yet; minutes are from `since` on. `known`: there was nothing before it."""
    start, end = period
    state.figures = {"start": start, "end": end, "since": since, "answered": known, "rule": dumped(rule)}
    keys: dict[str, type[pl.DataType]] = dict.fromkeys(keys_of(rule), pl.String)
    empty = pl.DataFrame(schema=keys | dict.fromkeys(SUMS, pl.Int64) | PUBLISHED)
    slots = pl.DataFrame(schema=keys | {"slot": pl.Int64} | dict.fromkeys(FIGURES, pl.Int64))
    state.frames = {"groups": empty, "recent": slots, "slots": slots}


def start_over(state: RuleState, since: Micros) -> None:
    """Minutes were missed: what is counted is a lower bound, until history says what there was."""
    state.figures |= {"since": since, "answered": False}
    state.frames["groups"] = state.frames["groups"].with_columns(
        *(
            (pl.col(f"own_{figure}") + pl.col(f"prior_{figure}")).alias(f"prior_{figure}")
            for figure in FIGURES
        ),
        *(pl.lit(0, pl.Int64).alias(f"own_{figure}") for figure in FIGURES),
    )


def keys_of(rule: BudgetTerms) -> tuple[str, ...]:
    """The columns that tell groups apart."""
    return rule.keys or (_ALL,)


def _empty(groups: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows that lack figures, with 0 for them, in the columns of `groups`."""
    missing = [name for name in groups.columns if name not in rows.columns]
    zeros = [pl.lit(0).cast(groups.schema[name]).alias(name) for name in missing]
    return rows.with_columns(zeros).select(groups.columns)


def added(groups: pl.DataFrame, rows: pl.DataFrame, on: tuple[str, ...]) -> pl.DataFrame:
    """Groups with the figures of `rows` added."""
    rows_of_both = pl.concat([groups, _empty(groups, rows)])
    return rows_of_both.group_by(on, maintain_order=True).agg(pl.col(SUMS).sum(), pl.col(*PUBLISHED).max())


def summed(slots: pl.DataFrame, rows: pl.DataFrame, on: tuple[str, ...]) -> pl.DataFrame:
    """Slots with the figures of `rows` added."""
    rows_of_both = pl.concat([slots, rows.select(slots.columns)])
    return rows_of_both.group_by(on, maintain_order=True).agg(pl.col(FIGURES).sum())
