"""The queries, pure: text that only this module writes; what a caller wrote is always a parameter."""

from typing import Any, Final

from api.clickhouse import Query
from api.history.question import Aggregation, Kind, Question
from schemas.time import SECOND
from streams.catalogue.panes import ONE_MINUTE

_COUNTS: Final = {
    Kind.REQUESTS: "sum(w.requests)",
    Kind.ERRORS: "sum(w.errors)",
    Kind.CACHE: "sum(w.cache_hits)",
}
_QUANTILES: Final = {Aggregation.P50: 1, Aggregation.P95: 2, Aggregation.P99: 3}


# Where steps begin is said here alone: ClickHouse needn't know the calendar, nor the same version of it.
_STEP: Final = "roundDown(toInt64(toUnixTimestamp(w.pane_start)), {steps:Array(Int64)})"


def overall(question: Question) -> Query:
    """One row per group, most requests first: key1, key2, value, requests, unpriced, groups, all_requests."""
    text = f"""
        SELECT w.key1 AS k1, w.key2 AS k2, {_value(question)} AS value,
            sum(w.requests) AS in_group, sum(w.unpriced) AS not_priced,
            count() OVER () AS groups, sum(in_group) OVER () AS in_all
        FROM window_rows AS w
        WHERE {_where(question)}
        GROUP BY k1, k2
        ORDER BY in_group DESC, k1, k2
        LIMIT {{limit:UInt32}}"""  # noqa: S608 - see above
    return Query(text, {**_parameters(question), "limit": question.limit})


def series(question: Question, groups: list[tuple[str, str]]) -> Query:
    """One row per step and group that has data: key1, key2, the step's start (seconds since 1970), value."""
    text = f"""
        SELECT w.key1 AS k1, w.key2 AS k2, {_STEP} AS bucket, {_value(question)} AS value
        FROM window_rows AS w
        WHERE {_where(question)} AND has(arrayZip({{keys1:Array(String)}}, {{keys2:Array(String)}}), (k1, k2))
        GROUP BY k1, k2, bucket
        ORDER BY k1, k2, bucket"""  # noqa: S608 - see above
    chosen = {"keys1": [k1 for k1, _ in groups], "keys2": [k2 for _, k2 in groups]}
    steps = [start // SECOND for start, _ in question.steps()]
    return Query(text, {**_parameters(question), **chosen, "steps": steps})


def coverage(question: Question) -> Query:
    """One row: panes, first and last pane, open panes, newest writing; times in seconds since 1970."""
    text = f"""
        SELECT uniqExact(w.pane_start),
            toUnixTimestamp(min(w.pane_start)), toUnixTimestamp(max(w.pane_start)),
            uniqExactIf(w.pane_start, NOT w.closed), toUnixTimestamp(max(w.written_at))
        FROM window_rows AS w
        WHERE {_where(question)}"""  # noqa: S608 - see above
    return Query(text, _parameters(question))


def _where(question: Question) -> str:
    conditions = [
        f"w.pane = '{ONE_MINUTE.name}'",
        "w.grouping = {grouping:String}",
        "w.pane_start >= toDateTime({start:Int64}, 'UTC')",
        "w.pane_start < toDateTime({end:Int64}, 'UTC')",
        "has({origins:Array(UInt8)}, toUInt8(w.imported))",
    ]
    conditions += [f"w.key{i} = {{key{i}:String}}" for i in range(1, len(question.key) + 1)]
    return " AND ".join(conditions)


def _parameters(question: Question) -> dict[str, Any]:
    return {
        "grouping": question.grouping.name,
        "start": question.start // SECOND,
        "end": question.end // SECOND,
        "origins": [int(origin) for origin in question.include.origins],
        **{f"key{i}": value for i, value in enumerate(question.key, 1)},
    }


def _value(question: Question) -> str:
    """The figure of a group of rows. A rate's division by seconds is left to the reader of the answer."""
    kind, aggregation = question.kind, question.aggregation
    if kind is Kind.LATENCY:
        return _latency(f"{question.measure}_us", aggregation)
    if kind is Kind.COST:
        return _cost(aggregation)
    counted = _tokens(question.measure or "total") if kind is Kind.TOKENS else _COUNTS[kind]
    if aggregation in (Aggregation.AVG, Aggregation.RATIO):
        return f"{counted} / nullIf(sum(w.requests), 0)"
    return counted


def _tokens(measure: str) -> str:
    if measure == "total":
        return "(sum(w.prompt_tokens) + sum(w.completion_tokens))"
    return f"sum(w.{measure}_tokens)"


def _cost(aggregation: Aggregation) -> str:
    # As the views have it: what could not be priced is not free.
    usd = "sum(w.cost_nano_usd) / 1e9"
    if aggregation is Aggregation.AVG:
        usd += " / nullIf(sum(w.requests) - sum(w.unpriced), 0)"
    return f"if(sum(w.cost_nano_usd) = 0 AND sum(w.unpriced) > 0, NULL, {usd})"


def _latency(column: str, aggregation: Aggregation) -> str:
    count = f"sum(w.{column}_count)"
    least, most = f"toFloat64(min(w.{column}_min))", f"toFloat64(max(w.{column}_max))"
    if aggregation is Aggregation.AVG:
        return f"sum(w.{column}_sum) / nullIf({count}, 0) / 1000"
    if aggregation is Aggregation.MIN:
        return f"{least} / 1000"
    if aggregation is Aggregation.MAX:
        return f"{most} / 1000"
    quantiles = f"quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(w.{column}_sketch)"
    # A bucket's value may lie just outside what was measured: the bounds are known exactly.
    within = f"least(greatest({quantiles}[{_QUANTILES[aggregation]}], {least}), {most})"
    return f"if({count} = 0, NULL, {within} / 1000)"
