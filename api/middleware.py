"""Around every request: whose host names are served, headers, and what is counted."""

import time
from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import UnknownHostError
from api.metrics import ApiMetrics
from api.problems import problem

LOCAL: Final = ("localhost", "127.0.0.1", "[::1]")
_OPEN: Final = ("/health/", "/metrics")
"""For orchestrators and Prometheus, which ask by address."""


class ApiMiddleware:
    """Refuses requests for host names that are not ours (DNS rebinding), adds headers, counts answers.

    `hosts` are names without port; `*` takes any.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], metrics: ApiMetrics) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in (*LOCAL, *hosts))
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
                if scope["path"].startswith("/api/"):
                    message["headers"].append((b"cache-control", b"no-store"))
                self._metrics.answered(_route(scope), scope["method"], message["status"], started)
            await send(message)

        host = _host(scope)
        if self._serves(host) or scope["path"].startswith(_OPEN):
            await self._app(scope, receive, answer)
        else:
            refused = UnknownHostError(
                f"The host {host!r} is not served: add it to CHATGAUGE_API_HOSTS.", where="Host"
            )
            await problem(refused)(scope, receive, answer)

    def _serves(self, host: str) -> bool:
        return "*" in self._hosts or host in self._hosts


def _host(scope: Scope) -> str:
    header = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    name, _, port = header.rpartition(":")
    return (name if name and port.isdigit() else header).lower()


def _route(scope: Scope) -> str:
    """The route's template, so that unknown addresses make no series of their own."""
    route = scope.get("route")
    path: str = getattr(route, "path", "") or ""
    return path or "none"
