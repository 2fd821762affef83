"""The contract of a way out, held against the one in memory and against a real Kafka."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import chatgauge
import pytest
from chatgauge.testing import CaptureTransport
from chatgauge.transport import REQUESTS, SAMPLES, SPANS
from chatgauge.wire import record_type

from infra.kafka import LocalKafka
from infra.ports import free_port
from schemas.contract import schema

SDK = Path(__file__).parents[2] / "sdk" / "src"

Published = Callable[[str, str, str], list[tuple[bytes, dict[str, Any]]]]


class Outlet(Protocol):
    """Where a gauge sends to, and what has arrived there."""

    def gauge(self, **settings: Any) -> chatgauge.Gauge:
        """A gauge that sends there."""

    def arrived(self, topic: str) -> list[tuple[bytes, dict[str, Any]]]:
        """Keys and records that have."""


class Memory:
    def __init__(self, service: str) -> None:
        self._service = service
        self._transport = CaptureTransport()

    def gauge(self, **settings: Any) -> chatgauge.Gauge:
        return chatgauge.Gauge(self._service, instance="i", transport=self._transport, **settings)

    def arrived(self, topic: str) -> list[tuple[bytes, dict[str, Any]]]:
        decode = record_type(topic).decode
        return [(m.key, decode(m.value)) for m in self._transport.messages if m.topic == topic]


class RealKafka:
    def __init__(self, service: str, bootstrap: str, published: Published) -> None:
        self._service = service
        self._bootstrap = bootstrap
        self._published = published

    def gauge(self, **settings: Any) -> chatgauge.Gauge:
        return chatgauge.Gauge(self._service, instance="i", kafka=self._bootstrap, **settings)

    def arrived(self, topic: str) -> list[tuple[bytes, dict[str, Any]]]:
        return self._published(self._bootstrap, topic, self._service)


@pytest.fixture(params=["memory", "kafka"])
def outlet(request: pytest.FixtureRequest, service: str, published: Published) -> Outlet:
    if request.param == "memory":
        return Memory(service)
    return RealKafka(service, request.getfixturevalue("chat_kafka"), published)


def test_each_kind_of_event_arrives_under_its_key(outlet: Outlet, service: str) -> None:
    with outlet.gauge() as gauge:
        with gauge.request(provider="openai", model="gpt-4o", user_id="u1") as request:
            with gauge.span("tool", "search"):
                pass
            request.usage(prompt_tokens=5, completion_tokens=7)
        with gauge.request() as nobodys:
            pass
        gauge.sample("open_websockets", 12)
        assert gauge.flush()
    requests = outlet.arrived(REQUESTS)
    assert sorted(key for key, _ in requests) == sorted([b"u1", b"u1", *[nobodys.request_id.encode()] * 2])
    (finished,) = [r for key, r in requests if key == b"u1" and r["phase"] == "finished"]
    assert (finished["model"], finished["prompt_tokens"], finished["completion_tokens"]) == ("gpt-4o", 5, 7)
    assert {key for key, _ in outlet.arrived(SPANS)} == {request.trace_id.encode()}
    assert [(key, r["value"]) for key, r in outlet.arrived(SAMPLES)] == [(f"{service}/i".encode(), 12.0)]
    assert gauge.stats().sent == 7


def test_events_of_one_user_stay_in_order(outlet: Outlet) -> None:
    with outlet.gauge() as gauge:
        for turn in range(2000):
            with gauge.request(user_id=f"u{turn % 5}", workflow_version=str(turn)):
                pass
        assert gauge.flush(30)
    arrived = outlet.arrived(REQUESTS)
    assert len(arrived) == gauge.stats().sent == 4000
    for user in range(5):
        versions = [int(r["workflow_version"]) for key, r in arrived if key == f"u{user}".encode()]
        assert versions == sorted(versions)


def test_an_event_of_the_largest_size_arrives(outlet: Outlet) -> None:
    names = [f"{i:064}" for i in range(16)]
    with outlet.gauge(attributes=names) as gauge:
        with gauge.request(model="ü" * 999, user_id="ü" * 999, attributes=dict.fromkeys(names, "ü" * 256)):
            pass
        assert gauge.flush()
    _, finished = outlet.arrived(REQUESTS)
    assert finished[1]["model"] == "ü" * 256
    assert len(finished[1]["attributes"]) == 16


def test_the_wire_format_is_the_platforms() -> None:
    for topic, name in ((REQUESTS, "RequestEvent"), (SPANS, "SpanEvent"), (SAMPLES, "Sample")):
        assert record_type(topic).fingerprint == schema(name).fingerprint


@pytest.mark.slow
def test_kafka_comes_late_goes_and_comes_back(
    tmp_path: Path,
    service: str,
    published: Published,
    create_topics: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    kafka = LocalKafka(tmp_path, port=free_port())
    with caplog.at_level(logging.INFO), chatgauge.Gauge(service, kafka=kafka.bootstrap) as gauge:
        slowest = max(_sample_ns(gauge, i) for i in range(100))
        assert not gauge.flush(0.5)
        kafka.start()
        try:
            assert not gauge.flush(0.5)
            create_topics(kafka.bootstrap, partitions=2)
            assert gauge.flush(30)
            assert gauge.stats().sent == 100
            kafka.stop()
            slowest = max(slowest, *(_sample_ns(gauge, i) for i in range(100, 200)))
            assert not gauge.flush(0.5)
            kafka = LocalKafka(tmp_path, port=kafka.port)
            kafka.start()
            assert gauge.flush(60)
            stats = gauge.stats()
            # What is read next is the test's own consumer, and what that logs is not the SDK's.
            ours = [
                r for r in caplog.records if r.name.startswith(("chatgauge", "aiokafka")) and r.levelno > 20
            ]
            values = [record["value"] for _, record in published(kafka.bootstrap, SAMPLES, service)]
        finally:
            kafka.stop()
    assert (stats.sent, stats.dropped, stats.failed, stats.queued) == (200, 0, 0, 0)
    assert values == list(range(200))
    assert slowest < 100_000_000
    assert len(ours) == 1
    assert str(kafka.port) in ours[0].getMessage()


def _sample_ns(gauge: chatgauge.Gauge, value: float) -> int:
    began = time.perf_counter_ns()
    gauge.sample("n", value)
    return time.perf_counter_ns() - began


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a small service as its own process, which tells every warning.

    Not in Python's development mode: its asyncio tells, too, of every tenth of a second on a busy machine.
    """
    return subprocess.run(
        [sys.executable, "-W", "default", "-c", script],
        env=os.environ | {"PYTHONPATH": str(SDK)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_script_that_just_ends_has_sent_everything(
    chat_kafka: str, service: str, published: Published
) -> None:
    script = """
import chatgauge
gauge = chatgauge.Gauge()
for turn in range(50):
    with gauge.request(model=f"m{turn}"):
        pass
"""
    by_name = chat_kafka.replace("127.0.0.1", "localhost")
    done = run(script, CHATGAUGE_SERVICE=service, CHATGAUGE_KAFKA_BOOTSTRAP=by_name)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(published(chat_kafka, REQUESTS, service)) == 100


def test_without_kafka_a_script_ends_soon_and_says_what_was_lost() -> None:
    script = """
import chatgauge, time
gauge = chatgauge.Gauge("s", exit_timeout=0.5)
gauge.sample("n", 1)
"""
    began = time.monotonic()
    done = run(script, CHATGAUGE_KAFKA_BOOTSTRAP=f"127.0.0.1:{free_port()}")
    assert time.monotonic() - began < 10
    assert done.returncode == 0
    assert "closed with 1 events unsent" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Unclosed" not in done.stderr


def test_forked_workers_send_their_own_events_and_the_parent_its_own(
    chat_kafka: str, service: str, published: Published
) -> None:
    script = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import chatgauge
gauge = chatgauge.Gauge()
gauge.sample("parent", 1)
assert gauge.flush()
gauge.sample("parent", 2)
children = []
for worker in range(3):
    child = os.fork()
    if child == 0:
        assert gauge.stats() == chatgauge.Stats(), gauge.stats()
        for value in range(20):
            gauge.sample("child", value)
        sys.exit(0)
    children.append(child)
for child in children:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
gauge.sample("parent", 3)
assert gauge.flush()
assert gauge.stats().sent == 3
"""
    done = run(script, CHATGAUGE_SERVICE=service, CHATGAUGE_KAFKA_BOOTSTRAP=chat_kafka)
    assert (done.returncode, done.stderr) == (0, "")
    records = [record for _, record in published(chat_kafka, SAMPLES, service)]
    parent = [(r["value"], r["instance"]) for r in records if r["name"] == "parent"]
    children = [(r["value"], r["instance"]) for r in records if r["name"] == "child"]
    assert [value for value, _ in sorted(parent)] == [1, 2, 3]
    assert len({instance for _, instance in parent}) == 1
    assert len(children) == 60
    assert len({instance for _, instance in children} - {parent[0][1]}) == 3
    assert len({record["event_id"] for record in records}) == 63
