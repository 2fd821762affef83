"""What a request can fail with.

ApiError
├── BadParameterError    400  a parameter is wrong; says which one and what would do
│   └── InvalidError     400  something in the body is; lists all that is
├── UnauthorizedError    401  the admin key is missing
├── ForbiddenError       403  the key is not the admin key
├── NotFoundError        404  there is no such address, or nothing of that id
├── ConflictError        409  what is there forbids it; says what to do
├── ChangedError         412  it was changed since it was read
├── TooLargeError        413  the body is too large
├── MediaTypeError       415  the body is not JSON
├── UnknownHostError     421  the Host header is none of ours
├── ConditionError       428  which revision is to be replaced was not said
├── ThrottledError       429  too many wrong keys; says when to try again
└── UnavailableError     503  a part that the answer needs is away; says when to ask again
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


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


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a body: where (`rule.window`), and what would be right."""

    where: str
    detail: str


class InvalidError(BadParameterError):
    """The body is wrong, in one place or several."""

    kind = "invalid"
    title = "What was sent is not usable"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(faults[0].detail, where=faults[0].where)
        self.faults = tuple(faults)


class UnauthorizedError(ApiError):
    """The admin key is needed and was not given."""

    status = 401
    kind = "unauthorized"
    title = "The admin key is needed"

    @property
    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": 'Bearer realm="chatgauge"'}


class ForbiddenError(ApiError):
    """A key was given that is not the admin key."""

    status = 403
    kind = "forbidden"
    title = "This key opens nothing"


class NotFoundError(ApiError):
    """There is nothing at that address, or of that id."""

    status = 404
    kind = "not-found"
    title = "There is nothing at this address"


class ConflictError(ApiError):
    """What is there forbids it. The detail says what to do."""

    status = 409
    kind = "conflict"
    title = "This can't be done as things are"


class ChangedError(ApiError):
    """It was changed since it was read. The detail says which revision it has now."""

    status = 412
    kind = "changed"
    title = "It was changed since"


class TooLargeError(ApiError):
    """The body is too large."""

    status = 413
    kind = "too-large"
    title = "This is too large"


class MediaTypeError(ApiError):
    """The body is not what its address takes."""

    status = 415
    kind = "media-type"
    title = "The body must be JSON"


class ConditionError(ApiError):
    """Replacing takes the revision that is to be replaced, so that nobody's change gets lost."""

    status = 428
    kind = "condition-required"
    title = "Say which revision is to be replaced"


class UnknownHostError(ApiError):
    """The Host header names no host that this API serves."""

    status = 421
    kind = "unknown-host"
    title = "This host name is not served here"


class _LaterError(ApiError):
    """May succeed later, after `retry_after` seconds."""

    def __init__(self, detail: str, *, where: str | None = None, retry_after: int = 5) -> None:
        super().__init__(detail, where=where)
        self.retry_after = retry_after

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": str(self.retry_after)}


class ThrottledError(_LaterError):
    """Too many wrong keys came from there. Try again after `retry_after` seconds."""

    status = 429
    kind = "throttled"
    title = "Too many tries"


class UnavailableError(_LaterError):
    """A part that the answer needs is away. Ask again after `retry_after` seconds."""

    status = 503
    kind = "unavailable"
    title = "A part that is needed for this answer is away"


def sentence(message: str) -> str:
    """The message with a capital letter and a full stop, as details of failures are written."""
    text = message[:1].upper() + message[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
