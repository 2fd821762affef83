"""`/events` and `/api/events`: the raw events behind an alert, of a span of time, or of a place on Kafka."""

from typing import Annotated, Final, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from api.alerting.cursor import Cursor
from api.errors import BadParameterError
from api.events.page import POLICY, render
from api.events.selection import TABLES, Place, Selection
from api.events.viewer import Viewer
from api.live.state import Include
from api.models.events import Events
from api.routes.parameters import CursorParameter, page_parameter, problems
from api.times import parse_time
from schemas.topics import REQUESTS

_INT32: Final = 2**31 - 1
_INT64: Final = 2**63 - 1
_WAYS: Final = {
    "alert": ("alert", "transition"),
    "from": ("from", "to", "include"),
    "topic": ("topic", "partition", "offset"),
}
_HOW: Final = "Ask with alert and transition, with from and to, or with topic, partition and offset"


class Asked(NamedTuple):
    """What was asked for, one way or the other."""

    alert: tuple[str, int | None] | None
    span: Selection | None
    place: Place | None
    cursor: Cursor | None
    limit: int


def asked(
    alert: Annotated[
        str | None, Query(description="The events of this alert's window and group.", max_length=200)
    ] = None,
    transition: Annotated[
        int | None, Query(description="At this transition; without it, the newest.", ge=1, le=_INT32)
    ] = None,
    from_: Annotated[
        str | None,
        Query(
            alias="from",
            description="The requests from then on: ISO 8601, UTC unless it says otherwise.",
        ),
    ] = None,
    to: Annotated[str | None, Query(description="Until then, excluded.")] = None,
    include: Annotated[
        Include | None,
        Query(description="With `from` and `to`: live events, imported ones, or all. Without it: all."),
    ] = None,
    topic: Annotated[
        str | None,
        Query(description="The event of a place on Kafka: chat.requests, chat.spans, chat.samples."),
    ] = None,
    partition: Annotated[int | None, Query(description="Its partition.", ge=0, le=_INT32)] = None,
    offset: Annotated[int | None, Query(description="Its offset.", ge=0, le=_INT64)] = None,
    cursor: CursorParameter = None,
    limit: Annotated[int, page_parameter(1_000)] = 200,
) -> Asked:
    """The parameters, checked against each other. Raises BadParameterError."""
    parameters = {
        "alert": alert,
        "transition": transition,
        "from": from_,
        "to": to,
        "include": include,
        "topic": topic,
        "partition": partition,
        "offset": offset,
    }
    given = {name for name in parameters if parameters[name] is not None}
    if not given:
        raise BadParameterError(f"{_HOW}.", where="alert")
    way = next((way for way, names in _WAYS.items() if given & set(names)), "alert")
    for name in sorted(given):
        if name not in _WAYS[way]:
            raise BadParameterError(f"{name} does not go together with {way}. {_HOW}.", where=name)
    for name in _WAYS[way]:
        if name not in given and name not in ("transition", "include"):
            raise BadParameterError(f"{name} is missing. {_HOW}.", where=name)
    behind = None if cursor is None else Cursor.read(cursor)
    if alert is not None:
        return Asked((alert, transition), None, None, behind, limit)
    if from_ is not None and to is not None:
        start, end = parse_time(from_, "from"), parse_time(to, "to")
        if end <= start:
            raise BadParameterError("to is not after from: write a later time.", where="to")
        span = Selection(REQUESTS, start, end, include=include or Include.ALL)
        return Asked(None, span, None, behind, limit)
    if topic not in TABLES:
        raise BadParameterError(
            f"The events of {topic!r} are not kept: it is {', '.join(TABLES)}.", where="topic"
        )
    if cursor is not None:
        raise BadParameterError("A place has one event, and no further page.", where="cursor")
    return Asked(None, None, Place(topic, partition or 0, offset or 0), None, limit)


def router(viewer: Viewer) -> APIRouter:
    """The routes, over this viewer."""
    routes = APIRouter(tags=["events"])

    async def answer(wanted: Asked) -> Events:
        if wanted.alert is not None:
            return await viewer.of_alert(*wanted.alert, wanted.cursor, wanted.limit)
        if wanted.span is not None:
            return await viewer.of_span(wanted.span, wanted.cursor, wanted.limit)
        assert wanted.place is not None
        return await viewer.at(wanted.place)

    @routes.get("/api/events", summary="The events behind a figure", responses=problems(400, 404, 503))
    async def data(wanted: Annotated[Asked, Depends(asked)]) -> Events:
        """Finished requests (or samples) of an alert's window and group, or of a span; or one event of Kafka.

        From ClickHouse, newest first, each event once; with what may be missing, and why.
        """
        return await answer(wanted)

    @routes.get("/events", include_in_schema=False)
    async def page(request: Request, wanted: Annotated[Asked, Depends(asked)]) -> Response:
        events = await answer(wanted)
        headers = {"Cache-Control": "no-store", "Vary": "Accept"}
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse(events.model_dump(mode="json"), headers=headers)
        pairs = request.query_params.multi_items()
        following = None
        if events.next is not None:
            rest = [(name, value) for name, value in pairs if name != "cursor"]
            following = f"/events?{urlencode([*rest, ('cursor', events.next)])}"
        html = render(events, f"/api/events?{urlencode(pairs)}", following)
        return HTMLResponse(html, headers=headers | {"Content-Security-Policy": POLICY})

    return routes
