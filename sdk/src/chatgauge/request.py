"""One chat request, from question to last byte."""

from collections.abc import Iterable, Mapping
from contextvars import ContextVar, Token
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Never, TypeVar

from chatgauge import arguments
from chatgauge.identity import new_id
from chatgauge.recorder import Recorder
from chatgauge.scope import Scope, State
from chatgauge.transport import REQUESTS

if TYPE_CHECKING:
    from chatgauge.span import Span

UNKNOWN = "unknown"

_USAGE = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
_PARTS = (("cached_tokens", "prompt_tokens"), ("reasoning_tokens", "completion_tokens"))

T = TypeVar("T")

_current: ContextVar["Request | None"] = ContextVar("chatgauge_request", default=None)


class Request(Scope):
    """A chat request being measured. Made by `Gauge.request`; of one thread or task at a time.

    Times are taken with a monotonic clock. No method raises or waits; all do nothing once the
    request has finished (which is counted, `Stats.invalid`).
    """

    __slots__ = (
        "_answered",
        "_attributes",
        "_cache_hit",
        "_context",
        "_cost",
        "_error",
        "_fields",
        "_first_token",
        "_restore",
        "_started",
        "_usage",
        "model_intervals",
        "request_id",
        "trace_id",
    )

    def __init__(self, recorder: Recorder, *, request_id: str | None, trace_id: str | None) -> None:
        self._recorder = recorder
        self._state = State.NEW
        self.request_id = request_id or new_id()
        """Shared by the request's start, its finish and its spans."""
        self.trace_id = trace_id or new_id()
        """The trace that its spans belong to."""
        self.model_intervals: list[tuple[int, int]] = []
        """Start and end of each model call, in nanoseconds of the monotonic clock."""
        self._fields: dict[str, Any] = {"provider": UNKNOWN, "model": UNKNOWN}
        self._attributes: dict[str, str] = {}
        self._usage: dict[str, int] = {}
        self._started = 0
        self._context: int | None = None
        self._first_token: int | None = None
        self._answered: tuple[int, int] | None = None
        self._cost: int | None = None
        self._error: str | None = None
        self._cache_hit = False
        self._restore: Token[Request | None] | None = None

    @classmethod
    def inert(cls) -> "Request":
        """A request that measures nothing."""
        request = cls.__new__(cls)
        request._state = State.INERT
        request.request_id = request.trace_id = ""
        return request

    @property
    def identity(self) -> Mapping[str, Any]:
        """What its spans have in common with it: space, user and workflow, as far as they are known."""
        shared = ("space_id", "user_id", "workflow", "workflow_version")
        return {name: self._fields[name] for name in shared if name in self._fields}

    def describe(
        self,
        *,
        provider: str | None = None,
        model: str | None = None,
        user_id: str | None = None,
        space_id: str | None = None,
        workflow: str | None = None,
        workflow_version: str | None = None,
        attributes: Mapping[str, str] | None = None,
        **unknown: Never,
    ) -> None:
        """Say what was not known when the request began. None leaves a field as it is."""
        if self._state is not State.OPEN and self._state is not State.NEW:
            self._untimely("describe")
            return
        notices, fields = self._recorder.notices, self._fields
        try:
            if provider is not None:
                fields["provider"] = arguments.text(provider, "provider", notices) or UNKNOWN
            if model is not None:
                fields["model"] = arguments.text(model, "model", notices) or UNKNOWN
            for name, value in (
                ("user_id", user_id),
                ("space_id", space_id),
                ("workflow", workflow),
                ("workflow_version", workflow_version),
            ):
                if value is not None and (written := arguments.text(value, name, notices)) is not None:
                    fields[name] = written
            if attributes:
                self._recorder.attributes.add(self._attributes, attributes)
            if unknown:
                arguments.refuse(unknown, notices)
        except Exception as error:
            self._recorder.fault(error)

    def attribute(self, key: str, value: str) -> None:
        """Add one attribute; its name must be in `Gauge(attributes=...)`."""
        self.describe(attributes={key: value})

    def context_ready(self) -> None:
        """The context has been gathered; the model is asked next. The first call counts."""
        if self._state is not State.OPEN:
            self._untimely("context_ready")
        elif self._context is None:
            self._context = self._recorder.ticks_ns()

    def first_token(self) -> None:
        """A token has come. The first call counts, so it may be called for each."""
        if self._state is not State.OPEN:
            self._untimely("first_token")
        elif self._first_token is None:
            self._first_token = self._recorder.ticks_ns()

    def first_token_at(self, ticks_ns: int) -> None:
        """As `first_token`, for who noted the time (`time.perf_counter_ns()`) and tells it later."""
        if self._state is State.OPEN and self._first_token is None:
            self._first_token = ticks_ns

    def usage(
        self,
        *,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        cached_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        **unknown: Never,
    ) -> None:
        """What one model call used. Call it once for each call to a model: they add up.

        `prompt_tokens` includes `cached_tokens`; `completion_tokens` includes `reasoning_tokens`.
        """
        if self._state is not State.OPEN:
            self._untimely("usage")
            return
        given = (prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens)
        try:
            for name, value in zip(_USAGE, given, strict=True):
                if value is not None:
                    tokens = arguments.whole(value, name, self._recorder.notices)
                    if tokens is not None:
                        self._usage[name] = self._usage.get(name, 0) + tokens
            if unknown:
                arguments.refuse(unknown, self._recorder.notices)
        except Exception as error:
            self._recorder.fault(error)

    def cost(self, usd: float | Decimal) -> None:
        """What the provider charged for one model call, where it says so. Calls add up.

        Without it, the cost is computed from the tokens and a price list.
        """
        if self._state is not State.OPEN:
            self._untimely("cost")
            return
        try:
            nano = arguments.nano_usd(usd, self._recorder.notices)
            if nano is not None:
                self._cost = (self._cost or 0) + nano
        except Exception as error:
            self._recorder.fault(error)

    def cache_hit(self) -> None:
        """The answer came from the service's own response cache."""
        if self._state is not State.OPEN:
            self._untimely("cache_hit")
            return
        self._cache_hit = True

    def fail(self, error_type: str | BaseException) -> None:
        """The request failed: a type of few values (`rate_limited`), or the exception itself.

        The last call counts, and it counts more than an exception that passes through.
        """
        if self._state is not State.OPEN:
            self._untimely("fail")
            return
        try:
            self._error = self._error_type(error_type)
        except Exception as error:
            self._recorder.fault(error)

    @property
    def failed(self) -> bool:
        """Whether `fail` has been called."""
        return self._state is not State.INERT and self._error is not None

    def answered(self) -> None:
        """The last byte has left: the latency ends here. Tokens and cost can still be told.

        For what goes on after the answer; without it, the latency ends at the finish.
        """
        if self._state is not State.OPEN:
            self._untimely("answered")
        elif self._answered is None:
            self._answered = (self._recorder.ticks_ns(), self._recorder.wall_ns())

    def span(self, kind: str = "other", name: str = "") -> "Span":
        """A step inside this request, as `Gauge.span` makes it."""
        from chatgauge.span import NO_SPAN, Span

        if self._state is State.INERT:
            return NO_SPAN
        return Span(self._recorder, kind, name, request=self)

    def _error_type(self, error: object) -> str:
        failures = self._recorder.failures
        if isinstance(error, BaseException) or (isinstance(error, type) and issubclass(error, BaseException)):
            return failures.of(error)
        named = arguments.text(error, "error_type", self._recorder.notices)
        return failures.named(named or "")

    def _begin(self) -> None:
        recorder = self._recorder
        self._started = recorder.ticks_ns()
        recorder.note(REQUESTS, self._record("started", recorder.wall_ns()))

    def _end(self, error: BaseException | str | None) -> None:
        recorder = self._recorder
        ended, wall_ns = self._answered or (recorder.ticks_ns(), recorder.wall_ns())
        record = self._record("finished", wall_ns)
        if self._error is not None:
            record["error_type"] = self._error
        elif error is not None:
            record["error_type"] = self._error_type(error)
        record |= self._times(ended)
        record |= self._usage
        for part, whole in _PARTS:
            if whole in record and record.get(part, 0) > record[whole]:
                del record[part]
                recorder.notices.count(
                    arguments.INVALID, f"{part} is more than {whole}, which must include it, and was left out"
                )
        if self._cost is not None:
            record["cost_nano_usd"] = self._cost
        if self._cache_hit:
            record["cache_hit"] = True
        if self._first_token is not None:
            record["streamed"] = True
        recorder.note(REQUESTS, record)

    def _record(self, phase: str, wall_ns: int) -> dict[str, Any]:
        record = {
            "request_id": self.request_id,
            "trace_id": self.trace_id,
            "phase": phase,
            "occurred_at": wall_ns // 1000,
            **self._fields,
        }
        if self._attributes:
            record["attributes"] = arguments.pairs(self._attributes)
        return record

    def _times(self, ended: int) -> dict[str, int]:
        began = self._started
        times = {"total_us": ended - began}
        if self._context is not None:
            times["context_us"] = self._context - began
        if self.model_intervals:
            times["model_us"] = covered(self.model_intervals)
        elif self._context is not None:
            times["model_us"] = ended - self._context
        if self._first_token is not None:
            times["first_token_us"] = self._first_token - began
        return {name: max(0, ns) // 1000 for name, ns in times.items()}

    def _become_current(self) -> None:
        self._restore = _current.set(self)

    def _leave(self) -> None:
        restore(_current, self._restore)


NO_REQUEST = Request.inert()


def current_request() -> Request:
    """The request being measured in this context; outside of one, a request that measures nothing."""
    return _current.get() or NO_REQUEST


def covered(intervals: Iterable[tuple[int, int]]) -> int:
    """The length of the union: calls at the same time are not counted twice."""
    total, reached = 0, 0
    for start, end in sorted(intervals):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def restore(variable: ContextVar[T], token: Token[T] | None) -> None:
    """Undo a `set`, unless this is another context (a generator closed elsewhere), which needs no undoing."""
    if token is not None:
        try:
            variable.reset(token)
        except (ValueError, RuntimeError):
            return
