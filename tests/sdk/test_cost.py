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
        scopes = [gauge.request(**FIELDS, workflow="w", workflow_version="3") for _ in range(2800)]
        spans = [gauge.span("tool", "search") for _ in range(2800)]
        entering, leaving = iter(scopes), iter(scopes)
        opening, ending = iter(spans), iter(spans)
        calls: dict[str, Callable[[int], object]] = {
            "request": lambda _: gauge.request(**FIELDS, attributes={"tier": "gold"}),
            "enter": lambda _: next(entering).start(),
            "context_ready": lambda _: request.context_ready(),
            "first_token": lambda _: request.first_token(),
            "usage": lambda _: request.usage(prompt_tokens=812, completion_tokens=96, cached_tokens=512),
            "cost": lambda _: request.cost(usd=0.0031),
            "fail": lambda _: request.fail("rate_limited"),
            "describe": lambda _: request.describe(**FIELDS),
            "exit": lambda _: next(leaving).finish(),
            "span": lambda _: gauge.span("tool", "search"),
            "span start": lambda _: next(opening).start(),
            "span finish": lambda _: next(ending).finish(),
            "sample": lambda i: gauge.sample("open_websockets", i),
            "wrong argument": lambda _: request.usage(prompt_tokens=-1),
            "current_request": lambda _: chatgauge.current_request(),
        }
        figures = {name: typical_us(call) for name, call in calls.items()}
        assert gauge.flush(60)
    assert {name: us for name, us in figures.items() if us >= MOST_US} == {}
    assert len(transport.messages) == 2 * 2800 + 2 * 2800 + 2800 + 1


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
