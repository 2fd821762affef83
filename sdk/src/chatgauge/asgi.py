"""ASGI middleware: a request for each call of the chat's paths; the handler fills it in.

    app.add_middleware(GaugeMiddleware, gauge=gauge, paths=["/api/chat*"])

    @app.post("/api/chat")
    async def chat(question: Question) -> StreamingResponse:
        request = chatgauge.current_request()
        request.describe(provider="openai", model="gpt-4o", user_id=question.user_id)
        ...

For Starlette, FastAPI, Litestar, Quart, or anything else that speaks ASGI 3.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from fnmatch import fnmatchcase
from typing import Any, TypedDict

from chatgauge.arguments import INVALID
from chatgauge.failures import of_status
from chatgauge.gauge import Gauge
from chatgauge.notices import log
from chatgauge.request import Request

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_NOT_CHATS = frozenset({"OPTIONS", "HEAD"})


class Description(TypedDict, total=False):
    """What `describe` may say of a call before the handler runs."""

    provider: str
    model: str
    user_id: str
    space_id: str
    workflow: str
    workflow_version: str
    region: str
    operation: str
    conversation_id: str
    experiment: str
    variant: str
    request_id: str
    trace_id: str
    attributes: Mapping[str, str]


class GaugeMiddleware:
    """Opens a request for every HTTP call whose path matches; `chatgauge.current_request()` is it.

    paths: patterns such as `/api/chat` or `/spaces/*/chat`; `*` stands for anything.
    describe: from the ASGI scope (path, headers, user), what is known before the handler runs.

    The latency ends with the last byte of the response; tokens and costs can be told until the
    application returns. A response of several parts counts as streamed, its first part as the
    first token, unless the handler calls `first_token()` or `chunk()` itself. A status of 400 and more, an
    exception, and a client that went away before the end are failures, unless the handler has
    called `fail()`. The trace of a `traceparent` header is joined. At the application's shutdown
    the gauge is flushed, because servers that are stopped by a signal may run no exit handlers.
    """

    def __init__(
        self,
        app: App,
        gauge: Gauge,
        paths: Iterable[str],
        *,
        describe: Callable[[Scope], Description] | None = None,
        flush_timeout: float = 3.0,
    ) -> None:
        self._app = app
        self._gauge = gauge
        self._paths = (paths,) if isinstance(paths, str) else tuple(paths)
        self._describe = describe
        self._flush_timeout = flush_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._flushing(send))
        elif scope["type"] == "http" and self._is_chat(scope):
            with self._gauge.request(**self._described(scope)) as request:
                exchange = _Exchange(request, receive, send)
                await self._app(scope, exchange.receive, exchange.send)
        else:
            await self._app(scope, receive, send)

    def _is_chat(self, scope: Scope) -> bool:
        if self._gauge.disabled or scope["method"] in _NOT_CHATS:
            return False
        return any(fnmatchcase(scope["path"], pattern) for pattern in self._paths)

    def _described(self, scope: Scope) -> Description:
        described = Description()
        for name, value in scope["headers"]:
            if name == b"traceparent":
                found = _TRACEPARENT.fullmatch(value.decode("latin-1"))
                if found is not None and found[1].strip("0"):
                    described["trace_id"] = found[1]
        if self._describe is not None:
            try:
                described.update(self._describe(scope))
            except Exception as error:  # the service's function, but the chat must go on
                self._gauge.notices.count(INVALID, f"describe() raised {type(error).__name__}")
        return described

    def _flushing(self, send: Send) -> Send:
        async def flush_then_send(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                sent = await asyncio.to_thread(self._gauge.flush, self._flush_timeout)
                # Whether exit handlers will run, and say it, is up to the server.
                if not sent and (queued := self._gauge.stats().queued):
                    log.warning("the application shuts down with %d events unsent", queued)
            await send(message)

        return flush_then_send


class _Exchange:
    """Watches one HTTP call go by."""

    def __init__(self, request: Request, receive: Receive, send: Send) -> None:
        self._request = request
        self._receive = receive
        self._send = send
        self._first_part_ns: int | None = None
        self._complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._complete and not self._request.failed:
            self._request.fail("client_disconnected")
        return message

    async def send(self, message: Message) -> None:
        request = self._request
        if message["type"] == "http.response.start":
            failure = of_status(message["status"])
            if failure is not None and not request.failed:
                request.fail(failure)
        elif message["type"] == "http.response.body" and message.get("body"):
            if self._first_part_ns is None:
                self._first_part_ns = time.perf_counter_ns()
            else:
                request.first_token_at(self._first_part_ns)
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._complete = True
            request.answered()
