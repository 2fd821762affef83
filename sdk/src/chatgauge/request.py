"""One chat request, from question to last byte."""

from collections.abc import Iterable, Mapping
from contextvars import ContextVar, Token
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Never, TypeVar, Unpack

from chatgauge import arguments
from chatgauge.identity import new_id
from chatgauge.recorder import Recorder
from chatgauge.scope import MeasuredScope, State
from chatgauge.transport import REQUESTS
from chatgauge.usage import Tokens, Usage, tokens_of

if TYPE_CHECKING:
    from chatgauge.span import About, Span

UNKNOWN = "unknown"

_SHARED = ("space_id", "user_id", "workflow", "workflow_version", "conversation_id", "region")
"""With its spans."""

T = TypeVar("T")

_current: ContextVar["Request | None"] = ContextVar("chatgauge_request", default=None)


class Request(MeasuredScope):
    """A chat request being measured. Made by `Gauge.request`; of one thread or task at a time.

    Times are taken with a monotonic clock. No method raises or waits; all do nothing once the
    request has finished (which is counted, `Stats.invalid`).
    """

    __slots__ = (
        "_answered",
        "_attributes",
        "_cache_hit",
        "_chunks",
        "_context",
        "_error",
        "_fields",
        "_finish_reason",
        "_first_token",
        "_last_token",
        "_restore",
        "_retries",
        "_started",
        "model_intervals",
        "request_id",
        "trace_id",
        "used",
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
        self.used = Usage()
        """By its model calls so far, those of its spans included."""
        self._started = 0
        self._context: int | None = None
        self._first_token: int | None = None
        self._last_token: int | None = None
        self._chunks = 0
        self._answered: tuple[int, int] | None = None
        self._finish_reason: str | None = None
        self._retries: int | None = None
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
        """What its spans have in common with it: space, user, workflow, conversation and region, as far as
        they are known."""
        return {name: self._fields[name] for name in _SHARED if name in self._fields}

    def describe(
        self,
        *,
        provider: str | None = None,
        model: str | None = None,
        user_id: str | None = None,
        space_id: str | None = None,
        workflow: str | None = None,
        workflow_version: str | None = None,
        region: str | None = None,
        operation: str | None = None,
        conversation_id: str | None = None,
        experiment: str | None = None,
        variant: str | None = None,
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
                ("region", region),
                ("operation", operation),
                ("conversation_id", conversation_id),
                ("experiment", experiment),
                ("variant", variant),
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

    def chunk(self) -> None:
        """A chunk of the streamed answer has come. Call it for each: the first is the first token, if
        `first_token` has not said so before; the last gives the time per output token, with the tokens.

        A service that doesn't see every chunk calls `first_token` instead.
        """
        if self._state is not State.OPEN:
            self._untimely("chunk")
            return
        self._last_token = now = self._recorder.ticks_ns()
        self._chunks += 1
        if self._first_token is None:
            self._first_token = now

    def first_token_at(self, ticks_ns: int) -> None:
        """As `first_token`, for who noted the time (`time.perf_counter_ns()`) and tells it later."""
        if self._state is State.OPEN and self._first_token is None:
            self._first_token = ticks_ns

    def usage(self, **tokens: Unpack[Tokens]) -> None:
        """What one model call used. Call it once for each call to a model: they add up.

        `prompt_tokens` includes `cached_tokens`, `cache_write_tokens` (which include
        `cache_write_1h_tokens`) and `prompt_audio_tokens`; `completion_tokens` includes `reasoning_tokens`
        and `completion_audio_tokens`. What is told to a model span is counted here by itself.
        """
        if self._state is not State.OPEN:
            self._untimely("usage")
            return
        try:
            self.used.add(tokens_of(tokens, self._recorder.notices))
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
                self.used.charge(nano)
        except Exception as error:
            self._recorder.fault(error)

    def finish_reason(self, reason: str | None) -> None:
        """Why the model stopped, as the provider spells it: stop, length, tool_calls, ...

        None changes nothing, so it may be called for each chunk. Of several model calls the last counts.
        """
        if self._state is not State.OPEN:
            self._untimely("finish_reason")
            return
        try:
            self._finish_reason = (
                arguments.text(reason, "finish_reason", self._recorder.notices) or self._finish_reason
            )
        except Exception as error:
            self._recorder.fault(error)

    def retried(self, times: int = 1) -> None:
        """So many attempts at the model failed, and another was made. Calls add up.

        `retried(0)` says that the first attempt went through; without any call it is unknown.
        """
        if self._state is not State.OPEN:
            self._untimely("retried")
            return
        try:
            count = arguments.whole(times, "retries", self._recorder.notices)
            if count is not None:
                self._retries = (self._retries or 0) + count
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

    def span(self, kind: str = "other", name: str = "", **about: Unpack["About"]) -> "Span":
        """A step inside this request, as `Gauge.span` makes it."""
        from chatgauge.span import NO_SPAN, Span

        if self._state is State.INERT:
            return NO_SPAN
        return Span(self._recorder, kind, name, about, request=self)

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
        self.used.put_into(record, recorder.notices)
        if self._finish_reason is not None:
            record["finish_reason"] = self._finish_reason
        if self._retries is not None:
            record["retries"] = self._retries
        if self._chunks:
            record["output_chunks"] = self._chunks
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
        if self._last_token is not None:
            times["last_token_us"] = self._last_token - began
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
