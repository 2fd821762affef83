"""`/api/rules`: what alerts are raised by."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response

from api.access.guard import Guard
from api.definitions.document import read_document
from api.definitions.revision import IfMatch, etag, expected, required
from api.definitions.shelf import Shelf
from api.description import body
from api.errors import Fault, InvalidError
from api.models.rules import RULE_EXAMPLE, RuleAnswer, RuleList
from api.routes.access import admin
from api.routes.parameters import IdParameter, problems
from streams.alerts.errors import RuleError
from streams.alerts.rule import Rule, dumped, parse_rule

RULE_SCHEMA: Final = "Rule"


def router(guard: Guard, rules: Shelf) -> APIRouter:
    """The routes, over these rules."""
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
