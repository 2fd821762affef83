"""What a request can fail with.

ApiError
├── BadParameterError    400  a parameter is wrong; says which one and what would do
├── NotFoundError        404  there is no such address
├── UnknownHostError     421  the Host header is none of ours
└── UnavailableError     503  a part that the answer needs is away; says when to ask again
"""

from collections.abc import Mapping


class ApiError(Exception):
    """A failure that is shown to the caller as `application/problem+json` (RFC 9457)."""

    status = 500
    kind = "internal"
    title = "Something went wrong inside"

    def __init__(self, detail: str, *, where: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.where = where

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that go with the answer."""
        return {}


class BadParameterError(ApiError):
    """A parameter is wrong. `where` names it; the detail says what would be right."""

    status = 400
    kind = "bad-parameter"
    title = "A parameter is not usable"


class NotFoundError(ApiError):
    """There is nothing at that address."""

    status = 404
    kind = "not-found"
    title = "There is nothing at this address"


class UnknownHostError(ApiError):
    """The Host header names no host that this API serves."""

    status = 421
    kind = "unknown-host"
    title = "This host name is not served here"


class UnavailableError(ApiError):
    """A part that the answer needs is away. Ask again after `retry_after` seconds."""

    status = 503
    kind = "unavailable"
    title = "A part that is needed for this answer is away"

    def __init__(self, detail: str, *, where: str | None = None, retry_after: int = 5) -> None:
        super().__init__(detail, where=where)
        self.retry_after = retry_after

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": str(self.retry_after)}
