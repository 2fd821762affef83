"""Endpoints, as requests and answers. What an endpoint is, `streams.deliveries` says."""

from datetime import datetime
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from api.definitions.endpoints import MASK, READ_ONLY, shown
from api.times import to_time
from streams.definitions.definition import Definition
from streams.endpoints.endpoint import Endpoint

ENDPOINT_EXAMPLE: Final[dict[str, Any]] = {
    "id": "oncall",
    "name": "On call",
    "channel": "webhook",
    "url": "https://example.org/hooks/chatgauge",
    "subscriptions": [{"types": ["alert.*"], "severities": ["error", "critical"]}],
}
_SHOWN: Final[dict[str, Any]] = {
    **ENDPOINT_EXAMPLE,
    "url": f"https://example.org/{MASK}",
    "enabled": True,
    "secrets": [{"value": MASK, "created_at": "2026-05-04T09:00:00Z", "expires_at": None}],
}
_ANSWER: Final[dict[str, Any]] = {
    "id": "oncall",
    "revision": 1,
    "provisioned": False,
    "changed_at": "2026-05-04T09:00:00Z",
    "changed_by": "admin key, from 127.0.0.1",
    "endpoint": _SHOWN,
}


class EndpointRequest:
    """What is sent: an endpoint without what only answers have, its credential as text."""

    @staticmethod
    def model_json_schema(ref_template: str) -> dict[str, Any]:
        """Its JSON schema."""
        schema = Endpoint.model_json_schema(ref_template=ref_template)
        properties = schema["properties"]
        for name in READ_ONLY:
            properties.pop(name)
        properties["credential"] = {
            "type": ["string", "null"],
            "title": "Credential",
            "description": "pagerduty: the routing key; webhook, alertmanager: the value of the header "
            "Authorization. Kept encrypted and never shown; left out of a change, it stays.",
        }
        schema["required"] = [name for name in schema["required"] if name != "id"]
        return schema | {"title": "EndpointRequest", "description": EndpointRequest.__doc__}


class EndpointAnswer(BaseModel):
    """An endpoint, and who changed it when."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ANSWER]})

    id: str
    revision: int = Field(description="Counts its changes; also in the header ETag.")
    provisioned: bool = Field(description="Comes from a file, and can only be changed there.")
    changed_at: datetime
    changed_by: str
    endpoint: Endpoint = Field(
        description=f"The endpoint. Secrets are `{MASK}`; to those without the admin key, so are the path "
        "of its address and the values of its headers."
    )

    @classmethod
    def of(cls, definition: Definition, endpoint: Endpoint, *, to_admin: bool) -> Self:
        """From its definition, of which `endpoint` is what was set up."""
        return cls(**_common(definition), endpoint=shown(endpoint, to_admin=to_admin))


class EndpointWithSecret(EndpointAnswer):
    """An endpoint, and the secret that was made for it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [_ANSWER | {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}]}
    )

    secret: str | None = Field(
        description="What signs its webhooks, shown this once; null for other channels than webhook."
    )

    @classmethod
    def showing(cls, definition: Definition, endpoint: Endpoint, secret: str | None) -> Self:
        """As `of`, with the secret."""
        return cls(**_common(definition), endpoint=shown(endpoint, to_admin=True), secret=secret)


class EndpointList(BaseModel):
    """All endpoints."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"endpoints": [_ANSWER], "unreadable": []}]})

    endpoints: list[EndpointAnswer] = Field(description="By id.")
    unreadable: list[str] = Field(description="Ids of those that this version can't read.")


ROTATION_EXAMPLE: Final[dict[str, Any]] = {"overlap": "24h"}
DISABLING_EXAMPLE: Final[dict[str, Any]] = {"reason": "the receiver is being moved"}
REDRIVE_EXAMPLE: Final[dict[str, Any]] = {
    "start": "2026-05-04T08:00:00Z",
    "end": "2026-05-04T12:00:00Z",
    "which": "undelivered",
}


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RotationRequest(_Given):
    """A new secret."""

    overlap: str = Field(
        "24h",
        description="How long the one before signs beside it: `1h`, `24h`, at most `30d`; `0s` when it has "
        "become known.",
    )


class DisablingRequest(_Given):
    """No more calls."""

    reason: str = Field("", max_length=500, description="Why; shown with the endpoint.")


class RedriveRequest(_Given):
    """Delivering again what was to be delivered."""

    start: str = Field(description="Notifications made from here on: ISO 8601.")
    end: str | None = Field(None, description="Until here, excluded; now, when left out.")
    which: Literal["undelivered", "all"] = Field(
        "undelivered", description="Those with no successful attempt, or all."
    )
    cursor: str | None = Field(None, description="`next` of the answer before, to go on behind it.")


class SentTest(BaseModel):
    """A test that is on its way."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"notification_id": "nt_2c81", "deliveries": "/api/deliveries?notification=nt_2c81"}]
        }
    )

    notification_id: str = Field(description="The `webhook-id` that the receiver gets.")
    deliveries: str = Field(description="Where its attempts are listed, a few seconds from now.")


class RedriveAnswer(BaseModel):
    """What is being delivered again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"redriven": 42, "next": None}]})

    redriven: int = Field(description="How many notifications.")
    next: str | None = Field(
        description="The cursor to go on with, when there are more than one call takes; null at the end."
    )


def _common(definition: Definition) -> dict[str, Any]:
    return {
        "id": definition.id,
        "revision": definition.revision,
        "provisioned": definition.provisioned,
        "changed_at": to_time(definition.changed_at),
        "changed_by": definition.changed_by,
    }
