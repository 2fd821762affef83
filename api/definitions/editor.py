"""What a kind of definitions adds to the routes that all kinds have."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel

from api.definitions.store import DefinitionStore
from streams.definitions.definition import Definition

Presenter = Callable[[Definition], Awaitable[BaseModel]]
"""Makes the answer that shows a definition to the caller."""


@dataclass(frozen=True)
class Draft:
    """A definition that is to be written, and the answer once it is."""

    id: str
    document: Mapping[str, Any]
    answer: Callable[[Definition], BaseModel]
    revision: int | None = None
    """The revision that it was made from, where it keeps a part of it: no other may be replaced by it."""


class DefinitionEditor(Protocol):
    """Makes drafts out of what is sent. All methods raise InvalidError where that is wrong."""

    @property
    def store(self) -> DefinitionStore:
        """Where the definitions are kept."""

    async def new(self, document: Mapping[str, Any]) -> Draft:
        """A new definition."""


class ReplacingEditor(DefinitionEditor, Protocol):
    """An editor of definitions that can be replaced."""

    async def changed(self, key: str, document: Mapping[str, Any]) -> Draft:
        """Another revision of the one with the id `key`."""
