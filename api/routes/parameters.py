"""Query parameters that several routes take."""

from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import Query

from api.live.state import Include
from api.models.problem import Problem


class GroupingName(StrEnum):
    """How requests are split into groups."""

    TOTAL = "total"
    SERVICE = "service"
    MODEL = "model"
    SPACE = "space"
    WORKFLOW = "workflow"
    ERROR = "error"
    USER = "user"


GroupingParameter = Annotated[
    GroupingName,
    Query(
        description="How requests are split. A request without the field (no space, say) is in no group. "
        "Key fields: service: service; model: provider, model; space: space_id; "
        "workflow: workflow, workflow_version; error: error_type; user: user_id; total: none."
    ),
]
KeyParameter = Annotated[
    list[str],
    Query(
        description="Only groups with these values of the grouping's key fields, in their order; repeat it "
        "for the second: `key=openai&key=gpt-4o`. The first alone takes all groups that share it.",
        max_length=2,
        examples=[["support-chat"]],
    ),
]
_INCLUDE: Final = "Which events count: `live`, `imported` (replayed traces, backfills), or `all`."
IncludeParameter = Annotated[Include, Query(description=_INCLUDE)]


def limit_parameter(most: int) -> Any:
    """`limit`, up to `most` groups."""
    return Query(ge=1, le=most, description="Most groups that are answered, those with the most requests.")


def problems(*kinds: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the failures with these statuses."""
    titles = {
        400: "A parameter is not usable; `where` names it, `detail` says what to do.",
        503: "A part that is needed is away; `Retry-After` says when to ask again.",
    }
    content = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    described: dict[int | str, dict[str, Any]] = {
        kind: {"description": titles[kind], "content": content} for kind in kinds
    }
    return described | {"default": {"description": "Anything else that fails.", "model": Problem}}
