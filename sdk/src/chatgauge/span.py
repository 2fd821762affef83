"""A step inside a request: a workflow, step, agent, plugin, tool or model call."""

from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar, Token
from decimal import Decimal
from typing import Any, Never, ParamSpec, TypedDict, TypeVar, Unpack, cast

from chatgauge import arguments
from chatgauge.decorator import measured
from chatgauge.identity import new_id, new_span_id
from chatgauge.recorder import Recorder
from chatgauge.request import Request, current_request, restore
from chatgauge.scope import MeasuredScope, State
from chatgauge.transport import SPANS
from chatgauge.usage import Tokens, Usage, tokens_of

KINDS = frozenset({"other", "workflow", "step", "agent", "plugin", "tool", "model"})
MOST_REFERENCES = 64

P = ParamSpec("P")
R = TypeVar("R")

_current: ContextVar["Span | None"] = ContextVar("chatgauge_span", default=None)


class About(TypedDict, total=False):
    """What may be said of a step when it is made."""

    provider: str | None
    """Of a model call: who serves the model."""
    model: str | None
    """Of a model call: the model's name, as the provider spells it."""
    operation: str | None
    """Of a model call: chat, embeddings, ..."""
    depends_on: Collection["Span | str"]
    """See `Span.depends_on`."""
    links: Collection["Span | str"]
    """See `Span.link`."""


class Span(MeasuredScope):
    """A step being measured: a context manager, or a decorator that measures each call.

    Spans opened inside it are its children, across awaits and in tasks started there.
    """

    __slots__ = (
        "_about",
        "_attributes",
        "_error",
        "_fields",
        "_kind",
        "_name",
        "_parent_id",
        "_request",
        "_restore",
        "_started",
        "_used",
        "span_id",
        "trace_id",
    )

    def __init__(
        self,
        recorder: Recorder,
        kind: str,
        name: str,
        about: About | None = None,
        *,
        request: Request | None = None,
    ) -> None:
        self._recorder = recorder
        self._state = State.NEW
        self._kind = kind
        self._name = name
        self._about = about
        self._request = request
        self._parent_id: str | None = None
        self.span_id = new_span_id()
        self.trace_id = ""
        self._fields: dict[str, Any] = {}
        self._attributes: dict[str, str] = {}
        self._used: Usage | None = None
        self._error: str | None = None
        self._started = 0
        self._restore: Token[Span | None] | None = None

    @classmethod
    def inert(cls) -> "Span":
        """A span that measures nothing."""
        span = cls.__new__(cls)
        span._state = State.INERT
        span.span_id = span.trace_id = ""
        return span

    def describe(
        self,
        *,
        provider: str | None = None,
        model: str | None = None,
        operation: str | None = None,
        **unknown: Never,
    ) -> None:
        """Say of a model call what was not known when it began. None leaves a field as it is."""
        if self._state is not State.OPEN:
            self._untimely("describe")
            return
        try:
            self._take({"provider": provider, "model": model, "operation": operation, **unknown})
        except Exception as error:
            self._recorder.fault(error)

    def depends_on(self, *spans: "Span | str") -> None:
        """This step needs the results of these: spans of the same trace, or their span ids."""
        self._refer("depends_on", spans)

    def link(self, *spans: "Span | str") -> None:
        """Spans of other traces that have to do with this one, or `trace_id/span_id`."""
        self._refer("links", spans)

    def usage(self, **tokens: Unpack[Tokens]) -> None:
        """What the model call used, as in `Request.usage`; only a model span takes it.

        It counts for the request too: tell it either here or there.
        """
        if not self._measures("usage"):
            return
        try:
            used = tokens_of(tokens, self._recorder.notices)
            for one in self._users():
                one.add(used)
        except Exception as error:
            self._recorder.fault(error)

    def cost(self, usd: float | Decimal) -> None:
        """What the provider charged for the model call, where it says so; as `usage`, for the request too."""
        if not self._measures("cost"):
            return
        try:
            nano = arguments.nano_usd(usd, self._recorder.notices)
            if nano is not None:
                for one in self._users():
                    one.charge(nano)
        except Exception as error:
            self._recorder.fault(error)

    def attribute(self, key: str, value: str) -> None:
        """Add one attribute; its name must be in `Gauge(attributes=...)`."""
        if self._state in (State.FINISHED, State.INERT):
            self._untimely("attribute")
            return
        try:
            self._recorder.attributes.add(self._attributes, {key: value})
        except Exception as error:
            self._recorder.fault(error)

    def fail(self, error_type: str | BaseException) -> None:
        """The step failed, though no exception passes through."""
        if self._state is not State.OPEN:
            self._untimely("fail")
            return
        try:
            self._error = self._error_type(error_type)
        except Exception as error:
            self._recorder.fault(error)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Measure every call of a function, coroutine function or generator function.

        A generator is measured from its first item to its end. It does not become the parent of
        spans opened in its body, because between two items the caller's code runs.
        """
        if self._state is State.INERT:
            return function
        name = self._name or getattr(function, "__name__", "")

        def again() -> Span:
            return Span(self._recorder, self._kind, name, self._about, request=self._request)

        return cast("Callable[P, R]", measured(function, again))

    def _error_type(self, error: object) -> str:
        if isinstance(error, BaseException):
            return self._recorder.failures.of(error)
        named = arguments.text(error, "error_type", self._recorder.notices)
        return self._recorder.failures.named(named or "")

    def _measures(self, call: str) -> bool:
        """Whether this is a model call under way; otherwise what was tried is counted."""
        if self._state is not State.OPEN:
            self._untimely(call)
        elif self._kind != "model":
            self._recorder.notices.count(arguments.INVALID, f"only a span of kind model takes {call}()")
        else:
            return True
        return False

    def _users(self) -> tuple[Usage, ...]:
        """Where the model call's tokens and cost count: here, and in the request."""
        if self._used is None:
            self._used = Usage()
        if self._request is not None and self._request.recording:
            return self._used, self._request.used
        return (self._used,)

    def _take(self, about: Mapping[str, Any]) -> None:
        notices = self._recorder.notices
        for name, value in about.items():
            if name in ("depends_on", "links"):
                self._refer(name, (value,) if isinstance(value, (str, Span)) else value or ())
            elif name not in ("provider", "model", "operation"):
                arguments.refuse([name], notices)
            elif (written := arguments.text(value, name, notices)) is not None:
                self._fields[name] = written

    def _refer(self, name: str, spans: Collection["Span | str"]) -> None:
        if self._state is not State.OPEN:
            self._untimely(name.removesuffix("s") if name == "links" else name)
            return
        try:
            for other in spans:
                found = self._reference(name, other)
                kept = self._fields.setdefault(name, []) if found else []
                if found and found not in kept and len(kept) < MOST_REFERENCES:
                    kept.append(found)
                elif found and found not in kept:
                    self._recorder.notices.count(
                        arguments.INVALID, f"a span takes at most {MOST_REFERENCES} {name}"
                    )
        except Exception as error:
            self._recorder.fault(error)

    def _reference(self, name: str, other: "Span | str") -> str | None:
        """How another span is named in this one's record."""
        notices = self._recorder.notices
        if not isinstance(other, Span):
            return arguments.text(other, name, notices)
        if other._state is State.INERT:
            return None
        if not other.trace_id:
            notices.count(arguments.INVALID, f"{name} takes spans that have started")
        elif name == "links":
            return f"{other.trace_id}/{other.span_id}"
        elif other.trace_id == self.trace_id:
            return other.span_id
        else:
            notices.count(arguments.INVALID, "depends_on takes spans of the same trace; link() takes others")
        return None

    def _begin(self) -> None:
        recorder = self._recorder
        if not isinstance(self._kind, str) or self._kind not in KINDS:
            recorder.notices.count(
                arguments.INVALID, f"a span's kind must be one of {', '.join(sorted(KINDS))}"
            )
            self._kind = "other"
        self._name = arguments.text(self._name, "name", recorder.notices) or self._kind
        if self._request is None:
            current = current_request()
            self._request = current if current.request_id else None
        parent = _current.get()
        if self._request is not None:
            self.trace_id = self._request.trace_id
            self._parent_id = parent.span_id if parent and parent.trace_id == self.trace_id else None
        elif parent is not None:
            self.trace_id, self._parent_id = parent.trace_id, parent.span_id
        else:
            self.trace_id = new_id()
        if self._about:
            self._take(self._about)
        self._started = recorder.ticks_ns()
        recorder.note(SPANS, self._record("started", {}))

    def _end(self, error: BaseException | str | None) -> None:
        recorder = self._recorder
        ended = recorder.ticks_ns()
        if self._kind == "model" and self._request is not None:
            self._request.model_intervals.append((self._started, ended))
        more: dict[str, Any] = {"duration_us": max(0, ended - self._started) // 1000}
        if self._error is not None:
            more["error_type"] = self._error
        elif error is not None:
            more["error_type"] = self._error_type(error)
        if self._used is not None:
            self._used.put_into(more, recorder.notices)
        recorder.note(SPANS, self._record("finished", more))

    def _record(self, phase: str, more: Mapping[str, Any]) -> dict[str, Any]:
        record: dict[str, Any] = {
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "phase": phase,
            "kind": self._kind,
            "name": self._name,
            "occurred_at": self._recorder.wall_ns() // 1000,
            **more,
        }
        if self._parent_id is not None:
            record["parent_id"] = self._parent_id
        if self._request is not None:
            record["request_id"] = self._request.request_id
            record |= self._request.identity
        for name, value in self._fields.items():
            record[name] = list(value) if type(value) is list else value
        if self._attributes:
            record["attributes"] = arguments.pairs(self._attributes)
        return record

    def _become_current(self) -> None:
        self._restore = _current.set(self)

    def _leave(self) -> None:
        restore(_current, self._restore)


NO_SPAN = Span.inert()


def current_trace_id() -> str | None:
    """The trace of the span being measured in this context."""
    span = _current.get()
    return span.trace_id if span is not None else None
