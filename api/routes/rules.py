"""`/api/rules`: what alerts are raised by."""

from typing import Final

from fastapi import APIRouter, Request

from api.access.dependencies import AdminDep
from api.alerting.held_back import PresentSetup
from api.definitions.document import read_document, validated
from api.definitions.editor import Presenter
from api.definitions.rules import RuleEditor, new_rule, parsed
from api.definitions.store import DefinitionStore
from api.dependencies import BacktesterDep, ClockDep, EndpointsDep, RulesDep
from api.description import JsonBody
from api.errors import BadParameterError, Fault, InvalidError
from api.models.backtest import BACKTEST_EXAMPLE, Backtest, BacktestRequest
from api.models.rules import RULE_EXAMPLE, RuleAnswer, RuleList
from api.routes.definitions import DefinitionRoutes, Operation
from api.routes.parameters import problems
from api.times import parse_time
from schemas.time import DAY, Micros
from streams.alerts.rule import RULE, Rule
from streams.definitions.definition import Definition

_LONGEST: Final[Micros] = 100 * DAY

router = APIRouter(prefix="/api/rules", tags=["rules"])


@router.get("", summary="All rules", responses=problems(503))
async def every(rules: RulesDep) -> RuleList:
    """Those of files (`provisioned`) and those that were made here, by id."""
    return RuleList(rules=[RuleAnswer.of(each) for each in await rules.all()])


@router.post(
    "/backtest",
    summary="Hold a rule against the past",
    responses=problems(400, 401, 403, 404, 413, 415, 429, 503),
    openapi_extra=JsonBody(BacktestRequest, BACKTEST_EXAMPLE),
)
async def backtest(
    by: AdminDep,
    rules: RulesDep,
    endpoints: EndpointsDep,
    backtester: BacktesterDep,
    clock: ClockDep,
    request: Request,
) -> Backtest:
    """The alerts that it would have raised, when, and who would have been told.

    By the code that judges live panes, over the windows in ClickHouse, for at most a minute; one at a
    time. `chatgauge backtest` has no such limits.
    """
    asked = validated(BacktestRequest, await read_document(request), "backtest")
    rule = await _rule_of(asked, rules)
    start, end = _range_of(asked, clock())
    notified = PresentSetup.endpoints_of(tuple(await endpoints.all()))
    found = await backtester.run(rule, start, end, asked.include, notified)
    return Backtest.of(rule, start, end, found)


async def _rule_of(asked: BacktestRequest, rules: DefinitionStore) -> Rule:
    if (asked.rule is None) == (asked.rule_id is None):
        raise InvalidError([Fault("backtest.rule", "Send either a rule, or a rule_id.")])
    if asked.rule_id is not None:
        return parsed((await rules.get(asked.rule_id)).definition)
    return new_rule(asked.rule or {})


def _range_of(asked: BacktestRequest, now: Micros) -> tuple[Micros, Micros]:
    start = parse_time(asked.start, "backtest.start")
    end = now if asked.end is None else min(parse_time(asked.end, "backtest.end"), now)
    if start >= end:
        raise BadParameterError("It must lie before the end, and in the past.", where="backtest.start")
    if end - start > _LONGEST:
        raise BadParameterError(
            f"At most {_LONGEST // DAY} days at a time: end earlier, and go on from there.",
            where="backtest.start",
        )
    return start, end


async def _editor(rules: RulesDep) -> RuleEditor:
    return RuleEditor(rules)


async def _presenter() -> Presenter:
    async def present(definition: Definition) -> RuleAnswer:
        return RuleAnswer.of(definition)

    return present


DefinitionRoutes(
    editor=_editor,
    presenter=_presenter,
    body=JsonBody(RULE, RULE_EXAMPLE, name="Rule"),
    create=Operation(
        "Make a rule",
        "Judged within a second, on every worker. Without `id` it gets one that is made of its name.",
        RuleAnswer,
    ),
    read=Operation(
        "One rule",
        "The header `ETag` has its revision, for `If-Match` of a change.",
        RuleAnswer,
    ),
    replace=Operation(
        "Replace a rule",
        "Its open alerts go on, by the new version. A rule that is not `enabled` resolves its alerts.",
        RuleAnswer,
    ),
    delete=Operation(
        "Delete a rule",
        "Its open alerts resolve. With `If-Match` only when it still has that revision.",
    ),
).add_to(router)
