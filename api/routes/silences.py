"""`/api/silences`: what is not to be told of, for a while."""

import logging
import secrets
from datetime import UTC, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from api.access.guard import Guard
from api.alerting.archive import Archive
from api.alerting.opened import OpenAlerts
from api.definitions.document import read_document, validated
from api.definitions.revision import etag
from api.definitions.store import DefinitionStore
from api.description import body
from api.errors import ConflictError, Fault, InvalidError, UnavailableError
from api.models.silences import (
    SILENCE_EXAMPLE,
    HeldBackByIt,
    SilenceAnswer,
    SilenceDetail,
    SilenceList,
    SilenceRequest,
)
from api.routes.access import admin
from api.routes.parameters import IdParameter, problems
from api.times import Clock, parse_span, to_time
from schemas.time import DAY, Micros, micros_of
from streams.definitions.definition import Definition
from streams.notifications.errors import SilenceError
from streams.notifications.silence import Acknowledgement, Silence, parse_silence
from streams.notifications.transition import RESOLVED

_log = logging.getLogger(__name__)

_KEPT: Final[Micros] = 30 * DAY
"""How long a silence is listed after its end."""
State = Literal["pending", "active", "expired"]


def router(
    guard: Guard, silences: DefinitionStore, alerts: OpenAlerts, archive: Archive, clock: Clock
) -> APIRouter:
    """The routes, over these silences."""
    routes = APIRouter(prefix="/api/silences", tags=["silences"])
    by_admin = Annotated[str, Depends(admin(guard))]

    def answer(definition: Definition) -> SilenceAnswer:
        return answered(definition, alerts, clock())

    async def forget_old() -> None:
        """Delete what ended long ago, and acknowledgements of alerts that have resolved."""
        now = clock()
        for definition in await silences.all():
            if _is_readable(definition) and _is_over(definition, alerts, now):
                await silences.remove(definition.id, None)

    @routes.get("", summary="Silences and acknowledgements", responses=problems(503))
    async def every(
        state: Annotated[
            list[State], Query(description="Only those in this state; repeat it for several.")
        ] = ["pending", "active"],  # noqa: B006 - FastAPI copies it
    ) -> SilenceList:
        """Those that hold now or will. Expired ones are kept for 30 days."""
        known = [answer(each) for each in await silences.all() if _is_readable(each)]
        found = sorted((each for each in known if each.state in state), key=lambda each: each.id)
        return SilenceList(silences=sorted(found, key=lambda each: each.starts_at, reverse=True))

    @routes.post(
        "",
        summary="Set up a silence",
        status_code=201,
        responses=problems(400, 401, 403, 413, 415, 429, 503),
        openapi_extra=body(SilenceRequest.__name__, SILENCE_EXAMPLE),
    )
    async def create(by: by_admin, request: Request, response: Response) -> SilenceAnswer:
        """Holds back the notifications of alerts that meet all matchers, from now on or from `starts_at`.

        What it holds back is recorded: `GET /api/silences/{id}` shows it.
        """
        asked = validated(SilenceRequest, await read_document(request), "silence")
        silence = made(asked, clock())
        await forget_old()
        definition = await silences.create(silence.id, silence.model_dump(mode="json"), by)
        response.headers.update(etag(definition.revision) | {"Location": f"/api/silences/{silence.id}"})
        return answer(definition)

    @routes.get("/{id}", summary="A silence, and what it has held back", responses=problems(404, 503))
    async def one(id: IdParameter, response: Response) -> SilenceDetail:  # noqa: A002
        """What it has held back comes from ClickHouse; without it, the answer says so."""
        definition = await silences.get(id)
        response.headers.update(etag(definition.revision))
        rows: list[dict[str, Any]] = []
        missing = []
        try:
            rows = await archive.held_back_by(id)
        except UnavailableError as error:
            missing.append(error.detail)
        return SilenceDetail(
            **answer(definition).model_dump(),
            held_back=[HeldBackByIt.model_validate(row) for row in rows],
            complete=not missing,
            missing=missing,
        )

    @routes.delete(
        "/{id}",
        summary="End a silence early",
        responses=problems(401, 403, 404, 409, 429, 503),
    )
    async def expire(id: IdParameter, by: by_admin) -> SilenceAnswer:  # noqa: A002
        """It ends now, and stays listed as expired. An acknowledgement is taken back."""
        definition = await silences.get(id)
        now = clock()
        silence = parse_silence(definition.definition)
        told = answer(definition)
        if isinstance(silence, Acknowledgement):
            await silences.remove(id, None)
            return told.model_copy(update={"state": "expired", "ends_at": to_time(now)})
        if told.state == "expired":
            raise ConflictError(f"The silence {id!r} ended {silence.ends_at.isoformat()}.", where="id")
        ended = to_time(now)
        begun = min(silence.starts_at, ended - timedelta(microseconds=1))
        document = silence.model_copy(update={"starts_at": begun, "ends_at": ended}).model_dump(mode="json")
        return answer(await silences.replace(id, document, by, definition.revision))

    return routes


def made(asked: SilenceRequest, now: Micros) -> Silence:
    """The silence that was asked for. Raises InvalidError."""
    if (asked.ends_at is None) == (asked.duration is None):
        raise InvalidError([Fault("silence.ends_at", "Say either when it ends, or its duration: 2h.")])
    starts = asked.starts_at or to_time(now)
    ends = asked.ends_at or starts + timedelta(
        microseconds=parse_span(asked.duration or "", "silence.duration")
    )
    if ends <= to_time(now):
        raise InvalidError(
            [Fault("silence.ends_at", "This lies in the past: a silence ends later than now.")]
        )
    return validated(
        Silence,
        {
            "id": f"si_{secrets.token_hex(8)}",
            "matchers": [matcher.model_dump() for matcher in asked.matchers],
            "starts_at": starts.astimezone(UTC),
            "ends_at": ends.astimezone(UTC),
            "author": asked.author,
            "reason": asked.reason,
        },
        "silence",
    )


def answered(definition: Definition, alerts: OpenAlerts, now: Micros) -> SilenceAnswer:
    """A silence or acknowledgement, as it is told of."""
    silence = parse_silence(definition.definition)
    common = {
        "id": definition.id,
        "revision": definition.revision,
        "changed_at": to_time(definition.changed_at),
        "changed_by": definition.changed_by,
        "author": silence.author,
        "reason": silence.reason,
        "kind": silence.kind,
    }
    if isinstance(silence, Acknowledgement):
        return SilenceAnswer(
            **common,
            state="expired" if _has_resolved(silence, alerts) else "active",
            matchers=[],
            alert_id=silence.alert_id,
            starts_at=silence.acknowledged_at,
            ends_at=None,
        )
    state: State = "active" if silence.active(now) else "pending"
    return SilenceAnswer(
        **common,
        state="expired" if micros_of(silence.ends_at) <= now else state,
        matchers=list(silence.matchers),
        alert_id=None,
        starts_at=silence.starts_at,
        ends_at=silence.ends_at,
    )


def _is_readable(definition: Definition) -> bool:
    try:
        parse_silence(definition.definition)
    except SilenceError as error:
        _log.error("chat.silences, %s: %s", definition.id, error)
        return False
    return True


def _has_resolved(acknowledgement: Acknowledgement, alerts: OpenAlerts) -> bool:
    alert = alerts.get(acknowledgement.alert_id)
    return alert is not None and alert["state"] == RESOLVED


def _is_over(definition: Definition, alerts: OpenAlerts, now: Micros) -> bool:
    silence = parse_silence(definition.definition)
    if isinstance(silence, Acknowledgement):
        alert = alerts.get(silence.alert_id)
        return (
            alert is not None
            and alert["state"] == RESOLVED
            and now - micros_of(alert["changed_at"]) > DAY
            and now - definition.changed_at > DAY
        )
    return now - micros_of(silence.ends_at) > _KEPT
