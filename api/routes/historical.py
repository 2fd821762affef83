"""`GET /api/metrics/historical`: series over time, from ClickHouse."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.dependencies import ClockDep, HistoryDep, ZoneDep
from api.history.question import MAX_STEPS, Aggregation, Kind, Step, ask
from api.live.state import Include
from api.models.historical import Historical
from api.routes.parameters import (
    GroupingName,
    GroupingParameter,
    IncludeParameter,
    KeyParameter,
    limit_parameter,
    problems,
)
from api.times import parse_time
from schemas.time import HOUR

KindParameter = Annotated[Kind, Query(alias="type", description="What the series show.")]
StartParameter = Annotated[
    str | None,
    Query(description="ISO 8601, UTC unless it says otherwise. Without it: an hour before the end."),
]
EndParameter = Annotated[
    str | None, Query(description="ISO 8601, UTC unless it says otherwise. Without it: now.")
]
StepParameter = Annotated[
    Step,
    Query(
        description=f"Distance of two points; at most {MAX_STEPS:,} points are answered. "
        "Days begin at midnight of the configured time zone."
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
        description="latency: total, context, model or first_token. tokens: total (prompt and "
        "completion), prompt, cached, completion or reasoning. Without it: total.",
        examples=["first_token"],
    ),
]

router = APIRouter(tags=["metrics"])


@router.get("/api/metrics/historical", summary="Figures over time", responses=problems(400, 503))
async def historical(
    history: HistoryDep,
    clock: ClockDep,
    zone: ZoneDep,
    kind: KindParameter,
    start: StartParameter = None,
    end: EndParameter = None,
    step: StepParameter = Step.MINUTE,
    grouping: GroupingParameter = GroupingName.TOTAL,
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
        zone=zone,
        start=since,
        end=until,
        limit=limit,
    )
    return await history.ask(question, now)
