"""What a rule can be about: each metric, how it can be aggregated, by what it is grouped, and its value.

Values are worked out in columns, over rows as `streams.windows.merge.merge` gives them: one per group.
Where there is nothing to divide by, or nothing was measured, the value is null: no data is not 0.
"""

import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from streams.alerts.errors import UnknownMetricError
from streams.alerts.units import COUNTS, LATENCY, MONEY, NUMBER, RATES, SHARE, Unit
from streams.catalogue.groupings import GROUPINGS
from streams.windows.sketch import value_of

Aggregation = Literal["rate", "sum", "avg", "p50", "p95", "p99", "max", "ratio", "last"]
AGGREGATIONS: Final[tuple[Aggregation, ...]] = get_args(Aggregation)

QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
SAMPLE_GROUPING: Final = "sample"
SAMPLE_PREFIX: Final = "sample:"
GROUPING_KEYS: Final[dict[str, tuple[str, ...]]] = {
    **{grouping.name: grouping.keys for grouping in GROUPINGS.values()},
    SAMPLE_GROUPING: ("service", "instance"),
}
"""The keys of each grouping, in the order in which an alert's group states them."""

SAMPLE_SCHEMA: Final = pl.Schema(
    {
        "service": pl.String(),
        "instance": pl.String(),
        "count": pl.Int64(),
        "sum": pl.Float64(),
        "max": pl.Float64(),
        "last": pl.Float64(),
    }
)
"""The rows of a sampled state in a window, one per instance: how often it was sampled, the sum and the
greatest of its values, and the latest one."""

_NANO: Final = 1e9
_SAMPLED: Final = re.compile(r"sample:[^\s*]{1,256}")


@dataclass(frozen=True)
class Measure(ABC):
    """One metric."""

    name: str
    description: str
    aggregations: tuple[Aggregation, ...]
    """The ways it can be aggregated; the first is the default."""
    groupings: tuple[str, ...] = tuple(GROUPINGS)
    """The groupings whose rows carry it."""

    @abstractmethod
    def unit(self, aggregation: str) -> Unit:
        """The unit of its values."""

    @abstractmethod
    def value(self, frame: pl.DataFrame, aggregation: str, seconds: float) -> pl.Series:
        """Its value in each row, Float64, in `unit(aggregation)`; null where there is no data.

        `seconds` is the length of the window that the rows are of.
        """

    def lower_bound(self, frame: pl.DataFrame, aggregation: str) -> pl.Series:
        """Where the value is only known to be at least so much, Boolean: of costs that are known in part."""
        return pl.repeat(value=False, n=len(frame), dtype=pl.Boolean, eager=True)


@dataclass(frozen=True)
class Counted(Measure):
    """A number of things: the sum of some columns."""

    columns: tuple[str, ...] = ()
    thing: str = "requests"

    def unit(self, aggregation: str) -> Unit:
        return {"ratio": SHARE, "rate": RATES[self.thing]}.get(aggregation, COUNTS[self.thing])

    def value(self, frame: pl.DataFrame, aggregation: str, seconds: float) -> pl.Series:
        count = pl.sum_horizontal(self.columns)
        return _column(frame, _aggregated(count, aggregation, seconds, pl.col("requests")))


@dataclass(frozen=True)
class Cost(Measure):
    """What requests cost, in USD. What couldn't be priced isn't in it, and is never taken for 0."""

    def unit(self, aggregation: str) -> Unit:
        return RATES["USD"] if aggregation == "rate" else MONEY

    def value(self, frame: pl.DataFrame, aggregation: str, seconds: float) -> pl.Series:
        priced = pl.col("requests") - pl.col("unpriced")
        value = _aggregated(pl.col("cost_nano_usd") / _NANO, aggregation, seconds, priced)
        unknown = (pl.col("unpriced") > 0) & (pl.col("cost_nano_usd") == 0)
        return _column(frame, pl.when(~unknown).then(value))

    def lower_bound(self, frame: pl.DataFrame, aggregation: str) -> pl.Series:
        if aggregation == "avg":
            return super().lower_bound(frame, aggregation)
        return frame.select((pl.col("unpriced") > 0).alias("value")).to_series()


@dataclass(frozen=True)
class Latency(Measure):
    """A duration in milliseconds, of those requests that report it."""

    column: str = ""

    def unit(self, aggregation: str) -> Unit:
        return LATENCY

    def value(self, frame: pl.DataFrame, aggregation: str, seconds: float) -> pl.Series:
        count, total, least, greatest = (
            pl.col(f"{self.column}_{part}") for part in ("count", "sum", "min", "max")
        )
        if aggregation == "avg":
            return _column(frame, pl.when(count > 0).then(total / count) / 1_000)
        if aggregation == "max":
            return _column(frame, greatest / 1_000)
        quantile = pl.Series(
            quantiles(frame[f"{self.column}_keys"], frame[f"{self.column}_counts"], QUANTILES[aggregation])
        )
        # Within what was measured: a bucket's value may lie outside.
        return _column(frame, pl.when(count > 0).then(pl.lit(quantile).clip(least, greatest)) / 1_000)


@dataclass(frozen=True)
class Sampled(Measure):
    """A state that instances sample: rows as in `SAMPLE_SCHEMA`."""

    def unit(self, aggregation: str) -> Unit:
        return NUMBER

    def value(self, frame: pl.DataFrame, aggregation: str, seconds: float) -> pl.Series:
        value = pl.col("sum") / pl.col("count") if aggregation == "avg" else pl.col(aggregation)
        return _column(frame, pl.when(pl.col("count") > 0).then(value))


def _aggregated(count: pl.Expr, aggregation: str, seconds: float, over: pl.Expr) -> pl.Expr:
    if aggregation == "sum":
        return count
    if aggregation == "rate":
        return count / seconds
    return pl.when(over > 0).then(count / over)


def _column(frame: pl.DataFrame, value: pl.Expr) -> pl.Series:
    return frame.select(value.cast(pl.Float64).alias("value")).to_series()


def quantiles(keys: pl.Series, counts: pl.Series, q: float) -> npt.NDArray[np.float64]:
    """`streams.windows.sketch.quantile` of each row's sketch, in microseconds; NaN for empty ones.

    `keys` and `counts` are lists, the keys of each ascending.
    """
    lengths = counts.list.len().to_numpy().astype(np.int64)
    found = np.full(len(lengths), np.nan)
    cumulative = np.concatenate(([0], np.cumsum(counts.explode(empty_as_null=False).to_numpy())))
    ends = np.cumsum(lengths)
    before = cumulative[ends - lengths]
    totals = cumulative[ends] - before
    some = totals > 0
    ranks = before[some] + np.floor(q * (totals[some] - 1)).astype(np.int64)
    at = np.searchsorted(cumulative[1:], ranks, side="right")
    found[some] = value_of(keys.explode(empty_as_null=False).to_numpy()[at])
    return found


def _counted(name: str, description: str, *columns: str, share: bool = True) -> Counted:
    aggregations: tuple[Aggregation, ...] = ("ratio", "sum", "rate") if share else ("rate", "sum")
    return Counted(name, description, aggregations, columns=columns)


def _tokens(name: str, description: str, *columns: str) -> Counted:
    return Counted(name, description, ("sum", "rate", "avg"), columns=columns, thing="tokens")


def _latency(name: str, description: str, column: str) -> Latency:
    carrying = tuple(g.name for g in GROUPINGS.values() if column in g.latencies)
    return Latency(name, description, ("p95", "avg", "p50", "p99", "max"), carrying, column=column)


MEASURES: Final[dict[str, Measure]] = {
    measure.name: measure
    for measure in (
        _counted("requests", "Finished requests.", "requests", share=False),
        _counted("errors", "Requests that failed.", "errors"),
        _counted("cache_hits", "Requests answered from a cache.", "cache_hits"),
        _tokens("tokens", "Tokens of prompts and completions.", "prompt_tokens", "completion_tokens"),
        _tokens("prompt_tokens", "Tokens of prompts, cached ones included.", "prompt_tokens"),
        _tokens("cached_tokens", "Those of the prompts' tokens that were cached.", "cached_tokens"),
        _tokens("completion_tokens", "Tokens of completions, reasoning included.", "completion_tokens"),
        _tokens(
            "reasoning_tokens", "Those of the completions' tokens that are reasoning.", "reasoning_tokens"
        ),
        Cost("cost", "What requests cost; a lower bound where some have no price.", ("sum", "rate", "avg")),
        _counted("unpriced", "Requests whose cost is not known.", "unpriced"),
        _latency("latency", "From a request's start to its end.", "total_us"),
        _latency("context_latency", "Until the context was ready.", "context_us"),
        _latency("model_latency", "Of the model's call.", "model_us"),
        _latency("first_token_latency", "From a request's start to its first token.", "first_token_us"),
    )
}
"""All metrics but the sampled states, by name."""


def measure(name: str) -> Measure:
    """The metric of that name; `sample:<name>` is the state that instances sample under that name.

    Raises UnknownMetricError.
    """
    if name in MEASURES:
        return MEASURES[name]
    if _SAMPLED.fullmatch(name):
        described = f"The sampled state {name.removeprefix(SAMPLE_PREFIX)}."
        return Sampled(name, described, ("last", "avg", "max"), (SAMPLE_GROUPING,))
    if name.startswith(SAMPLE_PREFIX):
        raise UnknownMetricError(
            f"{name!r} names no sampled state", "write it as in sample:queue_depth, without spaces"
        )
    raise UnknownMetricError(f"there is no metric {name!r}", nearest(name, [*MEASURES, "sample:<name>"]))


def nearest(name: str, known: Iterable[str]) -> str:
    """What was probably meant, or else all there is."""
    names = list(known)
    close = difflib.get_close_matches(name.lower(), names, 1, 0.6)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
