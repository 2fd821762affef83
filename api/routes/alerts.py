"""`/api/alerts`: what fires now, what did, why, and who was told."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Depends, Query, Request, Response

from api.access.guard import Guard
from api.alerting.archive import Archive
from api.alerting.cursor import Cursor
from api.alerting.follower import AlertFollower
from api.alerting.held_back import HeldBackNow, PresentSetup
from api.alerting.opened import OpenAlerts, Record
from api.alerting.sql import AlertFilter
from api.definitions.document import read_document, validated
from api.definitions.revision import etag
from api.definitions.store import DefinitionStore
from api.description import body
from api.errors import BadParameterError, ConflictError, NotFoundError, UnavailableError
from api.models.alert_detail import AlertDetail, AlertNotification, Decision, cause_of
from api.models.alerts import Alert, AlertHistory, OpenAlertList
from api.models.deliveries import log_link
from api.models.silences import ACKNOWLEDGEMENT_EXAMPLE, AcknowledgementRequest, SilenceAnswer
from api.routes.access import admin
from api.routes.parameters import (
    CursorParameter,
    EndParameter,
    IdParameter,
    StartParameter,
    page_parameter,
    problems,
)
from api.routes.silences import answered
from api.times import Clock, parse_time, to_time
from streams.notifications.silence import Acknowledgement, acknowledgement_id
from streams.notifications.transition import RESOLVED

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


class _Asked(NamedTuple):
    """What ClickHouse was asked, as far as it has answered."""

    rows: list[dict[str, Any]]
    failure: str | None


def router(
    guard: Guard,
    alerts: OpenAlerts,
    follower: AlertFollower,
    silences: DefinitionStore,
    setup: PresentSetup,
    archive: Archive,
    clock: Clock,
) -> APIRouter:
    """The routes, over these alerts."""
    routes = APIRouter(prefix="/api/alerts", tags=["alerts"])
    by_admin = Annotated[str, Depends(admin(guard))]

    def missing() -> list[str]:
        if follower.failure is not None:
            return [follower.failure]
        return [] if follower.caught_up else ["chat.alerts is still being read from its beginning"]

    def shown(records: Sequence[Record]) -> list[Alert]:
        """The alerts, with what holds them back."""
        holding = HeldBackNow(setup(), alerts, clock())
        return [
            Alert.of(record, holding.of(alerts.firing.get(record["rule_id"], {}).get(record["alert_id"])))
            for record in records
        ]

    @routes.get("", summary="The alerts that are open", responses=problems(400))
    async def current(
        state: Annotated[
            list[Literal["pending", "firing"]],
            Query(description="Only alerts in this state; repeat it for both."),
        ] = ["pending", "firing"],  # noqa: B006 - FastAPI copies it
        severity: SeverityParameter = [],  # noqa: B006
        rule: RuleParameter = None,
        label: LabelParameter = [],  # noqa: B006
        limit: Annotated[int, page_parameter(1_000)] = 200,
    ) -> OpenAlertList:
        """From memory, a moment after they were raised; with what holds back their notifications."""
        _check_labels(label)
        wanted = [
            record
            for record in alerts.open()
            if record["state"] in state
            and (not severity or record["severity"] in severity)
            and rule in (None, record["rule_id"])
            and set(label) <= {*record["labels"], *record["group"]}
        ]
        lacking = missing()
        if not lacking:
            try:
                await silences.all()
            except UnavailableError as error:
                lacking = [f"what silences hold back: {error.detail}"]
        return OpenAlertList(
            complete=not lacking,
            missing=lacking,
            alerts=shown(wanted[:limit]),
            left_out=max(0, len(wanted) - limit),
        )

    @routes.get("/history", summary="Past and present alerts", responses=problems(400, 503))
    async def history(
        start: StartParameter = None,
        end: EndParameter = None,
        state: Annotated[
            list[Literal["pending", "firing", "resolved"]],
            Query(description="Only alerts that are in this state now; repeat it for several."),
        ] = [],  # noqa: B006
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

    @routes.get("/{id}", summary="All about an alert", responses=problems(404, 503))
    async def one(id: IdParameter) -> AlertDetail:  # noqa: A002 - the path's name
        """Its transitions, what was decided about each and who was told, and what it rests on."""
        live = alerts.get(id)
        transitions, decided, told = await asyncio.gather(
            _asked(archive.transitions(id)),
            _asked(archive.decisions(id)),
            _asked(archive.notifications_of(id)),
        )
        failures = {asked.failure for asked in (transitions, decided, told) if asked.failure}
        rows: list[Record] = [*transitions.rows]
        if live is not None and not any(_same(row, live) for row in rows):
            # ClickHouse is a second or two behind, or away.
            rows = [row for row in rows if row["transition"] != live["transition"]] + [live]
        if not rows:
            if failures:
                raise UnavailableError(failures.pop(), where="clickhouse")
            raise NotFoundError(
                f"There is no alert {id!r}: /api/alerts lists those that are open, /api/alerts/history all.",
                where="id",
            )
        rows.sort(key=lambda row: row["transition"])
        return AlertDetail(
            alert=shown(rows[-1:])[0],
            cause=cause_of(rows[-1]),
            transitions=[Alert.of(row) for row in rows],
            decisions=[Decision.model_validate(row) for row in decided.rows],
            notifications=[
                AlertNotification(
                    **{**row, "outcome": row["outcome"] or None},
                    deliveries=log_link(row["notification_id"]),
                )
                for row in told.rows
            ],
            complete=not failures,
            missing=sorted(failures),
        )

    @routes.post(
        "/{id}/acknowledge",
        summary="Take charge of an alert",
        responses=problems(400, 401, 403, 404, 409, 413, 415, 429, 503),
        openapi_extra=body(AcknowledgementRequest.__name__, ACKNOWLEDGEMENT_EXAMPLE),
    )
    async def acknowledge(
        id: IdParameter,  # noqa: A002
        by: by_admin,
        request: Request,
        response: Response,
    ) -> SilenceAnswer:
        """Nothing more is told of it, but that it has resolved. `DELETE /api/silences/{id}` takes it back."""
        asked = validated(AcknowledgementRequest, await read_document(request), "acknowledgement")
        alert = alerts.get(id)
        if alert is None and not follower.caught_up:
            raise UnavailableError(missing()[0], where="kafka")
        if alert is None:
            raise NotFoundError(f"No alert {id!r} is open: /api/alerts lists those that are.", where="id")
        if alert["state"] == RESOLVED:
            raise ConflictError(
                f"The alert {id!r} has resolved: there is nothing to take charge of.", where="id"
            )
        key = acknowledgement_id(id)
        document = Acknowledgement(
            id=key,
            alert_id=id,
            author=asked.author,
            reason=asked.reason,
            acknowledged_at=to_time(clock()),
        ).model_dump(mode="json")
        made = await silences.put(key, document, by)
        response.headers.update(etag(made.revision))
        return answered(made, alerts, clock())

    return routes


async def _asked(asking: Any) -> _Asked:
    try:
        return _Asked(await asking, None)
    except UnavailableError as error:
        return _Asked([], error.detail)


def _same(row: Record, live: Record) -> bool:
    return (row["transition"], row["revision"]) >= (live["transition"], live["revision"])


def _check_labels(labels: Sequence[str]) -> None:
    for label in labels:
        if "=" not in label:
            raise BadParameterError(
                f"{label!r} is no label: write key=value, such as team=support.", where="label"
            )
