"""`GET /api/metrics/current`: live figures, from memory."""

from typing import Annotated, Final

from fastapi import APIRouter, Query

from api.dependencies import ClockDep, LiveDep
from api.errors import BadParameterError
from api.history.question import check_key
from api.live.state import PER_SECOND, Include
from api.models.current import Current
from api.routes.parameters import (
    GroupingName,
    GroupingParameter,
    IncludeParameter,
    KeyParameter,
    limit_parameter,
    problems,
)
from api.times import parse_span, parse_time, to_time
from schemas.time import HOUR, MINUTE, SECOND, Micros
from streams.windows.measures import GROUPINGS

_LONGEST: Final = 24 * HOUR
_LONGEST_BY_USER: Final = HOUR
WindowParameter = Annotated[
    str,
    Query(
        description="How far back: whole seconds, minutes or hours, such as `30s`, `5m`, `6h`. "
        "From 1 s up to 10 min by total or service (from one-second panes), else from 1 min up to "
        "24 h (by user: 1 h) from one-minute panes. The window begins at a whole pane.",
        examples=["5m"],
    ),
]
AtParameter = Annotated[
    str | None,
    Query(
        description="Look at the whole panes up to this moment (ISO 8601, UTC unless it says "
        "otherwise) instead of up to now: for replayed traces, whose events lie in the past.",
        examples=["2026-05-04T10:00:00Z"],
    ),
]

router = APIRouter(tags=["metrics"])


@router.get("/api/metrics/current", summary="Live figures of a window", responses=problems(400))
async def current(
    live: LiveDep,
    clock: ClockDep,
    window: WindowParameter = "5m",
    grouping: GroupingParameter = GroupingName.TOTAL,
    key: KeyParameter = [],  # noqa: B006 - FastAPI copies it
    include: IncludeParameter = Include.LIVE,
    at: AtParameter = None,
    limit: Annotated[int, limit_parameter(1_000)] = 100,
) -> Current:
    """Requests, errors, tokens, cost and latencies of a window, per group, from memory.

    Percentiles come from merged sketches (1 % relative error), over all partitions. The last pane
    up to now is still running; `coverage` says through when panes are closed.
    """
    length = _checked_window(window, grouping, include)
    check_key(GROUPINGS[grouping], key)
    now = clock()
    moment = None if at is None else parse_time(at, "at")
    if moment is not None and moment > now:
        raise BadParameterError(f"{to_time(moment).isoformat()} is in the future.", where="at")
    return await live.current(length, grouping, now, key=key, at=moment, include=include, limit=limit)


def _checked_window(text: str, grouping: GroupingName, include: Include) -> Micros:
    length = parse_span(text, "window")
    longest = _LONGEST_BY_USER if grouping == "user" else _LONGEST
    if length > longest:
        raise BadParameterError(
            f"At most {longest // HOUR} h are held in memory by {grouping}: ask /api/metrics/historical.",
            where="window",
        )
    seconds = grouping in PER_SECOND and include is Include.LIVE and length <= 10 * MINUTE
    pane = SECOND if seconds else MINUTE
    if length % pane:
        kept = "imported events" if include is not Include.LIVE else f"windows of {text} by {grouping}"
        raise BadParameterError(f"{kept} are kept by the minute: ask for whole minutes.", where="window")
    return length
