"""`/api/endpoints`: where notifications go. What can be done with one is in `endpoint_actions`."""

from fastapi import APIRouter

from api.access.dependencies import IsAdminDep
from api.definitions.editor import Presenter
from api.definitions.endpoint_editor import EndpointEditor
from api.definitions.endpoints import read
from api.dependencies import ClockDep, DraftingDep, EndpointsDep
from api.description import JsonBody
from api.errors import ConflictError
from api.models.endpoints import (
    ENDPOINT_EXAMPLE,
    EndpointAnswer,
    EndpointList,
    EndpointRequest,
    EndpointWithSecret,
)
from api.routes.definitions import DefinitionRoutes, Operation
from api.routes.parameters import problems
from streams.definitions.definition import Definition

router = APIRouter(prefix="/api/endpoints", tags=["endpoints"])


@router.get("", summary="All endpoints", responses=problems(403, 429, 503))
async def every(is_admin: IsAdminDep, endpoints: EndpointsDep) -> EndpointList:
    """Their secrets are never shown; with the admin key their addresses are, whole."""
    found, unreadable = [], []
    for definition in await endpoints.all():
        try:
            endpoint = read(definition)
        except ConflictError:
            unreadable.append(definition.id)
        else:
            found.append(EndpointAnswer.of(definition, endpoint, to_admin=is_admin))
    return EndpointList(endpoints=found, unreadable=unreadable)


async def _editor(endpoints: EndpointsDep, drafting: DraftingDep, clock: ClockDep) -> EndpointEditor:
    return EndpointEditor(endpoints, drafting, clock)


async def _presenter(is_admin: IsAdminDep) -> Presenter:
    async def present(definition: Definition) -> EndpointAnswer:
        return EndpointAnswer.of(definition, read(definition), to_admin=is_admin)

    return present


DefinitionRoutes(
    editor=_editor,
    presenter=_presenter,
    body=JsonBody(EndpointRequest, ENDPOINT_EXAMPLE),
    create=Operation(
        "Make an endpoint",
        "A webhook gets a signing secret, which this answer shows and no other. Without `id` it gets one.",
        EndpointWithSecret,
    ),
    read=Operation(
        "One endpoint",
        "The header `ETag` has its revision, for `If-Match` of a change.",
        EndpointAnswer,
        (403, 404, 409, 429, 503),
    ),
    replace=Operation(
        "Replace an endpoint",
        "Its secrets stay, and its credential unless another is sent. What is masked stays as it is.",
        EndpointAnswer,
    ),
    delete=Operation(
        "Delete an endpoint",
        "What is still to be delivered to it is not delivered. To keep that, disable it instead.",
    ),
).add_to(router)
