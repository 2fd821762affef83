"""An endpoint: where notifications go, which, and how.

It is the `definition` of a `Definition` on chat.endpoints. `parse_endpoint` reads what a person has
written, and says where it is wrong.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from streams.endpoints.errors import EndpointError, Fault
from streams.endpoints.subscription import Subscription

Channel = Literal["webhook", "mail", "slack", "teams", "pagerduty", "alertmanager"]

PAGERDUTY_URL: Final = "https://events.pagerduty.com/v2/enqueue"
_DEFAULT: Final = {"types": ["alert.*", "endpoint.failing"]}
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0}
_DURATION: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_OURS: Final = ("host", "content-length", "content-type", "transfer-encoding", "connection", "authorization")
_ADDRESS: Final = re.compile(r"[^\s@<>\",;:\\()\[\]]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_LONGEST_URL: Final = 2048


def _seconds(given: object) -> object:
    """Seconds from a number, or from a text such as `15 s` or `500 ms`."""
    if not isinstance(given, str):
        return given
    found = _DURATION.fullmatch(given)
    if not found or found[2] not in _UNITS:
        raise ValueError(f"«{given}» is no duration, write one as in 15 s or 500 ms")
    return float(found[1]) * _UNITS[found[2]]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Secret(_Part):
    """Something that only the receiver and this service may know; encrypted in every record."""

    value: str = Field(min_length=1, max_length=8192)
    """Encrypted."""
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    """Until when it signs, beside its successor; null while it is the newest."""

    def holds(self, now: datetime) -> bool:
        """Whether it is still in use."""
        return self.expires_at is None or now < self.expires_at


Address = Annotated[str, StringConstraints(min_length=3, max_length=254)]


class Mail(_Part):
    """To whom mail goes. The server that takes it is a setting of the service (`CHATGAUGE_MAIL_*`)."""

    to: list[Address] = Field(min_length=1, max_length=100)
    cc: list[Address] = Field(default=[], max_length=100)
    reply_to: Address | None = None
    subject: str | None = Field(None, min_length=1, max_length=500)
    """A template for the subject; the product's own when null."""

    @field_validator("to", "cc", "reply_to")
    @classmethod
    def _addresses(cls, given: list[str] | str | None) -> list[str] | str | None:
        for address in [given] if isinstance(given, str) else given or []:
            if not _ADDRESS.fullmatch(address):
                raise ValueError(f"«{address}» is no mail address, write one as in oncall@example.org")
        return given

    @field_validator("subject")
    @classmethod
    def _one_line(cls, subject: str | None) -> str | None:
        if subject and not subject.isprintable():
            raise ValueError("a subject is one line without control characters")
        return subject


class Endpoint(_Part):
    """Where notifications go, which, and how."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    name: str = Field("", max_length=200)
    channel: Channel
    url: str | None = None
    """webhook, slack, teams: where to post to; alertmanager: its base, to which /api/v2/alerts is added;
    pagerduty: another address than PagerDuty's own."""
    headers: dict[str, str] = Field(default={}, max_length=32)
    """webhook, alertmanager: further headers, none of them secret."""
    credential: Secret | None = None
    """pagerduty: the routing key; webhook, alertmanager: the value of the Authorization header."""
    secrets: list[Secret] = Field(default=[], max_length=8)
    """webhook: what signs; several while a new one replaces an old one."""
    mail: Mail | None = None
    subscriptions: list[Subscription] = Field(
        default_factory=lambda: [Subscription.model_validate(_DEFAULT)], max_length=50
    )
    template: str | None = Field(None, max_length=32 * 1024)
    """What the body is made with (Jinja2, sandboxed); the product's own when null."""
    content_type: str = Field("application/json", pattern=r"^[\w.+-]+/[\w.+-]+(; ?[\w-]+=[\w.-]+)*$")
    """Of a body that a template makes."""
    concurrency: int = Field(4, ge=1, le=64)
    """How many requests may be under way at once."""
    rate: float | None = Field(None, ge=0.001, le=1000)
    """How many attempts may begin in a second; null: no limit."""
    timeout: Annotated[float, BeforeValidator(_seconds), Field(ge=0.05, le=60)] = 15.0
    """Seconds that an attempt may take in all."""
    enabled: bool = True
    disabled_because: str | None = None
    disabled_at: AwareDatetime | None = None

    @field_validator("url")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        return None if url is None else _checked_url(url)

    @field_validator("headers")
    @classmethod
    def _free_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER.fullmatch(name):
                raise ValueError(f"«{name}» is no name of a header")
            if name.lower() in _OURS or name.lower().startswith("webhook-"):
                raise ValueError(f"{name} is not to be set here" + _instead(name.lower()))
            if len(value) > 2048 or not value.isascii() or not value.isprintable():
                raise ValueError(f"the value of {name} must be printable ASCII of at most 2,048 characters")
        return headers

    @model_validator(mode="after")
    def _complete(self) -> "Endpoint":
        if self.channel == "mail":
            if self.mail is None:
                raise ValueError("a mail endpoint needs mail.to, as in mail: {to: [oncall@example.org]}")
            if self.url is not None:
                raise ValueError("a mail endpoint has no url")
        elif self.mail is not None:
            raise ValueError(f"a {self.channel} endpoint has no mail settings")
        if self.channel in ("webhook", "slack", "teams", "alertmanager") and self.url is None:
            raise ValueError(f"a {self.channel} endpoint needs a url, as in url: https://example.org/hook")
        if self.channel == "pagerduty" and self.credential is None:
            raise ValueError("a pagerduty endpoint needs its routing key as credential")
        return self

    def live_secrets(self, now: datetime) -> list[Secret]:
        """Those that sign now, the newest first."""
        return sorted(
            (secret for secret in self.secrets if secret.holds(now)),
            key=lambda secret: secret.created_at,
            reverse=True,
        )

    def wants(self, type_: str, data: Mapping[str, Any]) -> bool:
        """Whether one of its subscriptions means this event; see `Subscription.wants`."""
        return any(subscription.wants(type_, data) for subscription in self.subscriptions)

    def disabled(self, because: str, now: datetime) -> "Endpoint":
        """The same endpoint, switched off."""
        return self.model_copy(update={"enabled": False, "disabled_because": because, "disabled_at": now})

    def to_json(self) -> str:
        """The text that `Definition.definition` holds."""
        return self.model_dump_json(exclude_none=True)

    def document(self) -> dict[str, Any]:
        """The same as an object."""
        return self.model_dump(mode="json", exclude_none=True)


def _instead(name: str) -> str:
    hints = {"authorization": ": give it as credential", "content-type": ": give it as content_type"}
    return hints.get(name, ": the service sets it")


def _checked_url(url: str) -> str:
    if len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError(f"a url is printable ASCII without spaces, of at most {_LONGEST_URL} characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"this is no url: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"a url begins with https://, not with «{url[:20]}»")
    if not parts.hostname:
        raise ValueError("the url names no host, write it as in https://example.org/hook")
    if "@" in parts.netloc:
        raise ValueError("a url holds no user and password; give the Authorization header as credential")
    if parts.fragment:
        raise ValueError("a url that is called has no fragment (#...)")
    if port == 0:
        raise ValueError("port 0 can't be called")
    return url


def parse_endpoint(data: Mapping[str, Any]) -> Endpoint:
    """The endpoint that `data` describes; EndpointError says everything that is wrong, and where."""
    try:
        return Endpoint.model_validate(dict(data))
    except ValidationError as error:
        raise EndpointError([_fault(fault) for fault in error.errors(include_url=False)]) from error


def _fault(fault: Any) -> Fault:
    where = ".".join(map(str, fault["loc"])) or "endpoint"
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = "there is no such field"
    elif fault["type"] == "missing":
        message = "this field is needed"
    return Fault(where, message)
