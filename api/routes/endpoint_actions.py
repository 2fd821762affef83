"""`POST /api/endpoints/{id}/…`: what can be done with an endpoint."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response

from api.access.dependencies import AdminDep
from api.alerting.cursor import Cursor
from api.definitions.document import read_document, validated
from api.definitions.endpoints import EndpointDraft, disabled, enabled, read
from api.definitions.revision import IfMatch, etag, expected
from api.definitions.store import DefinitionStore
from api.dependencies import (
    ArchiveDep,
    ClockDep,
    DraftingDep,
    EndpointsDep,
    NotificationsDep,
    PublicUrlDep,
    RedriverDep,
)
from api.description import JsonBody
from api.errors import BadParameterError, ConflictError
from api.models.deliveries import log_link
from api.models.endpoints import (
    DISABLING_EXAMPLE,
    REDRIVE_EXAMPLE,
    ROTATION_EXAMPLE,
    DisablingRequest,
    EndpointAnswer,
    EndpointWithSecret,
    RedriveAnswer,
    RedriveRequest,
    RotationRequest,
    SentTest,
)
from api.routes.parameters import IdParameter, problems
from api.times import parse_span, parse_time, to_time
from schemas.time import DAY
from streams.deliveries.notification import Notification
from streams.endpoints.endpoint import Endpoint
from streams.endpoints.subscription import ENDPOINT_TEST
from streams.notifications.body import body as event_body
from streams.notifications.body import test_data

_LONGEST_OVERLAP: Final = 30 * DAY
_CHANGE: Final = (400, 401, 403, 404, 409, 412, 429, 503)

router = APIRouter(prefix="/api/endpoints", tags=["endpoints"])


@dataclass(frozen=True)
class _Change:
    """The endpoint that a request is to change, by whom, and which revision of it."""

    id: str
    by: str
    if_match: str | None
    endpoints: DefinitionStore
    response: Response

    async def make(self, change: Callable[[Endpoint], EndpointDraft]) -> EndpointWithSecret:
        held = await self.endpoints.get(self.id)
        wanted = expected(self.if_match)
        draft = change(read(held))
        definition = await self.endpoints.replace(
            self.id, draft.endpoint.document(), self.by, held.revision if wanted is None else wanted
        )
        self.response.headers.update(etag(definition.revision))
        return EndpointWithSecret.showing(definition, draft.endpoint, draft.secret)


async def _change(
    key: IdParameter, by: AdminDep, endpoints: EndpointsDep, response: Response, if_match: IfMatch = None
) -> _Change:
    return _Change(key, by, if_match, endpoints, response)


_ChangeDep = Annotated[_Change, Depends(_change)]


@router.post(
    "/{id}/rotate",
    summary="Make a new signing secret",
    responses=problems(*_CHANGE, 413, 415),
    openapi_extra=JsonBody(RotationRequest, ROTATION_EXAMPLE, required=False),
)
async def rotate(
    change: _ChangeDep, drafting: DraftingDep, clock: ClockDep, request: Request
) -> EndpointWithSecret:
    """This answer shows it, and no other. The one before signs beside it for `overlap`, so that a
    receiver can be changed without missing anything."""
    asked = validated(RotationRequest, await read_document(request, optional=True), "rotation")
    overlap = _overlap(asked.overlap)
    now = to_time(clock())
    return await change.make(lambda held: drafting().rotated(held, now, overlap))


@router.post("/{id}/enable", summary="Call an endpoint again", responses=problems(*_CHANGE))
async def enable(change: _ChangeDep) -> EndpointAnswer:
    """What was parked meanwhile is delivered when it is redriven: `POST /api/endpoints/{id}/redrive`."""
    return await change.make(enabled)


@router.post(
    "/{id}/disable",
    summary="Stop calling an endpoint",
    responses=problems(*_CHANGE, 413, 415),
    openapi_extra=JsonBody(DisablingRequest, DISABLING_EXAMPLE, required=False),
)
async def disable(change: _ChangeDep, clock: ClockDep, request: Request) -> EndpointAnswer:
    """Notifications for it are parked, and can be redriven later."""
    asked = validated(DisablingRequest, await read_document(request, optional=True), "disabling")
    because = asked.reason or f"switched off by {change.by}"
    now = to_time(clock())
    return await change.make(lambda held: disabled(held, because, now))


@router.post(
    "/{id}/test",
    summary="Send a test",
    status_code=202,
    responses=problems(401, 403, 404, 409, 429, 503),
)
async def test(
    key: IdParameter,
    by: AdminDep,
    endpoints: EndpointsDep,
    notifications: NotificationsDep,
    clock: ClockDep,
    public_url: PublicUrlDep,
) -> SentTest:
    """Sends a notification of the type `endpoint.test`, on the way that all others take."""
    endpoint = read(await endpoints.get(key))
    _require_enabled(endpoint)
    now = clock()
    data = test_data(endpoint.id, endpoint.name, by, public_url)
    sent = Notification(
        f"nt_{secrets.token_hex(12)}", key, ENDPOINT_TEST, now, event_body(ENDPOINT_TEST, now, data)
    )
    await notifications.publish([sent])
    return SentTest(notification_id=sent.notification_id, deliveries=log_link(sent.notification_id))


@router.post(
    "/{id}/redrive",
    summary="Deliver again what was to be delivered",
    status_code=202,
    responses=problems(400, 401, 403, 404, 409, 413, 415, 429, 503),
    openapi_extra=JsonBody(RedriveRequest, REDRIVE_EXAMPLE),
)
async def redrive(
    key: IdParameter,
    by: AdminDep,
    endpoints: EndpointsDep,
    archive: ArchiveDep,
    redriver: RedriverDep,
    clock: ClockDep,
    request: Request,
) -> RedriveAnswer:
    """Notifications that were made in a span of time, with the same ids and bodies: a receiver that
    has had one knows it by its `webhook-id`. At most 5,000 in one call; `next` goes on behind them."""
    asked = validated(RedriveRequest, await read_document(request), "redrive")
    _require_enabled(read(await endpoints.get(key)))
    start = parse_time(asked.start, "redrive.start")
    end = clock() if asked.end is None else parse_time(asked.end, "redrive.end")
    if start >= end:
        raise BadParameterError("It must lie before the end.", where="redrive.start")
    redriven = await redriver.redrive_between(
        archive,
        key,
        start,
        end,
        undelivered=asked.which == "undelivered",
        cursor=None if asked.cursor is None else Cursor.read(asked.cursor),
    )
    return RedriveAnswer(redriven=redriven.number, next=redriven.next)


def _overlap(text: str) -> timedelta:
    if text.strip() in ("0", "0s"):
        return timedelta(0)
    span = parse_span(text, "rotation.overlap")
    if span > _LONGEST_OVERLAP:
        raise BadParameterError(
            "At most 30d: a secret that is replaced should end.", where="rotation.overlap"
        )
    return timedelta(microseconds=span)


def _require_enabled(endpoint: Endpoint) -> None:
    if not endpoint.enabled:
        raise ConflictError(
            f"The endpoint {endpoint.id!r} is disabled ({endpoint.disabled_because or 'no reason given'}): "
            f"POST /api/endpoints/{endpoint.id}/enable first.",
            where="id",
        )
