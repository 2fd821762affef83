"""`/api/silences`: what is not notified of, for a while."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query

from api.access.dependencies import AdminDep
from api.alerting.archive import Archive
from api.definitions.editor import Presenter
from api.definitions.silences import SilenceEditor, State, answered, is_readable
from api.dependencies import AlertsDep, ClockDep, SilencesDep
from api.description import JsonBody
from api.errors import ConflictError, UnavailableError
from api.models.silences import (
    SILENCE_EXAMPLE,
    HeldBackByIt,
    SilenceAnswer,
    SilenceDetail,
    SilenceList,
    SilenceRequest,
)
from api.routes.definitions import DefinitionRoutes, Operation
from api.routes.parameters import IdParameter, problems
from api.times import to_time
from streams.definitions.definition import Definition
from streams.notifications.silence import Acknowledgement, parse_silence

SilenceStateParameter = Annotated[
    list[State], Query(description="Only those in this state; repeat it for several.")
]

router = APIRouter(prefix="/api/silences", tags=["silences"])


@router.get("", summary="Silences and acknowledgements", responses=problems(503))
async def every(
    silences: SilencesDep,
    alerts: AlertsDep,
    clock: ClockDep,
    state: SilenceStateParameter = ["pending", "active"],  # noqa: B006 - FastAPI copies it
) -> SilenceList:
    """Those that hold now or will. Expired ones are kept for 30 days."""
    known = [answered(each, alerts.opened, clock()) for each in await silences.all() if is_readable(each)]
    found = sorted((each for each in known if each.state in state), key=lambda each: each.id)
    return SilenceList(silences=sorted(found, key=lambda each: each.starts_at, reverse=True))


async def _editor(silences: SilencesDep, alerts: AlertsDep, clock: ClockDep) -> SilenceEditor:
    return SilenceEditor(silences, alerts.opened, clock)


async def _presenter(alerts: AlertsDep, clock: ClockDep) -> Presenter:
    async def present(definition: Definition) -> SilenceDetail:
        held_back, missing = await _held_back_by(alerts.archive, definition.id)
        return SilenceDetail(
            **answered(definition, alerts.opened, clock()).model_dump(),
            held_back=held_back,
            complete=not missing,
            missing=missing,
        )

    return present


async def _held_back_by(archive: Archive, key: str) -> tuple[list[HeldBackByIt], list[str]]:
    """What it has held back, and why that is not known, in words."""
    rows: list[dict[str, Any]] = []
    missing = []
    try:
        rows = await archive.held_back_by(key)
    except UnavailableError as error:
        missing.append(error.detail)
    return [HeldBackByIt.model_validate(row) for row in rows], missing


DefinitionRoutes(
    editor=_editor,
    presenter=_presenter,
    body=JsonBody(SilenceRequest, SILENCE_EXAMPLE),
    create=Operation(
        "Set up a silence",
        "Holds back the notifications of alerts that meet all matchers, from now on or from `starts_at`.\n\n"
        "What it holds back is recorded: `GET /api/silences/{id}` shows it.",
        SilenceAnswer,
        (400, 401, 403, 413, 415, 429, 503),
    ),
    read=Operation(
        "A silence, and what it has held back",
        "What it has held back comes from ClickHouse; without it, the answer says so.",
        SilenceDetail,
    ),
).add_to(router)


@router.delete("/{id}", summary="End a silence early", responses=problems(401, 403, 404, 409, 429, 503))
async def expire(
    key: IdParameter, by: AdminDep, silences: SilencesDep, alerts: AlertsDep, clock: ClockDep
) -> SilenceAnswer:
    """It ends now, and stays listed as expired. An acknowledgement is taken back."""
    definition = await silences.get(key)
    now = clock()
    silence = parse_silence(definition.definition)
    shown = answered(definition, alerts.opened, now)
    if isinstance(silence, Acknowledgement):
        await silences.remove(key, None)
        return shown.model_copy(update={"state": "expired", "ends_at": to_time(now)})
    if shown.state == "expired":
        raise ConflictError(f"The silence {key!r} ended {silence.ends_at.isoformat()}.", where="id")
    ended = to_time(now)
    begun = min(silence.starts_at, ended - timedelta(microseconds=1))
    document = silence.model_copy(update={"starts_at": begun, "ends_at": ended}).model_dump(mode="json")
    made = await silences.replace(key, document, by, definition.revision)
    return answered(made, alerts.opened, clock())
