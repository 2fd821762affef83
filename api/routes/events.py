"""`/events` and `/api/events`: the raw events behind an alert, of a span of time, or of a place on Kafka."""

from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from api.dependencies import ViewerDep
from api.events.page import POLICY, render
from api.events.viewer import Viewer
from api.models.events import Events
from api.routes.event_parameters import Asked, AskedDep
from api.routes.parameters import problems

router = APIRouter(tags=["events"])


@router.get("/api/events", summary="The events behind a figure", responses=problems(400, 404, 503))
async def data(viewer: ViewerDep, wanted: AskedDep) -> Events:
    """Finished requests (or samples) of an alert's window and group, or of a span; or one event of Kafka.

    From ClickHouse, newest first, each event once; with what may be missing, and why.
    """
    return await _events(viewer, wanted)


@router.get("/events", include_in_schema=False)
async def page(viewer: ViewerDep, wanted: AskedDep, request: Request) -> Response:
    """A page for browsers, the same as JSON for others."""
    events = await _events(viewer, wanted)
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


async def _events(viewer: Viewer, wanted: Asked) -> Events:
    if wanted.alert is not None:
        return await viewer.of_alert(*wanted.alert, wanted.cursor, wanted.limit)
    if wanted.span is not None:
        return await viewer.of_span(wanted.span, wanted.cursor, wanted.limit)
    assert wanted.place is not None
    return await viewer.at(wanted.place)
