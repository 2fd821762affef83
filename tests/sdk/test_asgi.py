"""The ASGI middleware, in a FastAPI application on a real server."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import chatgauge
import httpx
import pytest
import uvicorn
from chatgauge.asgi import Description, GaugeMiddleware, Scope
from chatgauge.testing import Captured, capture
from chatgauge.transport import REQUESTS
from fastapi import BackgroundTasks, FastAPI, HTTPException, Response
from fastapi.responses import StreamingResponse

from infra.ports import free_port

SDK = Path(__file__).parents[2] / "sdk" / "src"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def make_app(gauge: chatgauge.Gauge) -> FastAPI:
    app = FastAPI()

    def describe(scope: Scope) -> Description:
        headers = dict(scope["headers"])
        if b"x-broken" in headers:
            raise KeyError("x-user")
        return {"user_id": headers.get(b"x-user", b"nobody").decode(), "space_id": "s1"}

    app.add_middleware(
        GaugeMiddleware, gauge=gauge, paths=["/api/chat", "/spaces/*/chat*"], describe=describe
    )

    @app.post("/api/chat")
    def answer(background: BackgroundTasks, fail: str = "") -> dict[str, str]:
        request = chatgauge.current_request()
        request.describe(provider="openai", model="gpt-4o")
        with gauge.span("tool", "search"):
            pass
        request.usage(prompt_tokens=5, completion_tokens=7)
        if fail == "raise":
            raise TimeoutError
        if fail:
            raise HTTPException(int(fail))
        background.add_task(time.sleep, 0.1)
        return {"answer": "yes"}

    @app.post("/spaces/{space}/chat")
    async def stream(space: str, parts: int = 3, wait: float = 0.03) -> StreamingResponse:
        async def tokens() -> AsyncIterator[str]:
            for number in range(parts):
                await asyncio.sleep(wait)
                yield f"token {number} "
            chatgauge.current_request().usage(completion_tokens=parts)

        chatgauge.current_request().describe(space_id=space)
        return StreamingResponse(tokens())

    @app.get("/health")
    def health() -> Response:
        return Response("well")

    return app


class Server:
    """A uvicorn server in a thread."""

    def __init__(self, app: FastAPI) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))

    def __enter__(self) -> "Server":
        self._thread.start()
        until(lambda: self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


def until(condition: Callable[[], object], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Captured]]:
    gauge, captured = capture()
    with gauge, Server(make_app(gauge)) as server:
        yield server.url, captured


@pytest.fixture
def call(served: tuple[str, Captured]) -> Callable[..., dict[str, Any]]:
    """Send a POST; returns the request as it was measured."""
    url, captured = served
    captured.clear()

    def post(path: str, **headers: str) -> dict[str, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        httpx.post(url + path, headers=named, timeout=20)
        until(captured.finished_requests)
        (record,) = captured.finished_requests()
        return record

    return post


def test_the_handler_fills_the_request_in(
    call: Callable[..., dict[str, Any]], served: tuple[str, Captured]
) -> None:
    record = call("/api/chat", x_user="u7")
    assert (record["provider"], record["model"]) == ("openai", "gpt-4o")
    assert (record["user_id"], record["space_id"]) == ("u7", "s1")
    assert (record["prompt_tokens"], record["completion_tokens"]) == (5, 7)
    assert record["error_type"] is None
    assert record["streamed"] is False
    (span,) = served[1].finished_spans()
    assert span["request_id"] == record["request_id"]


@pytest.mark.alone
def test_the_latency_ends_with_the_response_and_not_with_background_tasks(
    call: Callable[..., dict[str, Any]],
) -> None:
    assert call("/api/chat")["total_us"] < 100_000


def test_a_streamed_answer_has_a_first_token_and_ends_with_the_last(
    call: Callable[..., dict[str, Any]],
) -> None:
    record = call("/spaces/physics/chat?parts=4")
    assert record["streamed"] is True
    assert 30_000 <= record["first_token_us"] <= record["total_us"] - 60_000
    assert (record["completion_tokens"], record["space_id"]) == (4, "physics")
    assert record["error_type"] is None


@pytest.mark.parametrize(
    ("fail", "kind"),
    [("raise", "timeout"), ("429", "rate_limited"), ("404", "not_found"), ("502", "server_error")],
)
def test_exceptions_and_statuses_are_failures(
    call: Callable[..., dict[str, Any]], fail: str, kind: str
) -> None:
    assert call(f"/api/chat?fail={fail}")["error_type"] == kind


def test_a_client_that_leaves_early_is_a_failure_of_its_own(served: tuple[str, Captured]) -> None:
    url, captured = served
    captured.clear()
    with httpx.stream("POST", f"{url}/spaces/x/chat?parts=1000&wait=0.01") as response:
        next(response.iter_text())
    until(captured.finished_requests)
    (record,) = captured.finished_requests()
    assert record["error_type"] == "client_disconnected"
    assert record["completion_tokens"] is None


def test_the_callers_trace_is_joined(call: Callable[..., dict[str, Any]]) -> None:
    assert call("/api/chat", traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")["trace_id"] == TRACE


@pytest.mark.parametrize("header", ["nonsense", f"00-{'0' * 32}-00f067aa0ba902b7-01"])
def test_a_broken_trace_is_not(call: Callable[..., dict[str, Any]], header: str) -> None:
    assert len(call("/api/chat", traceparent=header)["trace_id"].strip("0")) > 16


def test_a_broken_describe_does_not_break_the_chat(call: Callable[..., dict[str, Any]]) -> None:
    record = call("/api/chat", x_broken="1")
    assert (record["user_id"], record["model"]) == (None, "gpt-4o")


def test_other_paths_and_preflights_are_not_measured(served: tuple[str, Captured]) -> None:
    url, captured = served
    captured.clear()
    assert httpx.get(f"{url}/health").text == "well"
    httpx.options(f"{url}/api/chat")
    httpx.post(f"{url}/api/chat/else")
    assert captured.requests() == []


def test_a_server_stopped_by_a_signal_has_sent_its_last_events(
    chat_kafka: str,
    service: str,
    published: Callable[..., list[tuple[bytes, dict[str, Any]]]],
    tmp_path: Path,
) -> None:
    """uvicorn ends by the signal itself, so that exit handlers don't run."""
    (tmp_path / "served.py").write_text(
        textwrap.dedent("""
            import chatgauge
            from chatgauge.asgi import GaugeMiddleware
            from fastapi import FastAPI

            gauge = chatgauge.Gauge()
            app = FastAPI()
            app.add_middleware(GaugeMiddleware, gauge=gauge, paths=["/chat"])

            @app.post("/chat")
            async def chat() -> str:
                return "answer"
        """)
    )
    port = free_port()
    environment = {"CHATGAUGE_SERVICE": service, "CHATGAUGE_KAFKA_BOOTSTRAP": chat_kafka}
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "served:app", "--port", str(port), "--log-level", "warning"],
        env=os.environ | environment | {"PYTHONPATH": f"{SDK}:{tmp_path}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: _answers(port))
        for _ in range(20):
            httpx.post(f"http://127.0.0.1:{port}/chat")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert errors == ""
    assert len(published(chat_kafka, REQUESTS, service)) == 40


async def test_an_application_that_shuts_down_with_events_unsent_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gauge, captured = capture()
    captured.transport.away = "no network"
    gauge.sample("n", 1)
    told = []

    async def app(_: Any, __: Any, send: Callable[[dict[str, str]], Any]) -> None:
        await send({"type": "lifespan.shutdown.complete"})

    async def send(message: Any) -> None:
        told.append(message["type"])

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.shutdown"}

    middleware = GaugeMiddleware(app, gauge, "/chat", flush_timeout=0.1)  # type: ignore[arg-type]
    await middleware({"type": "lifespan"}, receive, send)
    gauge.close(0)
    assert told == ["lifespan.shutdown.complete"]
    assert "shuts down with 1 events unsent" in caplog.text


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
