"""What is asked of ClickHouse about a rule's history, pure: text, and parameters.

Slots, and of which earlier windows the reference of one is made, are the rule's (`kinds.referenced`).
"""

from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Any, Final, NamedTuple

from schemas.time import HOUR, MINUTE, SECOND, Micros
from streams.alerts.filters import pattern
from streams.alerts.kinds.grouped import GroupedRule
from streams.alerts.kinds.referenced import ReferencedRule
from streams.alerts.measures import SAMPLE_GROUPING, Cost, Counted, Latency, Measure
from streams.windows.measures import GROUPINGS

_QUANTILES: Final = {"p50": 1, "p95": 2, "p99": 3}


class Query(NamedTuple):
    """A query's text, and the values of its parameters."""

    text: str
    parameters: dict[str, Any]


class Span(NamedTuple):
    """Earlier windows that a slot is compared with: those that end at `first`, at `last`, or in between."""

    slot_start: Micros
    first: Micros
    last: Micros


def spans(rule: ReferencedRule, start: Micros, until: Micros, zone: tzinfo) -> list[Span]:
    """With which windows of the past each slot from `start` to `until` (excluded) is compared."""
    slots = range(start - start % rule.slot, until, rule.slot)
    return [Span(slot, *ends) for slot in slots for ends in rule.earlier(slot, zone)]


def reference(rule: ReferencedRule, earlier: Sequence[Span]) -> Query:
    """One row per group and slot: keys (k1, k2), slot (seconds), mean, std, samples (`References.add`).

    Windows in which a group had no data are no samples, nor, where windows are what counts, those with fewer
    requests than the rule wants.
    """
    samples, least = ("count()", rule.minimum_requests) if rule.samples == "windows" else ("sum(requests)", 0)
    stride = rule.stride
    seconds = rule.window // SECOND
    source = _Source.of(rule, "1m" if rule.window % MINUTE == 0 and stride % MINUTE == 0 else "1s")
    # A pane that ends at `p` is in the windows that end at the next multiple of the stride, and after.
    step, pane_end = stride // SECOND, f"(toInt64(toUnixTimestamp({source.time})) + {source.pane // SECOND})"
    first = f"intDiv({pane_end} + {step} - 1, {step})"
    ends = f"arrayMap(i -> ({first} + i) * {step}, range({-(-seconds // step)}))"
    read = _ranges([(span.first - rule.window, span.last) for span in earlier], source)
    where = _selected(rule)
    # As text: parameters go into the URL, which may not be long.
    listed = ", ".join(
        f"({span.slot_start // SECOND}, {span.first // SECOND}, {span.last // SECOND})" for span in earlier
    )
    text = f"""
        SELECT k1, k2, span.1 AS slot, avg(figure) AS mean, stddevSamp(figure) AS std, {samples} AS samples
        FROM
        (
            SELECT {source.keys}, e, {value(rule.measure, rule.aggregation, rule.seconds)} AS figure,
                {source.requests} AS requests
            FROM {source.table}
            ARRAY JOIN arrayFilter(x -> x < {pane_end} + {seconds}, {ends}) AS e
            WHERE {source.where} AND ({read}) AND {where}
            GROUP BY k1, k2, e
            HAVING isNotNull(figure) AND {source.requests} >= {least}
        )
        ARRAY JOIN arrayFilter(s -> e BETWEEN s.2 AND s.3, [{listed}]) AS span
        GROUP BY k1, k2, slot"""  # noqa: S608 - numbers, digits and constants
    return Query(text, dict(source.parameters))


def spent(rule: GroupedRule, start: Micros, until: Micros, step: Micros | None = None) -> Query:
    """One row per group, or per group and `step`: keys (k1, k2), at (seconds), and all sums of the minutes
    from `start` to `until` (excluded). Imported requests spend nothing."""
    source = _Source.of(rule, "1m")
    at = f"{start // SECOND}"
    if step is not None:
        seconds = step // SECOND
        at = f"intDiv(toUnixTimestamp(w.pane_start), {seconds}) * {seconds}"
    where = _selected(rule)
    sums = ", ".join(f"sum(w.{name}) AS {name}" for name in GROUPINGS[rule.grouping].sums)
    text = f"""
        SELECT {source.keys}, toInt64({at}) AS at, {sums}
        FROM {source.table}
        WHERE {source.where} AND NOT w.imported AND {where}
            AND w.pane_start >= toDateTime({{start:Int64}}, 'UTC')
            AND w.pane_start < toDateTime({{until:Int64}}, 'UTC')
        GROUP BY k1, k2, at"""  # noqa: S608 - numbers, digits and constants
    bounds = {"start": start // SECOND, "until": until // SECOND}
    return Query(text, {**source.parameters, **bounds})


def still_open(rule: GroupedRule, until: Micros) -> Query:
    """How many rows of the hour before `until` are not those of closed panes: more may come."""
    source = _Source.of(rule, "1m")
    text = f"""
        SELECT count() FROM {source.table}
        WHERE {source.where} AND NOT w.closed AND NOT w.imported
            AND w.pane_start >= toDateTime({{from:Int64}}, 'UTC')
            AND w.pane_start < toDateTime({{to:Int64}}, 'UTC')"""  # noqa: S608 - constants
    bounds = {"from": (until - HOUR) // SECOND, "to": until // SECOND}
    return Query(text, {**source.parameters, **bounds})


def value(measure: Measure, aggregation: str, seconds: float) -> str:
    """What `measure.value` makes of merged rows, in SQL over the rows before they are merged."""
    if isinstance(measure, Counted):
        counted = " + ".join(f"sum(w.{column})" for column in measure.columns)
        return _aggregated(f"({counted})", aggregation, seconds, "sum(w.requests)")
    if isinstance(measure, Cost):
        usd, unpriced = "(sum(w.cost_nano_usd) / 1e9)", "sum(w.unpriced)"
        cost = _aggregated(usd, aggregation, seconds, f"(sum(w.requests) - {unpriced})")
        return f"if({unpriced} > 0 AND sum(w.cost_nano_usd) = 0, NULL, {cost})"
    if isinstance(measure, Latency):
        return _latency(f"w.{measure.column}", aggregation)
    return {"avg": "avg(w.value)", "max": "max(w.value)", "last": "argMax(w.value, w.occurred_at)"}[
        aggregation
    ]


def _aggregated(counted: str, aggregation: str, seconds: float, over: str) -> str:
    if aggregation == "sum":
        return f"toFloat64({counted})"
    if aggregation == "rate":
        return f"{counted} / {seconds}"
    return f"{counted} / nullIf({over}, 0)"


def _latency(column: str, aggregation: str) -> str:
    count = f"sum({column}_count)"
    least, most = f"toFloat64(min({column}_min))", f"toFloat64(max({column}_max))"
    if aggregation == "avg":
        return f"sum({column}_sum) / nullIf({count}, 0) / 1000"
    if aggregation == "max":
        return f"{most} / 1000"
    quantiles = f"quantilesDDMerge(0.01, 0.5, 0.95, 0.99)({column}_sketch)"
    within = f"least(greatest({quantiles}[{_QUANTILES[aggregation]}], {least}), {most})"
    return f"if({count} = 0, NULL, {within} / 1000)"


class _Source(NamedTuple):
    """Where a rule's figures are."""

    table: str
    time: str
    pane: Micros
    """How long after `time` a row ends."""
    keys: str
    where: str
    requests: str
    parameters: dict[str, Any]

    @classmethod
    def of(cls, rule: GroupedRule, pane: str) -> "_Source":
        if rule.grouping == SAMPLE_GROUPING:
            return cls(
                "(SELECT * FROM samples FINAL) AS w",
                "w.occurred_at",
                SECOND,
                "w.service AS k1, w.instance AS k2",
                "w.name = {sampled:String}",
                "count()",
                {"sampled": rule.metric.partition(":")[2]},
            )
        return cls(
            "window_rows AS w",
            "w.pane_start",
            MINUTE if pane == "1m" else SECOND,
            "w.key1 AS k1, w.key2 AS k2",
            "w.pane = {pane:String} AND w.grouping = {grouping:String}",
            "sum(w.requests)",
            {"pane": pane, "grouping": rule.grouping},
        )


def _ranges(wanted: Iterable[tuple[Micros, Micros]], source: _Source) -> str:
    """Rows within these spans of time, end excluded; overlapping ones joined."""
    joined: list[tuple[Micros, Micros]] = []
    for start, end in sorted(wanted):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    conditions = [
        f"({source.time} >= toDateTime({start // SECOND}, 'UTC') "
        f"AND {source.time} < toDateTime({-(-end // SECOND)}, 'UTC'))"
        for start, end in joined
    ]
    return " OR ".join(conditions) or "false"


def _selected(rule: GroupedRule) -> str:
    """The rule's filter. What a person wrote is in it as hexadecimal digits: it may be long, so it is no
    parameter, which would go into the URL."""
    columns = ("w.service", "w.instance") if rule.grouping == SAMPLE_GROUPING else ("w.key1", "w.key2")
    conditions = [
        f"match({column}, unhex('{pattern(rule.filter[key]).encode().hex()}'))"
        for key, column in zip(rule.keys, columns, strict=False)
        if key in rule.filter
    ]
    return " AND ".join(conditions) or "true"
