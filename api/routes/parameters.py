"""Query parameters that several routes take."""

from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import Path, Query

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
IdParameter = Annotated[str, Path(alias="id", description="The id.", max_length=200)]
CursorParameter = Annotated[
    str | None, Query(description="`next` of the page before, to go on behind it.", max_length=1_000)
]
StartParameter = Annotated[
    str | None,
    Query(
        description="From when on: ISO 8601, UTC unless it says otherwise.", examples=["2026-05-04T10:00Z"]
    ),
]
EndParameter = Annotated[
    str | None, Query(description="Until when, excluded: ISO 8601, UTC unless it says otherwise.")
]


def page_parameter(most: int) -> Any:
    """`limit`, up to `most` entries of a page."""
    return Query(ge=1, le=most, description="Most entries that are answered at once.")


def limit_parameter(most: int) -> Any:
    """`limit`, up to `most` groups."""
    return Query(ge=1, le=most, description="Most groups that are answered, those with the most requests.")


def problems(*kinds: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the failures with these statuses."""
    titles = {
        400: "A parameter or the body is not usable; `where` names the place, `detail` says what to do.",
        401: "The admin key is needed, in the header `Authorization: Bearer cg_…`.",
        403: "The key that was sent is not the admin key.",
        404: "There is nothing of this id.",
        409: "It can't be done as things are; `detail` says what to do.",
        412: "It was changed since it was read: read it again.",
        413: "The body is too large.",
        415: "The body is not JSON.",
        428: "`If-Match` is missing: which revision is to be replaced.",
        429: "Too many wrong keys came from this address; `Retry-After` says when to try again.",
        503: "A part that is needed is away; `Retry-After` says when to ask again.",
    }
    content = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    described: dict[int | str, dict[str, Any]] = {
        kind: {"description": titles[kind], "content": content} for kind in kinds
    }
    return described | {"default": {"description": "Anything else that fails.", "model": Problem}}
