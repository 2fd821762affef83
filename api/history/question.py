"""What can be asked of history, pure: kinds of figures, their aggregations and units, over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Final

from api.errors import BadParameterError
from api.live.state import Include
from api.times import to_time
from schemas.time import Micros
from streams.catalogue.groupings import GROUPINGS, Grouping
from streams.catalogue.measures import LABELS, TOKENS
from streams.windows.periods import Period

MAX_STEPS: Final = 1_500
"""Most points of a series: a day in minutes, or four years in days."""


class Kind(StrEnum):
    """What a series shows."""

    REQUESTS = "requests"
    LATENCY = "latency"
    TOKENS = "tokens"
    COST = "cost"
    ERRORS = "errors"
    CACHE = "cache"


class Aggregation(StrEnum):
    """How the requests of a step become one figure."""

    SUM = "sum"
    RATE = "rate"
    AVG = "avg"
    P50 = "p50"
    P95 = "p95"
    P99 = "p99"
    MIN = "min"
    MAX = "max"
    RATIO = "ratio"


_A: Final = Aggregation
UNITS: Final[dict[Kind, dict[Aggregation, str]]] = {
    Kind.REQUESTS: {_A.SUM: "requests", _A.RATE: "requests/s"},
    Kind.LATENCY: dict.fromkeys((_A.P95, _A.AVG, _A.P50, _A.P99, _A.MIN, _A.MAX), "ms"),
    Kind.TOKENS: {_A.SUM: "tokens", _A.RATE: "tokens/s", _A.AVG: "tokens/request"},
    Kind.COST: {_A.SUM: "USD", _A.RATE: "USD/s", _A.AVG: "USD/request"},
    Kind.ERRORS: {_A.SUM: "errors", _A.RATE: "errors/s", _A.RATIO: "errors/requests"},
    Kind.CACHE: {_A.RATIO: "cache hits/requests", _A.SUM: "cache hits", _A.RATE: "cache hits/s"},
}
"""The aggregations of each kind, the default first, and their units."""

MEASURES: Final[dict[Kind, tuple[str, ...]]] = {
    Kind.LATENCY: LABELS,
    Kind.TOKENS: ("total", *TOKENS),
}
"""What `measure` may name, the default first."""


@dataclass(frozen=True)
class Question:
    """A series that was asked for, checked, its bounds moved outwards to whole steps."""

    kind: Kind
    aggregation: Aggregation
    measure: str | None
    grouping: Grouping
    key: tuple[str, ...]
    include: Include
    step: Period
    zone: tzinfo
    start: Micros
    end: Micros
    limit: int

    @property
    def unit(self) -> str:
        """The figures' unit."""
        return UNITS[self.kind][self.aggregation]

    def steps(self) -> Sequence[tuple[Micros, Micros]]:
        """(start, end) of each step. A day may have 23 or 25 hours."""
        return self._steps

    @cached_property
    def _steps(self) -> Sequence[tuple[Micros, Micros]]:
        # The query asks for them, and the answer is laid out by them: a thousand and more.
        return tuple(pairwise(self.step.bounds(self.start, self.end, self.zone)))


def ask(
    *,
    kind: Kind,
    aggregation: Aggregation | None,
    measure: str | None,
    grouping: str,
    key: Sequence[str],
    include: Include,
    step: Period,
    zone: tzinfo,
    start: Micros,
    end: Micros,
    limit: int,
) -> Question:
    """A checked question. Raises BadParameterError, which names the parameter and says what would do."""
    group = GROUPINGS[grouping]
    if kind is Kind.LATENCY and not group.latencies:
        raise BadParameterError("No latencies are kept by user: use another grouping.", where="grouping")
    check_key(group, key)
    chosen = aggregation or next(iter(UNITS[kind]))
    if chosen not in UNITS[kind]:
        allowed = ", ".join(UNITS[kind])
        raise BadParameterError(
            f"{kind} can't be shown as {chosen}: use one of {allowed}.", where="aggregation"
        )
    measures = MEASURES.get(kind, ())
    if measure is not None and measure not in measures:
        allowed = f"use one of {', '.join(measures)}" if measures else "leave it out"
        raise BadParameterError(f"{kind} has no measure {measure!r}: {allowed}.", where="measure")
    if start >= end:
        raise BadParameterError(
            f"start ({to_time(start).isoformat()}) must lie before end ({to_time(end).isoformat()}).",
            where="start",
        )
    _check_length(start, end, step)
    first = step.floor(start, zone)
    last = step.floor(end, zone)
    return Question(
        kind,
        chosen,
        measure or (measures[0] if measures else None),
        group,
        tuple(key),
        include,
        step,
        zone,
        first,
        last if last == end else step.next(last, zone),
        limit,
    )


def check_key(grouping: Grouping, key: Sequence[str]) -> None:
    """Raises BadParameterError when there are more values than the grouping has key fields."""
    if len(key) > len(grouping.keys):
        fields = f"takes {', '.join(grouping.keys)}, in this order" if grouping.keys else "takes no key"
        raise BadParameterError(
            f"The grouping {grouping.name} {fields}; {len(key)} values were given.", where="key"
        )


def _check_length(start: Micros, end: Micros, step: Period) -> None:
    steps = (end - start) / step.length
    if steps <= MAX_STEPS:
        return
    coarser = next((each for each in Period if (end - start) / each.length <= MAX_STEPS), None)
    advice = f"use step={coarser}, or a shorter range" if coarser else "use a shorter range"
    raise BadParameterError(
        f"That would be {steps:,.0f} points of {step}; at most {MAX_STEPS:,} are answered: {advice}.",
        where="step",
    )
