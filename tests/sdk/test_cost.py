"""What a call costs the service: under 20 microseconds, typically."""

import time
from collections.abc import Callable
from statistics import median

import chatgauge
import pytest
from chatgauge.testing import CaptureTransport

pytestmark = pytest.mark.alone

MOST_US = 20.0
FIELDS = {"provider": "openai", "model": "gpt-4o", "user_id": "user-1234", "space_id": "s1"}
ALL_FIELDS = FIELDS | {
    "region": "eu",
    "operation": "chat",
    "conversation_id": "c-1",
    "experiment": "greeting",
    "variant": "short",
}
TOKENS = {
    "prompt_tokens": 812,
    "cached_tokens": 512,
    "cache_write_tokens": 128,
    "cache_write_1h_tokens": 0,
    "prompt_audio_tokens": 0,
    "completion_tokens": 96,
    "reasoning_tokens": 32,
    "completion_audio_tokens": 0,
}


def typical_us(call: Callable[[int], object], calls: int = 400, repeats: int = 7) -> float:
    """The best median of several repeats: what the call takes, not what else the machine did."""
    medians = []
    for _ in range(repeats):
        taken = []
        for i in range(calls):
            began = time.perf_counter_ns()
            call(i)
            taken.append(time.perf_counter_ns() - began)
        medians.append(median(taken) / 1000)
    return min(medians)


def test_every_call_takes_less_than_20_microseconds() -> None:
    transport = CaptureTransport()
    with chatgauge.Gauge("s", transport=transport, attributes={"tier"}) as gauge:
        request = gauge.request(**FIELDS, attributes={"tier": "gold"}).start()
        scopes = [gauge.request(**ALL_FIELDS, workflow="w", workflow_version="3") for _ in range(2800)]
        spans = [
            gauge.span("model", "draft", model="gpt-4o", provider="openai", depends_on=["s-1"])
            for _ in range(2800)
        ]
        draft = request.span("model", "draft").start()
        entering, leaving = iter(scopes), iter(scopes)
        opening, ending = iter(spans), iter(spans)
        calls: dict[str, Callable[[int], object]] = {
            "request": lambda _: gauge.request(**ALL_FIELDS, attributes={"tier": "gold"}),
            "enter": lambda _: next(entering).start(),
            "context_ready": lambda _: request.context_ready(),
            "first_token": lambda _: request.first_token(),
            "chunk": lambda _: request.chunk(),
            "usage": lambda _: request.usage(**TOKENS),
            "finish_reason": lambda _: request.finish_reason("stop"),
            "retried": lambda _: request.retried(),
            "cost": lambda _: request.cost(usd=0.0031),
            "fail": lambda _: request.fail("rate_limited"),
            "describe": lambda _: request.describe(**ALL_FIELDS),
            "exit": lambda _: next(leaving).finish(),
            "span": lambda _: gauge.span("tool", "search", depends_on=["s-1"]),
            "span usage": lambda _: draft.usage(**TOKENS),
            "span cost": lambda _: draft.cost(usd=0.0031),
            "depends_on": lambda _: draft.depends_on("s-1"),
            "link": lambda _: draft.link("t/s"),
            "span start": lambda _: next(opening).start(),
            "span finish": lambda _: next(ending).finish(),
            "sample": lambda i: gauge.sample("open_websockets", i),
            "wrong argument": lambda _: request.usage(prompt_tokens=-1),
            "current_request": lambda _: chatgauge.current_request(),
        }
        figures = {name: typical_us(call) for name, call in calls.items()}
        assert gauge.flush(60)
    assert {name: us for name, us in figures.items() if us >= MOST_US} == {}
    assert len(transport.messages) == 2 * 2800 + 2 * 2800 + 2800 + 2


def test_with_a_full_buffer_and_nobody_listening_calls_are_as_quick() -> None:
    transport = CaptureTransport()
    transport.away = "nobody listens"
    gauge = chatgauge.Gauge("s", transport=transport, buffer_bytes=100_000)
    figure = typical_us(lambda i: gauge.sample("n", i))
    assert gauge.stats().dropped > 0
    gauge.close(timeout=0)
    assert figure < MOST_US


def test_disabled_calls_take_next_to_nothing() -> None:
    gauge = chatgauge.Gauge(disabled=True)

    def measure(_: int) -> None:
        with gauge.request(model="m") as request:
            request.first_token()

    assert typical_us(measure) < 5
