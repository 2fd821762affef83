"""The routes that every kind of definitions has, with a kind of the test's own."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from pydantic import BaseModel

from api.definitions.editor import Draft, Presenter
from api.definitions.store import DefinitionKind, DefinitionStore
from api.description import JsonBody
from api.routes.definitions import DefinitionRoutes, Operation
from infra.settings import ClickHouseSettings
from schemas.topics import RULES
from streams.definitions.definition import Definition
from tests.api.around import ADMIN, Around

NOTE = DefinitionKind(RULES, "note", "/api/notes")


class Note(BaseModel):
    """A note."""

    id: str
    text: str


def answer(definition: Definition) -> Note:
    return Note(id=definition.id, text=definition.definition["text"])


@dataclass(frozen=True)
class NoteEditor:
    """Takes notes as they are. A note that says `append` keeps the text that there is."""

    store: DefinitionStore

    async def new(self, document: Mapping[str, Any]) -> Draft:
        return Draft(document["id"], document, answer)

    async def changed(self, key: str, document: Mapping[str, Any]) -> Draft:
        if "append" not in document:
            return Draft(key, document, answer)
        held = await self.store.get(key)
        text = held.definition["text"] + document["append"]
        await self.store.replace(key, {"text": "somebody else's"}, "somebody else", None)
        return Draft(key, {"text": text}, answer, held.revision)


def notes(around: Around, *, replaced: bool = True) -> APIRouter:
    store = DefinitionStore(NOTE, around.topics[RULES], around.topics, around.time)
    router = APIRouter(prefix="/api/notes")

    async def editor() -> NoteEditor:
        return NoteEditor(store)

    async def presenter() -> Presenter:
        async def present(definition: Definition) -> Note:
            return answer(definition)

        return present

    DefinitionRoutes(
        editor=editor,
        presenter=presenter,
        body=JsonBody(Note, {"id": "a", "text": "b"}),
        create=Operation("Make a note", "", Note),
        read=Operation("One note", "", Note),
        replace=Operation("Replace a note", "", Note) if replaced else None,
        delete=Operation("Delete a note", "") if replaced else None,
    ).add_to(router)
    return router


@pytest.fixture
async def around(away: ClickHouseSettings) -> AsyncIterator[Around]:
    async with Around(away) as made:
        yield made


@pytest.fixture
def http(around: Around) -> httpx.AsyncClient:
    around.app.include_router(notes(around))
    client = around.http()
    client.headers.update(ADMIN)
    return client


async def test_a_definition_is_made_read_replaced_and_deleted_by_its_revision(
    http: httpx.AsyncClient,
) -> None:
    made = await http.post("/api/notes", json={"id": "a", "text": "one"})
    assert (made.status_code, made.headers["location"], made.headers["etag"]) == (201, "/api/notes/a", '"1"')
    assert (await http.put("/api/notes/a", json={"text": "two"})).status_code == 428
    replaced = await http.put("/api/notes/a", json={"text": "two"}, headers={"If-Match": '"1"'})
    assert (replaced.json(), replaced.headers["etag"]) == ({"id": "a", "text": "two"}, '"2"')
    read = await http.get("/api/notes/a")
    assert (read.json(), read.headers["etag"]) == (replaced.json(), '"2"')
    assert (await http.delete("/api/notes/a", headers={"If-Match": '"1"'})).status_code == 412
    assert (await http.delete("/api/notes/a")).status_code == 204
    assert (await http.get("/api/notes/a")).status_code == 404


async def test_a_draft_that_keeps_a_part_of_a_revision_replaces_no_other(http: httpx.AsyncClient) -> None:
    await http.post("/api/notes", json={"id": "a", "text": "one"})
    late = await http.put("/api/notes/a", json={"append": " and two"}, headers={"If-Match": "*"})
    assert late.status_code == 412
    assert (await http.get("/api/notes/a")).json()["text"] == "somebody else's"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_changes_take_the_admin_key(http: httpx.AsyncClient, method: str) -> None:
    del http.headers["authorization"]
    address = "/api/notes" if method == "POST" else "/api/notes/a"
    assert (await http.request(method, address, json={"id": "a"})).status_code == 401


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_kind_has_the_routes_alone_that_it_names(around: Around, method: str) -> None:
    around.app.include_router(notes(around, replaced=False))
    http = around.http()
    await http.post("/api/notes", json={"id": "a", "text": "one"}, headers=dict(ADMIN))
    answered = await http.request(method, "/api/notes/a", json={"text": "two"}, headers=dict(ADMIN))
    assert answered.status_code == 405
    assert (await http.get("/api/notes/a")).json()["text"] == "one"
