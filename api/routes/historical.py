"""`GET /api/metrics/historical`: series over time, from ClickHouse."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.dependencies import ClockDep, HistoryDep, ZoneDep
from api.history.question import MAX_STEPS, Aggregation, Kind, ask
from api.live.state import Include
from api.models.historical import Historical
from api.routes.parameters import (
    IN_TOTAL,
    GroupingParameter,
    IncludeParameter,
    KeyParameter,
    limit_parameter,
    problems,
)
from api.times import parse_time, parse_zone
from schemas.time import HOUR
from streams.catalogue.measures import LABELS, TOKENS
from streams.windows.periods import Period

KindParameter = Annotated[Kind, Query(alias="type", description="What the series show.")]
SeriesStartParameter = Annotated[
    str | None,
    Query(description="ISO 8601, UTC unless it says otherwise. Without it: an hour before the end."),
]
SeriesEndParameter = Annotated[
    str | None, Query(description="ISO 8601, UTC unless it says otherwise. Without it: now.")
]
StepParameter = Annotated[
    Period,
    Query(
        description=f"Distance of two points; at most {MAX_STEPS:,} points are answered. "
        "Days, weeks (from Monday) and months are those of the time zone."
    ),
]
ZoneParameter = Annotated[
    str | None,
    Query(
        description="The time zone of hours, days, weeks and months, as in `Europe/Berlin`. Without it: the "
        "configured one.",
        examples=["Asia/Kolkata"],
    ),
]
AggregationParameter = Annotated[
    Aggregation | None,
    Query(
        description="How a step's requests become one figure. requests: sum, rate. "
        "latency: p95, avg, p50, p99, min, max (ms). tokens: sum, rate, avg (per request). "
        "cost: sum, rate, avg (USD, per priced request). errors: sum, rate, ratio. "
        "cache: ratio, sum, rate. Rates are per second. "
        "Without it: the first of the type's."
    ),
]
MeasureParameter = Annotated[
    str | None,
    Query(
        description=f"latency: {', '.join(LABELS)}. tokens: total (prompt and completion), "
        f"{', '.join(TOKENS)}. Without it: total.",
        examples=["first_token"],
    ),
]

router = APIRouter(tags=["metrics"])


@router.get("/api/metrics/historical", summary="Figures over time", responses=problems(400, 503))
async def historical(
    history: HistoryDep,
    clock: ClockDep,
    configured: ZoneDep,
    kind: KindParameter,
    start: SeriesStartParameter = None,
    end: SeriesEndParameter = None,
    step: StepParameter = Period.MINUTE,
    zone: ZoneParameter = None,
    grouping: GroupingParameter = IN_TOTAL,
    key: KeyParameter = [],  # noqa: B006 - FastAPI copies it
    aggregation: AggregationParameter = None,
    measure: MeasureParameter = None,
    include: IncludeParameter = Include.ALL,
    limit: Annotated[int, limit_parameter(100)] = 20,
) -> Historical:
    """One series per group: a point per step, null where there is no data, and one figure for all of it.

    Percentiles come from merged sketches (1 % relative error), never from percentiles.
    """
    now = clock()
    until = now if end is None else parse_time(end, "end")
    since = until - HOUR if start is None else parse_time(start, "start")
    question = ask(
        kind=kind,
        aggregation=aggregation,
        measure=measure,
        grouping=grouping,
        key=key,
        include=include,
        step=step,
        zone=configured if zone is None else parse_zone(zone, "zone"),
        start=since,
        end=until,
        limit=limit,
    )
    return await history.ask(question, now)
