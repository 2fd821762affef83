"""`/api/rules`: what alerts are raised by."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response

from api.access.guard import Guard
from api.alerting.backtesting import Backtester
from api.alerting.held_back import PresentSetup
from api.definitions.document import read_document, validated
from api.definitions.revision import IfMatch, etag, expected, required
from api.definitions.store import DefinitionStore
from api.description import body
from api.errors import BadParameterError, Fault, InvalidError
from api.models.backtest import BACKTEST_EXAMPLE, Backtest, BacktestRequest
from api.models.rules import RULE_EXAMPLE, RuleAnswer, RuleList
from api.routes.access import admin
from api.routes.parameters import IdParameter, problems
from api.times import Clock, parse_time
from schemas.time import DAY, Micros
from streams.alerts.errors import RuleError
from streams.alerts.rule import Rule, dumped, parse_rule

RULE_SCHEMA: Final = "Rule"
_LONGEST: Final[Micros] = 100 * DAY


def router(
    guard: Guard, rules: DefinitionStore, endpoints: DefinitionStore, backtester: Backtester, clock: Clock
) -> APIRouter:
    """The routes, over these rules; backtests tell the endpoints."""
    routes = APIRouter(prefix="/api/rules", tags=["rules"])
    by_admin = Annotated[str, Depends(admin(guard))]

    @routes.get("", summary="All rules", responses=problems(503))
    async def every() -> RuleList:
        """Those of files (`provisioned`) and those that were made here, by id."""
        return RuleList(rules=[RuleAnswer.of(each) for each in await rules.all()])

    @routes.post(
        "",
        summary="Make a rule",
        status_code=201,
        responses=problems(400, 401, 403, 409, 413, 415, 429, 503),
        openapi_extra=body(RULE_SCHEMA, RULE_EXAMPLE),
    )
    async def create(by: by_admin, request: Request, response: Response) -> RuleAnswer:
        """Judged within a second, on every worker. Without `id` it gets one that is made of its name."""
        rule = _parsed(_with_id(await read_document(request)))
        made = await rules.create(rule.id, dumped(rule), by)
        response.headers.update(etag(made.revision) | {"Location": f"/api/rules/{made.id}"})
        return RuleAnswer.of(made)

    @routes.post(
        "/backtest",
        summary="Hold a rule against the past",
        responses=problems(400, 401, 403, 404, 413, 415, 429, 503),
        openapi_extra=body(BacktestRequest.__name__, BACKTEST_EXAMPLE),
    )
    async def backtest(by: by_admin, request: Request) -> Backtest:
        """The alerts that it would have raised, when, and who would have been told.

        By the code that judges live panes, over the windows in ClickHouse, for at most a minute; one at a
        time. `chatgauge backtest` has no such limits.
        """
        asked = validated(BacktestRequest, await read_document(request), "backtest")
        if (asked.rule is None) == (asked.rule_id is None):
            raise InvalidError([Fault("backtest.rule", "Send either a rule, or a rule_id.")])
        if asked.rule_id is not None:
            rule = _parsed((await rules.get(asked.rule_id)).definition)
        else:
            rule = _parsed(_with_id(asked.rule or {}))
        now = clock()
        start = parse_time(asked.start, "backtest.start")
        end = now if asked.end is None else min(parse_time(asked.end, "backtest.end"), now)
        if start >= end:
            raise BadParameterError("It must lie before the end, and in the past.", where="backtest.start")
        if end - start > _LONGEST:
            raise BadParameterError(
                f"At most {_LONGEST // DAY} days at a time: end earlier, and go on from there.",
                where="backtest.start",
            )
        told = PresentSetup.endpoints_of(tuple(await endpoints.all()))
        found = await backtester.run(rule, start, end, asked.include, told)
        return Backtest.of(rule, start, end, found)

    @routes.get("/{id}", summary="One rule", responses=problems(404, 503))
    async def one(id: IdParameter, response: Response) -> RuleAnswer:  # noqa: A002 - the path's name
        """The header `ETag` has its revision, for `If-Match` of a change."""
        found = await rules.get(id)
        response.headers.update(etag(found.revision))
        return RuleAnswer.of(found)

    @routes.put(
        "/{id}",
        summary="Replace a rule",
        responses=problems(400, 401, 403, 404, 409, 412, 413, 415, 428, 429, 503),
        openapi_extra=body(RULE_SCHEMA, RULE_EXAMPLE),
    )
    async def replace(
        id: IdParameter,  # noqa: A002
        by: by_admin,
        request: Request,
        response: Response,
        if_match: IfMatch = None,
    ) -> RuleAnswer:
        """Its open alerts go on, by the new version. A rule that is not `enabled` resolves its alerts."""
        revision = required(if_match)
        document = await read_document(request)
        rule = _parsed({"id": id, **document})
        if rule.id != id:
            raise InvalidError(
                [Fault("rule.id", f"A rule keeps its id: leave it out, or write {id!r}, as in the address.")]
            )
        made = await rules.replace(id, dumped(rule), by, revision)
        response.headers.update(etag(made.revision))
        return RuleAnswer.of(made)

    @routes.delete(
        "/{id}",
        summary="Delete a rule",
        status_code=204,
        responses=problems(400, 401, 403, 404, 409, 412, 429, 503),
    )
    async def delete(id: IdParameter, by: by_admin, if_match: IfMatch = None) -> None:  # noqa: A002
        """Its open alerts resolve. With `If-Match` only when it still has that revision."""
        await rules.remove(id, expected(if_match))

    return routes


def _parsed(document: Mapping[str, Any]) -> Rule:
    try:
        return parse_rule(document, ("rule",))
    except RuleError as error:
        raise InvalidError([Fault(f.where, _told(f.message, f.right)) for f in error.faults]) from None


def _told(message: str, right: str) -> str:
    text = f"{message}: {right}" if right else message
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _with_id(document: Mapping[str, Any]) -> Mapping[str, Any]:
    if "id" in document:
        return document
    made = re.sub(r"[^a-z0-9]+", "-", str(document.get("name", "")).lower()).strip("-")[:60].strip("-")
    return {"id": made or "rule", **document}
