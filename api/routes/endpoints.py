"""`/api/endpoints`: where notifications go."""

import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response

from api.access.guard import Guard
from api.alerting.archive import Archive
from api.alerting.cursor import Cursor
from api.alerting.notifications import NotificationPublisher, Redriver
from api.definitions import endpoints as drafts
from api.definitions.document import read_document, validated
from api.definitions.endpoints import Draft, Drafting
from api.definitions.revision import IfMatch, etag, expected, required
from api.definitions.store import DefinitionStore
from api.description import body
from api.errors import BadParameterError, ConflictError, Fault, InvalidError
from api.models.deliveries import log_link
from api.models.endpoints import (
    DISABLING_EXAMPLE,
    ENDPOINT_EXAMPLE,
    REDRIVE_EXAMPLE,
    ROTATION_EXAMPLE,
    DisablingRequest,
    EndpointAnswer,
    EndpointList,
    EndpointWithSecret,
    RedriveAnswer,
    RedriveRequest,
    RotationRequest,
    SentTest,
)
from api.routes.access import admin, whether_admin
from api.routes.parameters import IdParameter, problems
from api.times import Clock, parse_span, parse_time, to_time
from schemas.time import DAY
from streams.deliveries.endpoint import Endpoint
from streams.deliveries.notification import Notification
from streams.deliveries.subscription import ENDPOINT_TEST
from streams.notifications.body import body as event_body
from streams.notifications.body import test_data

ENDPOINT_SCHEMA: Final = "EndpointRequest"
MOST_REDRIVEN: Final = 5_000
"""Notifications that one call delivers again."""
_PAGE: Final = 500
_LONGEST_OVERLAP: Final = 30 * DAY
_CHANGE: Final = (400, 401, 403, 404, 409, 412, 429, 503)


def router(
    guard: Guard,
    endpoints: DefinitionStore,
    drafting: Callable[[], Drafting],
    archive: Archive,
    outlet: NotificationPublisher,
    redriver: Redriver,
    clock: Clock,
    public_url: str,
) -> APIRouter:
    """The routes, over these endpoints. `drafting` raises UnavailableError without a key to encrypt with."""
    routes = APIRouter(prefix="/api/endpoints", tags=["endpoints"])
    by_admin = Annotated[str, Depends(admin(guard))]
    to_admin = Annotated[bool, Depends(whether_admin(guard))]

    async def change(
        key: str, by: str, if_match: str | None, made: Callable[[Endpoint], Draft], response: Response
    ) -> EndpointWithSecret:
        held = await endpoints.get(key)
        wanted = expected(if_match)
        draft = made(drafts.read(held))
        definition = await endpoints.replace(
            key, draft.endpoint.document(), by, held.revision if wanted is None else wanted
        )
        response.headers.update(etag(definition.revision))
        return EndpointWithSecret.showing(definition, draft.endpoint, draft.secret)

    @routes.get("", summary="All endpoints", responses=problems(403, 429, 503))
    async def every(admin: to_admin) -> EndpointList:
        """Their secrets are never shown; with the admin key their addresses are, whole."""
        found, unreadable = [], []
        for definition in await endpoints.all():
            try:
                endpoint = drafts.read(definition)
            except ConflictError:
                unreadable.append(definition.id)
            else:
                found.append(EndpointAnswer.of(definition, endpoint, to_admin=admin))
        return EndpointList(endpoints=found, unreadable=unreadable)

    @routes.post(
        "",
        summary="Make an endpoint",
        status_code=201,
        responses=problems(400, 401, 403, 409, 413, 415, 429, 503),
        openapi_extra=body(ENDPOINT_SCHEMA, ENDPOINT_EXAMPLE),
    )
    async def create(by: by_admin, request: Request, response: Response) -> EndpointWithSecret:
        """A webhook gets a signing secret, which this answer shows and no other. Without `id` it gets one."""
        document = await read_document(request)
        key = document.get("id") or f"ep_{secrets.token_hex(8)}"
        if not isinstance(key, str):
            raise InvalidError([Fault("endpoint.id", "Write it as text: small letters, digits, - and _.")])
        draft = drafting().new(key, document, to_time(clock()))
        made = await endpoints.create(key, draft.endpoint.document(), by)
        response.headers.update(etag(made.revision) | {"Location": f"/api/endpoints/{key}"})
        return EndpointWithSecret.showing(made, draft.endpoint, draft.secret)

    @routes.get("/{id}", summary="One endpoint", responses=problems(403, 404, 409, 429, 503))
    async def one(id: IdParameter, admin: to_admin, response: Response) -> EndpointAnswer:  # noqa: A002
        """The header `ETag` has its revision, for `If-Match` of a change."""
        found = await endpoints.get(id)
        response.headers.update(etag(found.revision))
        return EndpointAnswer.of(found, drafts.read(found), to_admin=admin)

    @routes.put(
        "/{id}",
        summary="Replace an endpoint",
        responses=problems(*_CHANGE, 413, 415, 428),
        openapi_extra=body(ENDPOINT_SCHEMA, ENDPOINT_EXAMPLE),
    )
    async def replace(
        id: IdParameter,  # noqa: A002
        by: by_admin,
        request: Request,
        response: Response,
        if_match: IfMatch = None,
    ) -> EndpointAnswer:
        """Its secrets stay, and its credential unless another is sent. What is masked stays as it is."""
        revision = required(if_match)
        document = await read_document(request)
        held = await endpoints.get(id)
        draft = drafting().changed(drafts.read(held), document, to_time(clock()))
        made = await endpoints.replace(
            id, draft.endpoint.document(), by, held.revision if revision is None else revision
        )
        response.headers.update(etag(made.revision))
        return EndpointAnswer.of(made, draft.endpoint, to_admin=True)

    @routes.delete("/{id}", summary="Delete an endpoint", status_code=204, responses=problems(*_CHANGE))
    async def delete(id: IdParameter, by: by_admin, if_match: IfMatch = None) -> None:  # noqa: A002
        """What is still to be delivered to it is not delivered. To keep that, disable it instead."""
        await endpoints.remove(id, expected(if_match))

    @routes.post(
        "/{id}/rotate",
        summary="Make a new signing secret",
        responses=problems(*_CHANGE, 413, 415),
        openapi_extra=body(RotationRequest.__name__, ROTATION_EXAMPLE, required=False),
    )
    async def rotate(
        id: IdParameter,  # noqa: A002
        by: by_admin,
        request: Request,
        response: Response,
        if_match: IfMatch = None,
    ) -> EndpointWithSecret:
        """This answer shows it, and no other. The one before signs beside it for `overlap`, so that a
        receiver can be changed without missing anything."""
        asked = validated(RotationRequest, await read_document(request, optional=True), "rotation")
        overlap = _overlap(asked.overlap)
        now = to_time(clock())
        return await change(id, by, if_match, lambda held: drafting().rotated(held, now, overlap), response)

    @routes.post("/{id}/enable", summary="Call an endpoint again", responses=problems(*_CHANGE))
    async def enable(
        id: IdParameter,  # noqa: A002
        by: by_admin,
        response: Response,
        if_match: IfMatch = None,
    ) -> EndpointAnswer:
        """What was parked meanwhile is delivered when it is redriven: `POST /api/endpoints/{id}/redrive`."""
        return await change(id, by, if_match, drafts.enabled, response)

    @routes.post(
        "/{id}/disable",
        summary="Stop calling an endpoint",
        responses=problems(*_CHANGE, 413, 415),
        openapi_extra=body(DisablingRequest.__name__, DISABLING_EXAMPLE, required=False),
    )
    async def disable(
        id: IdParameter,  # noqa: A002
        by: by_admin,
        request: Request,
        response: Response,
        if_match: IfMatch = None,
    ) -> EndpointAnswer:
        """Notifications for it are parked, and can be redriven later."""
        asked = validated(DisablingRequest, await read_document(request, optional=True), "disabling")
        because = asked.reason or f"switched off by {by}"
        now = to_time(clock())
        return await change(id, by, if_match, lambda held: drafts.disabled(held, because, now), response)

    @routes.post(
        "/{id}/test",
        summary="Send a test",
        status_code=202,
        responses=problems(401, 403, 404, 409, 429, 503),
    )
    async def test(id: IdParameter, by: by_admin) -> SentTest:  # noqa: A002
        """Sends a notification of the type `endpoint.test`, on the way that all others take."""
        endpoint = drafts.read(await endpoints.get(id))
        _require_enabled(endpoint)
        now = clock()
        data = test_data(endpoint.id, endpoint.name, by, public_url)
        sent = Notification(
            f"nt_{secrets.token_hex(12)}", id, ENDPOINT_TEST, now, event_body(ENDPOINT_TEST, now, data)
        )
        await outlet.send([sent])
        return SentTest(notification_id=sent.notification_id, deliveries=log_link(sent.notification_id))

    @routes.post(
        "/{id}/redrive",
        summary="Deliver again what was to be delivered",
        status_code=202,
        responses=problems(400, 401, 403, 404, 409, 413, 415, 429, 503),
        openapi_extra=body(RedriveRequest.__name__, REDRIVE_EXAMPLE),
    )
    async def redrive(id: IdParameter, by: by_admin, request: Request) -> RedriveAnswer:  # noqa: A002
        """Notifications that were made in a span of time, with the same ids and bodies: a receiver that
        has had one knows it by its `webhook-id`. At most 5,000 in one call; `next` goes on behind them."""
        asked = validated(RedriveRequest, await read_document(request), "redrive")
        _require_enabled(drafts.read(await endpoints.get(id)))
        start = parse_time(asked.start, "redrive.start")
        end = clock() if asked.end is None else parse_time(asked.end, "redrive.end")
        if start >= end:
            raise BadParameterError("It must lie before the end.", where="redrive.start")
        cursor = None if asked.cursor is None else Cursor.read(asked.cursor)
        count = 0
        while True:
            page = await archive.notifications_between(
                id, start, end, undelivered=asked.which == "undelivered", cursor=cursor, limit=_PAGE
            )
            await redriver.redrive([archive.notification_of(row) for row in page.rows])
            count += len(page.rows)
            if not page.more:
                return RedriveAnswer(redriven=count, next=None)
            last = page.rows[-1]
            after = Cursor.of(last["created_at"], last["notification_id"])
            if count >= MOST_REDRIVEN:
                return RedriveAnswer(redriven=count, next=after)
            cursor = Cursor.read(after)

    return routes


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
