"""`/api/alerts`: what fires now, what did, why, and who was notified."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from api.access.dependencies import AdminDep
from api.alerting.cursor import Cursor
from api.alerting.detail import detail_of
from api.alerting.opened import Record
from api.alerting.sql import AlertFilter
from api.definitions.document import read_document, validated
from api.definitions.revision import etag
from api.definitions.silences import answered
from api.dependencies import AlertsDep, ArchiveDep, ClockDep, SilencesDep
from api.description import JsonBody
from api.errors import BadParameterError, ConflictError, NotFoundError, UnavailableError
from api.models.alert_detail import AlertDetail
from api.models.alerts import Alert, AlertHistory, OpenAlertList
from api.models.silences import ACKNOWLEDGEMENT_EXAMPLE, AcknowledgementRequest, SilenceAnswer
from api.routes.parameters import (
    CursorParameter,
    EndParameter,
    IdParameter,
    StartParameter,
    page_parameter,
    problems,
)
from api.times import parse_time, to_time
from streams.notifications.silence import Acknowledgement, acknowledgement_id
from streams.notifications.transition import RESOLVED

OpenStateParameter = Annotated[
    list[Literal["pending", "firing"]],
    Query(description="Only alerts in this state; repeat it for both."),
]
AlertStateParameter = Annotated[
    list[Literal["pending", "firing", "resolved"]],
    Query(description="Only alerts that are in this state now; repeat it for several."),
]
Severity = Literal["info", "warning", "error", "critical"]
SeverityParameter = Annotated[
    list[Severity], Query(description="Only alerts of this severity; repeat it for several.")
]
RuleParameter = Annotated[str | None, Query(description="Only alerts of this rule.")]
LabelParameter = Annotated[
    list[str],
    Query(
        description="Only alerts with this label, or this key of their group: `key=value`. Repeat it for "
        "several, all of which must hold.",
        examples=[["team=support"]],
        max_length=20,
    ),
]

router = APIRouter(prefix="/api/alerts", tags=["alerts"])


@router.get("", summary="The alerts that are open", responses=problems(400))
async def current(
    alerts: AlertsDep,
    silences: SilencesDep,
    state: OpenStateParameter = ["pending", "firing"],  # noqa: B006 - FastAPI copies it
    severity: SeverityParameter = [],  # noqa: B006
    rule: RuleParameter = None,
    label: LabelParameter = [],  # noqa: B006
    limit: Annotated[int, page_parameter(1_000)] = 200,
) -> OpenAlertList:
    """From memory, a moment after they were raised; with what holds back their notifications."""
    _check_labels(label)
    wanted = AlertFilter(state, severity, rule, label)
    found = [record for record in alerts.opened.open() if _meets(record, wanted)]
    missing = alerts.missing()
    if not missing:
        try:
            await silences.all()
        except UnavailableError as error:
            missing = [f"what silences hold back: {error.detail}"]
    return OpenAlertList(
        complete=not missing,
        missing=missing,
        alerts=alerts.shown(found[:limit]),
        left_out=max(0, len(found) - limit),
    )


@router.get("/history", summary="Past and present alerts", responses=problems(400, 503))
async def history(
    archive: ArchiveDep,
    start: StartParameter = None,
    end: EndParameter = None,
    state: AlertStateParameter = [],  # noqa: B006
    severity: SeverityParameter = [],  # noqa: B006
    rule: RuleParameter = None,
    label: LabelParameter = [],  # noqa: B006
    cursor: CursorParameter = None,
    limit: Annotated[int, page_parameter(500)] = 50,
) -> AlertHistory:
    """Those that changed between `start` and `end` (event time), each as it is now, from ClickHouse."""
    _check_labels(label)
    wanted = AlertFilter(
        state,
        severity,
        rule,
        label,
        None if start is None else parse_time(start, "start"),
        None if end is None else parse_time(end, "end"),
    )
    page = await archive.alerts(wanted, None if cursor is None else Cursor.read(cursor), limit)
    last = page.rows[-1] if page.more else None
    return AlertHistory(
        alerts=[Alert.of(row) for row in page.rows],
        next=last and Cursor.of(last["changed_at"], last["alert_id"]),
    )


@router.get("/{id}", summary="All about an alert", responses=problems(404, 503))
async def one(key: IdParameter, alerts: AlertsDep) -> AlertDetail:
    """Its transitions, what was decided about each and who was told, and what it rests on."""
    return await detail_of(alerts, key)


@router.post(
    "/{id}/acknowledge",
    summary="Take charge of an alert",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 429, 503),
    openapi_extra=JsonBody(AcknowledgementRequest, ACKNOWLEDGEMENT_EXAMPLE),
)
async def acknowledge(
    key: IdParameter,
    by: AdminDep,
    alerts: AlertsDep,
    silences: SilencesDep,
    clock: ClockDep,
    request: Request,
    response: Response,
) -> SilenceAnswer:
    """Nothing more is told of it, but that it has resolved. `DELETE /api/silences/{id}` takes it back."""
    asked = validated(AcknowledgementRequest, await read_document(request), "acknowledgement")
    alert = alerts.opened.get(key)
    if alert is None and not alerts.follower.caught_up:
        raise UnavailableError(alerts.missing()[0], where="kafka")
    if alert is None:
        raise NotFoundError(f"No alert {key!r} is open: /api/alerts lists those that are.", where="id")
    if alert["state"] == RESOLVED:
        raise ConflictError(
            f"The alert {key!r} has resolved: there is nothing to take charge of.", where="id"
        )
    document = Acknowledgement(
        id=acknowledgement_id(key),
        alert_id=key,
        author=asked.author,
        reason=asked.reason,
        acknowledged_at=to_time(clock()),
    )
    made = await silences.put(document.id, document.model_dump(mode="json"), by)
    response.headers.update(etag(made.revision))
    return answered(made, alerts.opened, clock())


def _meets(record: Record, wanted: AlertFilter) -> bool:
    return (
        record["state"] in wanted.states
        and (not wanted.severities or record["severity"] in wanted.severities)
        and wanted.rule_id in (None, record["rule_id"])
        and set(wanted.labels) <= {*record["labels"], *record["group"]}
    )


def _check_labels(labels: Sequence[str]) -> None:
    for label in labels:
        if "=" not in label:
            raise BadParameterError(
                f"{label!r} is no label: write key=value, such as team=support.", where="label"
            )
