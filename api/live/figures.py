"""From merged rows to what is shown: rates, ratios, milliseconds, USD."""

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from api.live.coverage import Coverage
from api.live.state import Answer, Window
from api.models.current import (
    CoverageReport,
    Group,
    Latencies,
    Latency,
    LeftOut,
    Partitions,
    Tokens,
    WindowSpan,
)
from api.times import to_time
from schemas.time import Micros
from streams.catalogue.groupings import GROUPINGS, Grouping
from streams.catalogue.measures import TIMED, TOKENS
from streams.windows.sketch import quantile

_QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_NOTHING: Final = Latency(count=0, avg=None, p50=None, p95=None, p99=None, min=None, max=None)


def groups(answer: Answer, grouping: str, limit: int) -> tuple[list[Group], LeftOut]:
    """The `limit` groups with the most requests, and what was left out. A total of no rows is zero."""
    kind = GROUPINGS[grouping]
    rows = answer.rows.sort(["requests", *kind.keys], descending=[True, *(False for _ in kind.keys)])
    if not kind.keys and rows.is_empty():
        nothing = _group(dict.fromkeys(kind.sums, 0), kind, answer.window.seconds)
        return [nothing], LeftOut(groups=0, requests=0)
    rest = rows.slice(limit)
    shown = [_group(row, kind, answer.window.seconds) for row in rows.head(limit).iter_rows(named=True)]
    return shown, LeftOut(groups=rest.height, requests=int(rest["requests"].sum()))


def error_counts(rows: pl.DataFrame) -> dict[str, int]:
    """Errors per type, most frequent first, from rows of the grouping `error`."""
    ordered = rows.sort("errors", "error_type", descending=[True, False])
    return dict(zip(ordered["error_type"].to_list(), ordered["errors"].to_list(), strict=True))


def window_span(window: Window) -> WindowSpan:
    """A window with its times as datetimes."""
    return WindowSpan(
        start=to_time(window.start), end=to_time(window.end), pane=window.pane, seconds=window.seconds
    )


def coverage_report(coverage: Coverage) -> CoverageReport:
    """Coverage with its times as datetimes."""
    return CoverageReport(
        partitions=Partitions(reporting=coverage.reporting, total=coverage.partitions),
        slowest_partition=coverage.slowest_partition,
        watermark=None if coverage.watermark is None else to_time(coverage.watermark),
        closed_through=None if coverage.closed_through is None else to_time(coverage.closed_through),
        complete=coverage.complete,
        missing=list(coverage.missing),
    )


def age_ms(coverage: Coverage, now: Micros) -> int | None:
    """Milliseconds since the newest report; None when there has been none."""
    return None if coverage.newest is None else max(0, now - coverage.newest) // 1000


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _group(row: Mapping[str, Any], kind: Grouping, seconds: float) -> Group:
    requests = row["requests"]
    tokens = row["prompt_tokens"] + row["completion_tokens"]
    return Group(
        key={key: row[key] for key in kind.keys},
        requests=requests,
        request_rate=requests / seconds,
        errors=row["errors"],
        error_rate=_ratio(row["errors"], requests),
        cache_hits=row["cache_hits"],
        cache_hit_rate=_ratio(row["cache_hits"], requests),
        tokens=Tokens(**{kind: row[f"{kind}_tokens"] for kind in TOKENS}, total=tokens),
        tokens_per_request=_ratio(tokens, requests),
        tokens_per_second=tokens / seconds,
        cost_usd=None if row["unpriced"] and not row["cost_nano_usd"] else row["cost_nano_usd"] / 1e9,
        unpriced=row["unpriced"],
        latency_ms=_latencies(row) if kind.latencies else None,
    )


def _latencies(row: Mapping[str, Any]) -> Latencies:
    return Latencies(**{each.label: _latency(row, each.name) for each in TIMED})


def _latency(row: Mapping[str, Any], name: str) -> Latency:
    count = row.get(f"{name}_count", 0)
    if not count:
        return _NOTHING
    least, most = row[f"{name}_min"], row[f"{name}_max"]
    keys, counts = row[f"{name}_keys"], row[f"{name}_counts"]
    # A bucket's value may lie just outside what was measured: the bounds are known exactly.
    quantiles = {p: min(max(quantile(keys, counts, q), least), most) / 1000 for p, q in _QUANTILES.items()}
    return Latency(
        count=count, avg=row[f"{name}_sum"] / count / 1000, min=least / 1000, max=most / 1000, **quantiles
    )
