"""The answer of `/api/metrics/current`."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, create_model

from streams.catalogue.groupings import GROUPINGS
from streams.catalogue.measures import COUNTED, LABELS, TIMED
from streams.catalogue.panes import LIVE


class WindowSpan(BaseModel):
    """The span of event time that the figures cover."""

    start: datetime = Field(description="Start, included, UTC.")
    end: datetime = Field(description="End, excluded, UTC.")
    pane: str = Field(description=f"Length of the panes that it is put together from: {' or '.join(LIVE)}.")
    seconds: float = Field(description="Length in seconds: what rates are divided by.")


class Partitions(BaseModel):
    """Source partitions: how many have reported, of how many."""

    reporting: int
    total: int | None = Field(description="Null while it is not known yet.")


class CoverageReport(BaseModel):
    """How far the figures can be relied on."""

    partitions: Partitions
    slowest_partition: int | None = Field(description="The partition whose watermark is furthest behind.")
    watermark: datetime | None = Field(
        description="The slowest partition's watermark. Null while a partition has not reported."
    )
    closed_through: datetime | None = Field(
        description="Panes up to here are closed: only late events still change them."
    )
    complete: bool = Field(
        description="Every pane of the window is closed in every partition, and in memory."
    )
    missing: list[str] = Field(description="Why it is not complete, in words.")


if TYPE_CHECKING:
    Tokens = BaseModel
else:
    Tokens = create_model(
        "Tokens",
        __doc__="Token counts. `total` = `prompt` + `completion`.",
        **{
            each.name.removesuffix("_tokens"): (int, Field(description=each.doc))
            for each in COUNTED
            if each.name.endswith("_tokens")
        },
        total=(int, ...),
    )


class Latency(BaseModel):
    """A latency's distribution, in milliseconds; null where nothing was measured.

    Percentiles come from a merged sketch: within 1 % of the exact value.
    """

    count: int = Field(description="How many requests reported it.")
    avg: float | None
    p50: float | None = Field(description="The median.")
    p95: float | None
    p99: float | None
    min: float | None
    max: float | None


if TYPE_CHECKING:
    Latencies = BaseModel
else:
    Latencies = create_model(
        "Latencies",
        __doc__="The latencies that are measured, in milliseconds.",
        **{each.label: (Latency, Field(description=f"{each.doc}.")) for each in TIMED},
    )


class Group(BaseModel):
    """The figures of one group."""

    key: dict[str, str] = Field(description="The group: the grouping's key fields; empty for the total.")
    requests: int = Field(description="Requests that finished, well or badly.")
    request_rate: float = Field(description="Requests per second.")
    errors: int
    error_rate: float | None = Field(description="errors / requests, 0 to 1; null without requests.")
    cache_hits: int = Field(description="Requests answered from the service's own response cache.")
    cache_hit_rate: float | None = Field(description="cache_hits / requests, 0 to 1; null without requests.")
    tokens: Tokens
    tokens_per_request: float | None = Field(description="Total tokens per request; null without requests.")
    tokens_per_second: float = Field(description="Total tokens per second.")
    cost_usd: float | None = Field(
        description="Cost of what could be priced, in USD; null when nothing could be, and never 0 for that."
    )
    unpriced: int = Field(description="Requests whose cost is not known, and not in cost_usd.")
    latency_ms: Latencies | None = Field(
        description="Null for groupings that keep no latencies: "
        f"{', '.join(each.name for each in GROUPINGS.values() if not each.latencies)}."
    )


class ErrorsByType(BaseModel):
    """Errors by type. Kept by the minute: hence a window of its own."""

    window: WindowSpan
    counts: dict[str, int] = Field(description="Errors per type, most frequent first.")


_LATENCY: Final[dict[str, Any]] = {
    "count": 1204,
    "avg": 1893.4,
    "p50": 1610.2,
    "p95": 4102.7,
    "p99": 6630.1,
    "min": 212.0,
    "max": 9120.5,
}

_EXAMPLE: Final[dict[str, Any]] = {
    "window": {
        "start": "2026-05-04T09:55:00Z",
        "end": "2026-05-04T10:00:00.250000Z",
        "pane": "1s",
        "seconds": 300.25,
    },
    "grouping": "service",
    "include": "live",
    "age_ms": 84,
    "coverage": {
        "partitions": {"reporting": 4, "total": 4},
        "slowest_partition": 2,
        "watermark": "2026-05-04T09:59:50.100000Z",
        "closed_through": "2026-05-04T09:59:50Z",
        "complete": False,
        "missing": ["the window's newest panes are still open"],
    },
    "groups": [
        {
            "key": {"service": "support-chat"},
            "requests": 1204,
            "request_rate": 4.0099,
            "errors": 12,
            "error_rate": 0.00997,
            "cache_hits": 96,
            "cache_hit_rate": 0.0797,
            "tokens": {
                "prompt": 1_204_000,
                "cached": 310_000,
                "completion": 240_800,
                "reasoning": 12_000,
                "total": 1_444_800,
            },
            "tokens_per_request": 1200.0,
            "tokens_per_second": 4811.99,
            "cost_usd": 6.4131,
            "unpriced": 0,
            "latency_ms": dict.fromkeys(LABELS, _LATENCY),
        }
    ],
    "left_out": {"groups": 0, "requests": 0},
    "errors_by_type": None,
}


class LeftOut(BaseModel):
    """Groups beyond `limit`."""

    groups: int
    requests: int = Field(description="Requests of the groups left out.")


class Current(BaseModel):
    """Live figures of a window."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    window: WindowSpan
    grouping: str
    include: str = Field(description="Which events are counted: live, imported or all.")
    age_ms: int | None = Field(
        description="Milliseconds since the newest report of the workers; null when there has been none."
    )
    coverage: CoverageReport
    groups: list[Group] = Field(description="By requests, most first.")
    left_out: LeftOut
    errors_by_type: ErrorsByType | None = Field(
        description="For the grouping `total` only: errors by type, from one-minute panes."
    )
