"""Endpoints, as they are sent to be made or changed."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api.definitions.editor import Draft
from api.definitions.endpoints import EndpointDraft, EndpointDrafting, read
from api.definitions.store import DefinitionStore
from api.errors import Fault, InvalidError, UnavailableError
from api.models.endpoints import EndpointAnswer, EndpointWithSecret
from api.times import Clock, to_time
from streams.definitions.definition import Definition
from streams.deliveries.addresses import AllowList
from streams.endpoints.errors import SecretError
from streams.endpoints.secrets import Vault


class DraftingOnDemand:
    """Opens the vault when an endpoint is first drafted: everything else works without its key."""

    def __init__(self, open_vault: Callable[[], Vault], allowed: AllowList) -> None:
        self._open_vault = open_vault
        self._allowed = allowed
        self._drafting: EndpointDrafting | None = None

    def __call__(self) -> EndpointDrafting:
        """Raises UnavailableError without a key to encrypt secrets with."""
        if self._drafting is None:
            try:
                self._drafting = EndpointDrafting(self._open_vault(), self._allowed)
            except SecretError as error:
                raise UnavailableError(f"Secrets can't be encrypted: {error}.", where="vault") from error
        return self._drafting


@dataclass(frozen=True)
class EndpointEditor:
    """Makes endpoints out of what is sent."""

    store: DefinitionStore
    drafting: DraftingOnDemand
    clock: Clock

    async def new(self, document: Mapping[str, Any]) -> Draft:
        """Without `id` it gets one. A webhook gets a secret, which the answer shows."""
        key = document.get("id") or f"ep_{secrets.token_hex(8)}"
        if not isinstance(key, str):
            raise InvalidError([Fault("endpoint.id", "Write it as text: small letters, digits, - and _.")])
        return _with_secret(self.drafting().new(key, document, self._now()))

    async def changed(self, key: str, document: Mapping[str, Any]) -> Draft:
        """What is secret stays, unless it is sent."""
        held = await self.store.get(key)
        draft = self.drafting().changed(read(held), document, self._now())

        def answer(definition: Definition) -> EndpointAnswer:
            return EndpointAnswer.of(definition, draft.endpoint, to_admin=True)

        return Draft(key, draft.endpoint.document(), answer, held.revision)

    def _now(self) -> datetime:
        return to_time(self.clock())


def _with_secret(draft: EndpointDraft) -> Draft:
    def answer(definition: Definition) -> EndpointWithSecret:
        return EndpointWithSecret.showing(definition, draft.endpoint, draft.secret)

    return Draft(draft.endpoint.id, draft.endpoint.document(), answer)
