"""Who may ask."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from infra.clickhouse.errors import AUTHENTICATION_FAILED, ClickHouseError


@dataclass(frozen=True)
class Credentials:
    user: str
    password: str


def given(headers: Mapping[str, str], query: Mapping[str, str]) -> Credentials:
    """What the request says it is: by headers, basic auth or URL parameters; else it is «default»."""
    if "x-clickhouse-user" in headers or "x-clickhouse-key" in headers:
        return Credentials(headers.get("x-clickhouse-user", "default"), headers.get("x-clickhouse-key", ""))
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as broken:
            raise ClickHouseError.of(
                AUTHENTICATION_FAILED, "The Authorization header is not valid"
            ) from broken
        return Credentials(user, password)
    return Credentials(query.get("user", "default"), query.get("password", ""))


def require(allowed: Credentials, who: Credentials) -> None:
    """`ClickHouseError` 516 unless they are the same; a wrong user takes as long as a wrong password."""
    same_user = hmac.compare_digest(allowed.user.encode(), who.user.encode())
    same_password = hmac.compare_digest(allowed.password.encode(), who.password.encode())
    if not (same_user and same_password):
        raise ClickHouseError.of(
            AUTHENTICATION_FAILED,
            f"{who.user}: Authentication failed: password is incorrect, or there is no user with such name",
        )


def require_own_origin(headers: Mapping[str, str]) -> None:
    """A web page elsewhere must not send statements through the browser of somebody on this machine."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        raise ClickHouseError.of(AUTHENTICATION_FAILED, f"Requests of pages from {origin} are refused")
