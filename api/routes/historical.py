"""`GET /api/metrics/historical`: series over time, from ClickHouse."""

from datetime import tzinfo
from typing import Annotated

from fastapi import APIRouter, Query

from api.history.question import MAX_STEPS, Aggregation, Kind, ask
from api.history.store import History
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
from api.times import Clock, parse_time, parse_zone
from schemas.time import HOUR
from streams.catalogue.measures import LABELS, TOKENS
from streams.windows.periods import Period


def router(history: History, clock: Clock, configured: tzinfo) -> APIRouter:
    """The route, over this history; days are those of the zone `configured` unless another is asked for."""
    routes = APIRouter(tags=["metrics"])

    @routes.get("/api/metrics/historical", summary="Figures over time", responses=problems(400, 503))
    async def historical(
        kind: Annotated[Kind, Query(alias="type", description="What the series show.")],
        start: Annotated[
            str | None,
            Query(description="ISO 8601, UTC unless it says otherwise. Without it: an hour before the end."),
        ] = None,
        end: Annotated[
            str | None, Query(description="ISO 8601, UTC unless it says otherwise. Without it: now.")
        ] = None,
        step: Annotated[
            Period,
            Query(
                description=f"Distance of two points; at most {MAX_STEPS:,} points are answered. "
                "Days, weeks (from Monday) and months are those of the time zone."
            ),
        ] = Period.MINUTE,
        zone: Annotated[
            str | None,
            Query(
                description="The time zone of hours, days, weeks and months, as in `Europe/Berlin`. Without "
                "it: the configured one.",
                examples=["Asia/Kolkata"],
            ),
        ] = None,
        grouping: GroupingParameter = IN_TOTAL,
        key: KeyParameter = [],  # noqa: B006 - FastAPI copies it
        aggregation: Annotated[
            Aggregation | None,
            Query(
                description="How a step's requests become one figure. requests: sum, rate. "
                "latency: p95, avg, p50, p99, min, max (ms). tokens: sum, rate, avg (per request). "
                "cost: sum, rate, avg (USD, per priced request). errors: sum, rate, ratio. "
                "cache: ratio, sum, rate. Rates are per second. "
                "Without it: the first of the type's."
            ),
        ] = None,
        measure: Annotated[
            str | None,
            Query(
                description=f"latency: {', '.join(LABELS)}. tokens: total (prompt and completion), "
                f"{', '.join(TOKENS)}. Without it: total.",
                examples=["first_token"],
            ),
        ] = None,
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

    return routes
