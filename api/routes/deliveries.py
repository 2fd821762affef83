"""`/api/deliveries`: what was sent where, what came back, and what is next."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from api.access.dependencies import AdminDep, IsAdminDep
from api.alerting.cursor import Cursor
from api.alerting.sql import DeliveryFilter
from api.definitions.endpoints import read
from api.dependencies import ArchiveDep, EndpointsDep, RedriverDep
from api.errors import ConflictError, NotFoundError
from api.models.deliveries import Attempt, DeliveryLog, RetryAnswer, log_link
from api.routes.parameters import CursorParameter, EndParameter, StartParameter, page_parameter, problems
from api.times import parse_time

EndpointParameter = Annotated[str | None, Query(description="Only to this endpoint.")]
NotificationParameter = Annotated[
    str | None, Query(description="Only of this notification, the `webhook-id`.")
]
OutcomeParameter = Annotated[
    list[str],
    Query(
        description="delivered, failed, exhausted, refused or parked; repeat it for several.",
        examples=[["exhausted", "parked"]],
        max_length=10,
    ),
]
TypeParameter = Annotated[
    list[str],
    Query(description="Only notifications of this type; repeat it for several.", max_length=10),
]
NotificationIdParameter = Annotated[str, Path(description="The notification, the `webhook-id`.")]

router = APIRouter(prefix="/api/deliveries", tags=["deliveries"])


@router.get("", summary="The log of deliveries", responses=problems(400, 403, 429, 503))
async def log(
    is_admin: IsAdminDep,
    archive: ArchiveDep,
    endpoint: EndpointParameter = None,
    notification: NotificationParameter = None,
    outcome: OutcomeParameter = [],  # noqa: B006 - FastAPI copies it
    type: TypeParameter = [],  # noqa: A002, B006 - the field's name
    start: StartParameter = None,
    end: EndParameter = None,
    cursor: CursorParameter = None,
    limit: Annotated[int, page_parameter(500)] = 50,
) -> DeliveryLog:
    """Attempts, newest first, from ClickHouse: a second or two after they were made."""
    wanted = DeliveryFilter(
        endpoint,
        notification,
        outcome,
        type,
        None if start is None else parse_time(start, "start"),
        None if end is None else parse_time(end, "end"),
    )
    page = await archive.deliveries(wanted, None if cursor is None else Cursor.read(cursor), limit)
    last = page.rows[-1] if page.more else None
    return DeliveryLog(
        attempts=[_attempt(row, to_admin=is_admin) for row in page.rows],
        next=last and Cursor.of(last["started_at"], last["attempt_id"]),
    )


@router.post(
    "/{notification_id}/retry",
    summary="Deliver a notification again",
    status_code=202,
    responses=problems(401, 403, 404, 409, 429, 503),
)
async def retry(
    notification_id: NotificationIdParameter,
    by: AdminDep,
    archive: ArchiveDep,
    endpoints: EndpointsDep,
    redriver: RedriverDep,
) -> RetryAnswer:
    """At once, with the same id and body, whatever became of it before."""
    row = await archive.notification(notification_id)
    if row is None:
        raise NotFoundError(
            f"There is no notification {notification_id!r} in ClickHouse: it may have expired, or be so "
            "new that it is still on its way there.",
            where="notification_id",
        )
    endpoint = read(await endpoints.get(row["endpoint_id"]))
    if not endpoint.enabled:
        raise ConflictError(
            f"Its endpoint {endpoint.id!r} is disabled: POST /api/endpoints/{endpoint.id}/enable first.",
            where="endpoint_id",
        )
    again = (await redriver.redrive([archive.notification_of(row)]))[0]
    return RetryAnswer(
        notification_id=notification_id,
        endpoint_id=again.endpoint_id,
        redriven=again.redriven,
        deliveries=log_link(notification_id),
    )


def _attempt(row: dict[str, Any], *, to_admin: bool) -> Attempt:
    secret = {} if to_admin else {"request": None, "response": None}
    return Attempt(**{**row, "took_ms": row["took_us"] / 1000, **secret})
