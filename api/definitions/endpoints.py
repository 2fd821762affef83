"""Endpoints, as they are given and shown: what is secret goes in, is encrypted, and never comes out again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from api.errors import ConflictError, Fault, InvalidError, sentence
from streams.definitions.definition import Definition
from streams.deliveries.addresses import AllowList
from streams.deliveries.errors import AddressRefusedError, TemplateError
from streams.deliveries.guard import check_url
from streams.deliveries.signing import new_secret
from streams.deliveries.template import check as check_template
from streams.endpoints.endpoint import Endpoint, Secret, parse_endpoint
from streams.endpoints.errors import EndpointError
from streams.endpoints.secrets import Vault

MASK: Final = "********"
"""What stands where something is not shown. Sent back, it leaves what is there as it is."""
READ_ONLY: Final = ("secrets", "disabled_because", "disabled_at")
"""Fields of an answer that are not taken from what is sent: other calls change them."""
_LONGEST_CREDENTIAL: Final = 4_096
_MOST_SECRETS: Final = 8


@dataclass(frozen=True)
class EndpointDraft:
    """An endpoint to be written, and the secret that is to be shown, once, if one was made."""

    endpoint: Endpoint
    secret: str | None = None


@dataclass(frozen=True)
class EndpointDrafting:
    """Makes endpoints out of what is sent. All methods raise InvalidError where that is wrong."""

    vault: Vault
    allowed: AllowList

    def new(self, key: str, document: Mapping[str, Any], now: datetime) -> EndpointDraft:
        """A new endpoint; a webhook gets a secret."""
        given = self._given(key, document)
        given["credential"] = self._credential(key, document.get("credential"), None, now)
        secret = None
        if given.get("channel") == "webhook":
            secret = new_secret()
            given["secrets"] = [self._sealed(key, secret, now)]
        endpoint = self._checked(_parsed(given))
        return EndpointDraft(endpoint if endpoint.enabled else endpoint.disabled("made so", now), secret)

    def changed(self, held: Endpoint, document: Mapping[str, Any], now: datetime) -> EndpointDraft:
        """The endpoint as it is to be. What is secret stays unless it is sent; so does what is masked."""
        given = {"channel": held.channel, **self._given(held.id, document)}
        if given["channel"] != held.channel:
            raise InvalidError(
                [Fault("endpoint.channel", f"An endpoint stays a {held.channel} endpoint: make another one.")]
            )
        if held.url is not None and given.get("url") == masked_url(held.url):
            given["url"] = held.url
        if isinstance(headers := given.get("headers"), dict):
            given["headers"] = {
                name: held.headers.get(name, value) if value == MASK else value
                for name, value in headers.items()
            }
        credential = document.get("credential", MASK)
        given["credential"] = self._credential(held.id, credential, held.credential, now)
        given["secrets"] = [secret.model_dump() for secret in held.secrets]
        endpoint = self._checked(_parsed(given))
        if not endpoint.enabled:
            kept = held if held.disabled_because else held.disabled("switched off", now)
            because = {"disabled_because": kept.disabled_because, "disabled_at": kept.disabled_at}
            endpoint = endpoint.model_copy(update=because)
        return EndpointDraft(endpoint)

    def rotated(self, held: Endpoint, now: datetime, overlap: timedelta) -> EndpointDraft:
        """With a new secret; those before it sign beside it for `overlap`."""
        if held.channel != "webhook":
            raise ConflictError(
                f"A {held.channel} endpoint has no signing secret; a credential is replaced by sending it "
                f"with PUT /api/endpoints/{held.id}.",
                where="id",
            )
        secret, until = new_secret(), now + overlap
        older = [
            each.model_copy(
                update={"expires_at": until if each.expires_at is None else min(until, each.expires_at)}
            )
            for each in held.live_secrets(now)
        ]
        kept = [each for each in older if each.holds(now)][: _MOST_SECRETS - 1]
        newest = Secret.model_validate(self._sealed(held.id, secret, now))
        return EndpointDraft(held.model_copy(update={"secrets": [newest, *kept]}), secret)

    def _given(self, key: str, document: Mapping[str, Any]) -> dict[str, Any]:
        if document.get("id", key) != key:
            raise InvalidError(
                [Fault("endpoint.id", f"An endpoint keeps its id: leave it out, or write {key!r}.")]
            )
        return {"id": key, **{name: value for name, value in document.items() if name not in READ_ONLY}}

    def _credential(
        self, key: str, given: object, held: Secret | None, now: datetime
    ) -> dict[str, Any] | None:
        if given is None:
            return None
        if given == MASK or (isinstance(given, Mapping) and given.get("value") == MASK):
            return None if held is None else held.model_dump()
        if not isinstance(given, str) or not 0 < len(given) <= _LONGEST_CREDENTIAL:
            raise InvalidError([Fault("endpoint.credential", "Write it as text, as in Bearer abc123.")])
        if not given.isascii() or not given.isprintable():
            raise InvalidError([Fault("endpoint.credential", "It has to be printable ASCII.")])
        return self._sealed(key, given, now)

    def _sealed(self, key: str, secret: str, now: datetime) -> dict[str, Any]:
        return {"value": self.vault.encrypt(secret, key), "created_at": now}

    def _checked(self, endpoint: Endpoint) -> Endpoint:
        try:
            if endpoint.url is not None:
                check_url(endpoint.url, self.allowed)
        except AddressRefusedError as error:
            raise InvalidError([Fault("endpoint.url", f"{error}.")]) from None
        subject = endpoint.mail.subject if endpoint.mail else None
        for where, source in (("endpoint.template", endpoint.template), ("endpoint.mail.subject", subject)):
            try:
                if source is not None:
                    check_template(source)
            except TemplateError as error:
                raise InvalidError([Fault(where, f"This is no template: {error}.")]) from None
        return endpoint


def enabled(held: Endpoint) -> EndpointDraft:
    """The endpoint, which is called from now on."""
    return EndpointDraft(
        held.model_copy(update={"enabled": True, "disabled_because": None, "disabled_at": None})
    )


def disabled(held: Endpoint, because: str, now: datetime) -> EndpointDraft:
    """The endpoint, whose notifications are parked from now on."""
    return EndpointDraft(held.disabled(because, now))


def read(definition: Definition) -> Endpoint:
    """The endpoint that was set up. Raises ConflictError for one that this version can't read."""
    try:
        return parse_endpoint(definition.definition)
    except EndpointError as error:
        raise ConflictError(
            f"The endpoint {definition.id!r} can't be read ({error}): delete it, and make it anew.",
            where="id",
        ) from error


def shown(endpoint: Endpoint, *, to_admin: bool) -> Endpoint:
    """As it is shown: no secrets; the path of its address, which often is one, to the admin alone."""
    hidden: dict[str, Any] = {
        "secrets": [secret.model_copy(update={"value": MASK}) for secret in endpoint.secrets],
        "credential": endpoint.credential and endpoint.credential.model_copy(update={"value": MASK}),
    }
    if not to_admin:
        hidden["url"] = None if endpoint.url is None else masked_url(endpoint.url)
        hidden["headers"] = dict.fromkeys(endpoint.headers, MASK)
    return endpoint.model_copy(update=hidden)


def masked_url(url: str) -> str:
    """The address without what follows the host."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/{MASK}"


def _parsed(given: Mapping[str, Any]) -> Endpoint:
    try:
        return parse_endpoint(given)
    except EndpointError as error:
        faults = [
            Fault(f"endpoint.{each.where}".replace("endpoint.endpoint", "endpoint"), sentence(each.message))
            for each in error.faults
        ]
        raise InvalidError(faults) from None
