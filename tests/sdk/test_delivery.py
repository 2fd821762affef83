"""What becomes of events: sent, waiting, dropped, failed; each counted once."""

import gc
import logging
import threading
import time
import tracemalloc
from collections.abc import Callable, Sequence

import chatgauge
import pytest
from chatgauge.buffer import Buffer
from chatgauge.notices import Notices
from chatgauge.testing import CaptureTransport, capture
from chatgauge.transport import REQUESTS, SAMPLES, Delivery, EncodedMessage
from chatgauge.wire import record_type


def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.005)


def gauge_on(transport: CaptureTransport, **settings: int) -> chatgauge.Gauge:
    return chatgauge.Gauge("test", instance="i", transport=transport, disabled=False, **settings)  # type: ignore[arg-type]


def decoded(transport: CaptureTransport, topic: str) -> list[dict[str, object]]:
    return [record_type(topic).decode(m.value) for m in transport.messages if m.topic == topic]


def test_events_wait_while_kafka_is_away_and_go_when_it_is_back() -> None:
    transport = CaptureTransport()
    transport.away = "nobody listens"
    with gauge_on(transport) as gauge:
        for i in range(100):
            gauge.sample("n", i)
        assert not gauge.flush(timeout=0.2)
        assert gauge.stats().queued == 100
        transport.away = None
        assert gauge.flush()
        stats = gauge.stats()
    assert (stats.queued, stats.sent, stats.dropped, stats.failed) == (0, 100, 0, 0)
    assert stats.buffered_bytes == 0
    assert [record["value"] for record in decoded(transport, SAMPLES)] == list(range(100))


def test_when_the_buffer_is_full_the_newest_are_dropped_counted_and_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    transport = CaptureTransport()
    transport.away = "nobody listens"
    with caplog.at_level(logging.WARNING, "chatgauge"), gauge_on(transport, buffer_bytes=100_000) as gauge:
        for i in range(1000):
            gauge.sample("n", i)
        assert not gauge.flush(timeout=0.2)
        full = gauge.stats()
        assert full.queued + full.dropped == 1000
        assert 0 < full.queued < 1000
        assert full.buffered_bytes <= 100_000
        transport.away = None
        until(lambda: "sdk_dropped_events" in {r["name"] for r in decoded(transport, SAMPLES)})
        gauge.sample("after", 1)
        assert gauge.flush()
    records = decoded(transport, SAMPLES)
    assert [r["value"] for r in records if r["name"] == "n"] == list(range(full.queued))
    assert [r["value"] for r in records if r["name"] == "sdk_dropped_events"] == [full.dropped]
    assert gauge.stats().dropped == full.dropped
    assert caplog.text.count("events were dropped: the buffer is full") == 1
    assert f"closed: {full.dropped} of 1001 events were dropped, 0 failed" in caplog.text
    assert "nobody listens" in caplog.text


def test_counts_are_exact_with_many_threads() -> None:
    transport = CaptureTransport()
    transport.away = "nobody listens"
    gauge = gauge_on(transport, buffer_bytes=200_000)
    go = threading.Barrier(8)

    def measure() -> None:
        go.wait()
        for _ in range(500):
            with gauge.request(model="m"):
                pass

    threads = [threading.Thread(target=measure) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = gauge.stats()
    assert stats.queued + stats.dropped == 8 * 500 * 2
    transport.away = None
    gauge.flush()
    gauge.close()
    final = gauge.stats()
    assert (final.sent, final.dropped, final.queued) == (stats.queued, stats.dropped, 0)
    assert len(decoded(transport, REQUESTS)) == stats.queued


def test_the_bound_is_on_memory_really_held() -> None:
    limit = 4_000_000
    buffer = Buffer(limit)
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]
        i = 0
        while buffer.offer(REQUESTS, _request_record(i)):
            i += 1
        held = tracemalloc.get_traced_memory()[0] - base
    finally:
        tracemalloc.stop()
    assert 0.6 * limit < held <= limit


@pytest.mark.slow
def test_events_that_wait_are_nothing_to_the_garbage_collector() -> None:
    buffer = Buffer(4_000_000)
    gc.collect()
    before = len(gc.get_objects())
    i = 0
    while buffer.offer(REQUESTS, {**_request_record(i), "attributes": "none"}):
        i += 1
    gc.collect()
    assert i > 1000
    assert len(gc.get_objects()) - before < 100


def _request_record(i: int) -> dict[str, object]:
    return {
        "request_id": f"request-{i:032}",
        "trace_id": f"trace-{i:032}",
        "phase": "finished",
        "occurred_at": 1_700_000_000_000_000 + i,
        "provider": "openai",
        "model": f"gpt-4o-{i}",
        "user_id": f"user-{i}",
        "total_us": 1_000_000 + i,
        "attributes": [f"region=eu-{i}"],
    }


class Unsteady(CaptureTransport):
    """Fails after having taken half of what it was given: acknowledgements are lost."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def deliver(self, messages: Sequence[EncodedMessage]) -> Delivery:
        if self.failures:
            self.failures -= 1
            half = len(messages) // 2
            self.messages.extend(messages)
            return Delivery(sent=list(messages[:half]), unsent=list(messages[half:]), reason="lost")
        return super().deliver(messages)


def test_what_is_sent_again_has_the_same_event_id() -> None:
    transport = Unsteady(failures=3)
    with gauge_on(transport) as gauge:
        for i in range(64):
            gauge.sample("n", i)
        assert gauge.flush()
        assert gauge.stats().sent == 64
    ids = [record["event_id"] for record in decoded(transport, SAMPLES)]
    assert len(ids) > 64
    assert len(set(ids)) == 64


class Choosy(CaptureTransport):
    """Takes no requests, and will never take samples."""

    def deliver(self, messages: Sequence[EncodedMessage]) -> Delivery:
        delivery = Delivery(reason="choosy")
        for message in messages:
            if message.topic == REQUESTS:
                delivery.unsent.append(message)
            elif message.topic == SAMPLES:
                delivery.refused.append(message)
            else:
                delivery.sent.append(message)
        return delivery


def test_one_topic_does_not_hold_up_another() -> None:
    with gauge_on(Choosy()) as gauge:
        with gauge.request():
            for _ in range(5000):
                gauge.span("tool", "t").start().finish()
        gauge.sample("n", 1)
        until(lambda: gauge.stats().sent == 10_000)
        assert (gauge.stats().queued, gauge.stats().failed) == (2, 1)
        gauge.close(timeout=0)
    assert (gauge.stats().queued, gauge.stats().dropped) == (0, 2)


def test_a_fault_in_the_transport_ends_neither_thread_nor_service() -> None:
    transport = CaptureTransport()
    faults = iter([LookupError("a bug")] * 2)
    taken = transport.deliver

    def deliver(messages: Sequence[EncodedMessage]) -> Delivery:
        for fault in faults:
            raise fault
        return taken(messages)

    transport.deliver = deliver  # type: ignore[method-assign]
    with gauge_on(transport) as gauge:
        gauge.sample("n", 1)
        assert gauge.flush()
        assert gauge.stats().sent == 1


def test_after_close_events_are_dropped_and_counted() -> None:
    gauge, captured = capture()
    gauge.sample("n", 1)
    gauge.close()
    gauge.close()
    gauge.sample("n", 2)
    assert [record["value"] for record in captured.samples()] == [1.0]
    assert (gauge.stats().sent, gauge.stats().dropped) == (1, 1)


def test_close_gives_up_in_time_and_says_how_many_were_lost(caplog: pytest.LogCaptureFixture) -> None:
    transport = CaptureTransport()
    transport.away = "nobody listens"
    gauge = gauge_on(transport)
    gauge.sample("n", 1)
    began = time.monotonic()
    gauge.close(timeout=0.3)
    assert time.monotonic() - began < 2
    assert gauge.stats().dropped == 1
    assert "1 events unsent" in caplog.text


def test_trouble_is_logged_when_it_comes_and_then_rarely(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    notices = Notices(clock=lambda: now)
    with caplog.at_level(logging.WARNING, "chatgauge"):
        for at in (0.0, 1.0, 2.0, 400.0):
            now = at
            notices.count("trouble", "with a detail")
            notices.write()
    assert [record.getMessage() for record in caplog.records] == [
        "trouble: with a detail (1 times so far)",
        "trouble: with a detail (4 times so far)",
    ]
    assert notices.total("trouble") == 4
