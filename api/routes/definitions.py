"""Create, read, replace and delete over HTTP, for definitions of any kind."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from api.access.dependencies import AdminDep
from api.definitions.document import read_document
from api.definitions.editor import DefinitionEditor, Presenter, ReplacingEditor
from api.definitions.revision import IfMatch, etag, expected, required
from api.description import JsonBody
from api.routes.parameters import IdParameter, problems

_CREATE: Final = (400, 401, 403, 409, 413, 415, 429, 503)
_READ: Final = (404, 503)
_REPLACE: Final = (400, 401, 403, 404, 409, 412, 413, 415, 428, 429, 503)
_DELETE: Final = (400, 401, 403, 404, 409, 412, 429, 503)


@dataclass(frozen=True)
class Operation:
    """What sets a route of one kind apart from the same route of another."""

    summary: str
    description: str
    answer: type[BaseModel] | None = None
    """None for a route that answers nothing."""
    problems: tuple[int, ...] | None = None
    """The failures that the API's description lists, where they are others than usual."""

    def arguments(self, usual: tuple[int, ...]) -> dict[str, Any]:
        """For the decorator of the route."""
        return {
            "summary": self.summary,
            "description": self.description,
            "response_model": self.answer,
            "responses": problems(*(self.problems or usual)),
        }


@dataclass(frozen=True, kw_only=True)
class DefinitionRoutes:
    """The routes of a kind of definitions. `editor` and `presenter` are dependencies, made per request.

    A list of all, and whatever else a kind offers, are routes of its own module. A kind without `replace`
    or `delete` has none, or its own.
    """

    editor: Callable[..., Awaitable[DefinitionEditor]]
    presenter: Callable[..., Awaitable[Presenter]]
    body: JsonBody
    create: Operation
    read: Operation
    replace: Operation | None = None
    delete: Operation | None = None

    def add_to(self, router: APIRouter) -> None:
        """Add them to the kind's router, whose prefix is the address of the definitions."""
        self._add_create(router, self.create)
        self._add_read(router, self.read)
        if self.replace is not None:
            self._add_replace(router, self.replace)
        if self.delete is not None:
            self._add_delete(router, self.delete)

    def _add_create(self, router: APIRouter, operation: Operation) -> None:
        editing = Depends(self.editor)

        @router.post("", status_code=201, openapi_extra=self.body, **operation.arguments(_CREATE))
        async def create(
            by: AdminDep, editor: Annotated[DefinitionEditor, editing], request: Request, response: Response
        ) -> Any:
            draft = await editor.new(await read_document(request))
            made = await editor.store.create(draft.id, draft.document, by)
            response.headers.update(etag(made.revision) | {"Location": f"{router.prefix}/{made.id}"})
            return draft.answer(made)

    def _add_read(self, router: APIRouter, operation: Operation) -> None:
        editing, presenting = Depends(self.editor), Depends(self.presenter)

        @router.get("/{id}", **operation.arguments(_READ))
        async def one(
            key: IdParameter,
            editor: Annotated[DefinitionEditor, editing],
            present: Annotated[Presenter, presenting],
            response: Response,
        ) -> Any:
            found = await editor.store.get(key)
            response.headers.update(etag(found.revision))
            return await present(found)

    def _add_replace(self, router: APIRouter, operation: Operation) -> None:
        editing = Depends(self.editor)

        @router.put("/{id}", openapi_extra=self.body, **operation.arguments(_REPLACE))
        async def replace(
            key: IdParameter,
            by: AdminDep,
            editor: Annotated[ReplacingEditor, editing],
            request: Request,
            response: Response,
            if_match: IfMatch = None,
        ) -> Any:
            revision = required(if_match)
            draft = await editor.changed(key, await read_document(request))
            replaced = draft.revision if revision is None else revision
            made = await editor.store.replace(key, draft.document, by, replaced)
            response.headers.update(etag(made.revision))
            return draft.answer(made)

    def _add_delete(self, router: APIRouter, operation: Operation) -> None:
        editing = Depends(self.editor)

        @router.delete("/{id}", status_code=204, **operation.arguments(_DELETE))
        async def delete(
            key: IdParameter,
            by: AdminDep,
            editor: Annotated[DefinitionEditor, editing],
            if_match: IfMatch = None,
        ) -> None:
            await editor.store.remove(key, expected(if_match))
