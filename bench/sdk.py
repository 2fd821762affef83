"""`python -m bench.sdk`: what the SDK costs a chat service, and how fast it gets rid of its events.

Calls: time of each, with the sending thread at work. Delivery: events a second from the first call to
the last acknowledgement, on a real broker. Loop: how late a service's event loop wakes while it
measures 500 requests a second, beside how late it wakes with the SDK disabled.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from infra import topics
from infra.kafka import LocalKafka
from infra.ports import free_port

sys.path.insert(0, str(Path(__file__).parents[1] / "sdk" / "src"))

import chatgauge

CALLS = 5_000
EVENTS = 100_000
LOOP_S = 5.0
RATE = 500

FIELDS = {
    "provider": "openai",
    "model": "gpt-4o",
    "user_id": "user-1234",
    "space_id": "space-1",
    "workflow": "answer",
    "workflow_version": "3",
}


def quantiles(samples: list[float]) -> tuple[float, float, float]:
    """Median, 99th percentile and maximum."""
    ordered = sorted(samples)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1]


def calls(gauge: chatgauge.Gauge) -> None:
    requests = [gauge.request(**FIELDS) for _ in range(CALLS)]
    spans = [gauge.span("tool", "search") for _ in range(CALLS)]
    shown: dict[str, Callable[[int], object]] = {
        "gauge.request(...)": lambda _: gauge.request(**FIELDS),
        "enter request": lambda i: requests[i].start(),
        "request.first_token()": lambda i: requests[i].first_token(),
        "request.usage(...)": lambda i: requests[i].usage(prompt_tokens=812, completion_tokens=96),
        "enter span": lambda i: spans[i].start(),
        "leave span": lambda i: spans[i].finish(),
        "leave request": lambda i: requests[i].finish(),
        "gauge.sample(...)": lambda i: gauge.sample("open_websockets", i),
    }
    print(f"{'call, µs':<24}{'median':>8}{'p99':>8}{'max':>10}")
    for name, call in shown.items():
        taken = []
        for i in range(CALLS):
            began = time.perf_counter_ns()
            call(i)
            taken.append((time.perf_counter_ns() - began) / 1000)
        gauge.flush(60)
        print("{:<24}{:>8.2f}{:>8.1f}{:>10.0f}".format(name, *quantiles(taken)))


def delivery(gauge: chatgauge.Gauge) -> None:
    gauge.flush(60)
    sent = gauge.stats().sent
    began = time.perf_counter()
    for i in range(EVENTS // 2):
        gauge.request(**FIELDS, request_id=f"r{i}").start().finish()
    noted = time.perf_counter()
    gauge.flush(120)
    done = time.perf_counter()
    delivered = gauge.stats().sent - sent
    print(f"delivered {delivered:,} of {EVENTS:,} events, {gauge.stats().dropped:,} dropped")
    print(f"noted at {EVENTS / (noted - began):,.0f}/s, delivered at {delivered / (done - began):,.0f}/s")


async def loop_delay(gauge: chatgauge.Gauge) -> tuple[float, float, float]:
    """How late a loop that measures requests wakes from sleeps of 1 ms, in milliseconds."""
    late = []
    end = time.perf_counter() + LOOP_S
    due = time.perf_counter()
    while (now := time.perf_counter()) < end:
        while due <= now:
            async with gauge.request(**FIELDS) as request:
                with gauge.span("model", "ask"):
                    request.first_token()
            due += 1 / RATE
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - began - 0.001) * 1000)
    return quantiles(late)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, LocalKafka(Path(scratch), port=free_port()) as kafka:
        asyncio.run(topics.create(kafka.bootstrap, partitions=4))
        with chatgauge.Gauge("bench", kafka=kafka.bootstrap) as gauge:
            calls(gauge)
            delivery(gauge)
            print(f"{'loop wakes late by, ms':<24}{'median':>8}{'p99':>8}{'max':>10}")
            for name, measured in (("disabled", chatgauge.Gauge(disabled=True)), (f"{RATE}/s", gauge)):
                print("{:<24}{:>8.2f}{:>8.2f}{:>10.1f}".format(name, *asyncio.run(loop_delay(measured))))


if __name__ == "__main__":
    main()
