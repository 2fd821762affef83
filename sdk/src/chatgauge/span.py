"""A step inside a request: a workflow, step, agent, plugin, tool or model call."""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextvars import ContextVar, Token
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from chatgauge import arguments
from chatgauge.identity import new_id, new_span_id
from chatgauge.recorder import Recorder
from chatgauge.request import Request, current_request, restore
from chatgauge.scope import Scope, State
from chatgauge.transport import SPANS

KINDS = frozenset({"other", "workflow", "step", "agent", "plugin", "tool", "model"})

P = ParamSpec("P")
R = TypeVar("R")

_current: ContextVar["Span | None"] = ContextVar("chatgauge_span", default=None)


class Span(Scope):
    """A step being measured: a context manager, or a decorator that measures each call.

    Spans opened inside it are its children, across awaits and in tasks started there.
    """

    __slots__ = (
        "_attributes",
        "_error",
        "_kind",
        "_name",
        "_parent_id",
        "_request",
        "_restore",
        "_started",
        "span_id",
        "trace_id",
    )

    def __init__(self, recorder: Recorder, kind: str, name: str, *, request: Request | None = None) -> None:
        self._recorder = recorder
        self._state = State.NEW
        self._kind = kind
        self._name = name
        self._request = request
        self._parent_id: str | None = None
        self.span_id = new_span_id()
        self.trace_id = ""
        self._attributes: dict[str, str] = {}
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
            return Span(self._recorder, self._kind, name, request=self._request)

        return cast("Callable[P, R]", _measured(function, again))

    def _error_type(self, error: object) -> str:
        if isinstance(error, BaseException):
            return self._recorder.failures.of(error)
        named = arguments.text(error, "error_type", self._recorder.notices)
        return self._recorder.failures.named(named or "")

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


def _measured(function: Callable[..., Any], again: Callable[[], Span]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with again():
                return await function(*args, **kwargs)

        return coroutine
    if inspect.isasyncgenfunction(function):

        @wraps(function)
        async def async_items(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            span = again().start()
            try:
                async for item in function(*args, **kwargs):
                    yield item
            except BaseException as error:
                span.finish(error)
                raise
            span.finish()

        return async_items
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def items(*args: Any, **kwargs: Any) -> Iterator[Any]:
            span = again().start()
            try:
                yield from function(*args, **kwargs)
            except BaseException as error:
                span.finish(error)
                raise
            span.finish()

        return items

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with again():
            return function(*args, **kwargs)

    return call
