"""What kind of failure an exception is: few values, so that errors can be counted by type."""

import re
from collections.abc import Mapping

from chatgauge.errors import ConfigurationError

OTHER = "other"
_MOST_TYPES = 64
_LONGEST_TYPE = 64

# By class name, along the exception's ancestors: no provider's library need be installed.
_KINDS: Mapping[str, str] = {
    "TimeoutError": "timeout",
    "TimeoutException": "timeout",
    "APITimeoutError": "timeout",
    "Timeout": "timeout",
    "DeadlineExceeded": "timeout",
    "CancelledError": "cancelled",
    "GeneratorExit": "cancelled",
    "KeyboardInterrupt": "cancelled",
    "SystemExit": "cancelled",
    "ClientDisconnect": "client_disconnected",
    "WebSocketDisconnect": "client_disconnected",
    "RateLimitError": "rate_limited",
    "TooManyRequests": "rate_limited",
    "ResourceExhausted": "rate_limited",
    "ThrottlingException": "rate_limited",
    "OverloadedError": "overloaded",
    "ServiceUnavailable": "overloaded",
    "AuthenticationError": "unauthorized",
    "PermissionDeniedError": "unauthorized",
    "PermissionDenied": "unauthorized",
    "Unauthenticated": "unauthorized",
    "ContentFilterFinishReasonError": "content_filtered",
    "ContextWindowExceededError": "context_too_long",
    "LengthFinishReasonError": "answer_too_long",
    "NotFoundError": "not_found",
    "BadRequestError": "invalid_request",
    "UnprocessableEntityError": "invalid_request",
    "InvalidArgument": "invalid_request",
    "RequestValidationError": "invalid_request",
    "APIConnectionError": "connection_error",
    "ConnectionError": "connection_error",
    "TransportError": "connection_error",
    "ClientConnectionError": "connection_error",
    "InternalServerError": "provider_error",
    "APIStatusError": "provider_error",
    "APIError": "provider_error",
}

_EDGE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_WORD = re.compile(r"[^a-z0-9]+")


def slug(name: str) -> str:
    """`RateLimitError` and `Rate limit error` are `rate_limit_error`; nothing left is `other`."""
    lower = _EDGE.sub("_", name[: 2 * _LONGEST_TYPE]).lower()
    return _NOT_WORD.sub("_", lower).strip("_")[:_LONGEST_TYPE] or OTHER


def of_status(status: int) -> str | None:
    """The kind of failure that an HTTP status tells of, None below 400."""
    if status < 400:
        return None
    known = {401: "unauthorized", 403: "unauthorized", 404: "not_found", 408: "timeout"}
    known |= {429: "rate_limited", 499: "client_disconnected", 503: "overloaded", 504: "timeout"}
    return known.get(status, "invalid_request" if status < 500 else "server_error")


class FailureTypes:
    """Names failures. After 64 different names, new ones are `other`: a message is not a type.

    `extra` maps class names of the service's own exceptions to their types.
    """

    def __init__(self, extra: Mapping[str, str] | None = None) -> None:
        for name, kind in (extra or {}).items():
            if not isinstance(name, str) or not isinstance(kind, str):
                raise ConfigurationError("error_types maps class names to types: {'QuotaError': 'quota'}")
        self._kinds = dict(_KINDS) | {name: slug(kind) for name, kind in (extra or {}).items()}
        self._seen = {*self._kinds.values(), OTHER}
        self._room = len(self._seen) + _MOST_TYPES
        self._slugs: dict[str, str] = {}

    def named(self, name: str) -> str:
        """The type for a name that the service gives."""
        known = self._slugs.get(name)
        if known is not None:
            return known
        kind = self._bounded(slug(name))
        if len(self._slugs) < 4 * _MOST_TYPES and len(name) <= _LONGEST_TYPE:
            self._slugs[name] = kind
        return kind

    def of(self, error: BaseException | type[BaseException]) -> str:
        """The type of an exception: of its nearest known ancestor, else its own class name's."""
        kind = error if isinstance(error, type) else type(error)
        for ancestor in kind.__mro__:
            known = self._kinds.get(ancestor.__name__)
            if known is not None:
                return known
        return self.named(kind.__name__)

    def _bounded(self, kind: str) -> str:
        if kind in self._seen:
            return kind
        if len(self._seen) >= self._room:
            return OTHER
        self._seen.add(kind)
        return kind
