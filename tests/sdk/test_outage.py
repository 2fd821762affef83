"""Kafka fails, in every way it can: calls don't wait, what can arrive does, and the counts add up."""

import asyncio
import contextlib
import logging
import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chatgauge
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from chatgauge.config import KafkaConnection
from chatgauge.kafka import KafkaTransport
from chatgauge.transport import REQUESTS, SAMPLES, SPANS, EncodedMessage

from infra import topics
from infra.kafka import LocalKafka
from infra.ports import free_port
from tests.faults.sdk_outage import Place, outage

pytestmark = pytest.mark.alone

Published = Callable[[str, str, str], list[tuple[bytes, dict[str, Any]]]]

_QUICK_US = 5_000
"""A call that waited for anything but its turn on a busy machine would take far longer at p99."""


class GuardedKafka(LocalKafka):
    """Has one more listener, where clients need a password, and with it may do nothing."""

    def __init__(self, data: Path, **settings: Any) -> None:
        super().__init__(data, **settings)
        self.guarded_port = free_port()

    def _write_properties(self) -> Path:
        path = super()._write_properties()
        lines = dict(line.split("=", 1) for line in path.read_text().splitlines())
        guarded = f",GUARDED://127.0.0.1:{self.guarded_port}"
        lines["listeners"] += guarded
        lines["advertised.listeners"] += guarded
        lines["listener.security.protocol.map"] += ",GUARDED:SASL_PLAINTEXT"
        lines |= {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "listener.name.guarded.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.guarded.plain.sasl.jaas.config": (
                "org.apache.kafka.common.security.plain.PlainLoginModule required user_chat='right';"
            ),
        }
        path.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("outage"), kafka=GuardedKafka) as ready:
        yield ready


def until(condition: Callable[[], object], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.005)


@pytest.mark.parametrize(("way", "buffer_bytes"), [("refused", 100_000), ("frozen", 50_000_000)])
def test_through_an_outage_no_call_waits_and_every_event_is_accounted_for(
    place: Place, way: str, buffer_bytes: int
) -> None:
    outcome = outage(1.0, 7, way=way, buffer_bytes=buffer_bytes, place=place)
    assert outcome.exact, outcome
    assert outcome.snapshots > 50
    assert (outcome.dropped > 0) == (buffer_bytes == 100_000)
    assert outcome.most_buffered <= buffer_bytes
    assert outcome.calls["during"].calls > 500
    assert outcome.calls["during"].p99 < _QUICK_US
    assert outcome.calls["after"].p99 < _QUICK_US
    assert outcome.slowest_new_s < 2


def test_a_lost_acknowledgement_means_the_same_event_again(
    place: Place, service: str, published: Published
) -> None:
    with chatgauge.Gauge(service, kafka=place.bootstrap) as gauge:
        gauge.sample("warm", 0)
        assert gauge.flush()
        place.proxy.lose_responses(1, marker=b"unheard")
        for value in range(50):
            gauge.sample("unheard", value)
        assert gauge.flush(20)
        assert gauge.stats().sent == 51
    arrived = published(place.kafka.bootstrap, SAMPLES, service)
    unheard = [(key, record) for key, record in arrived if record["name"] == "unheard"]
    assert [record["value"] for _, record in unheard] == [*range(50), *range(50)]
    assert unheard[:50] == unheard[50:]


def test_resets_in_the_midst_of_sending_lose_and_reorder_nothing(
    place: Place, service: str, published: Published
) -> None:
    with chatgauge.Gauge(service, kafka=place.bootstrap) as gauge:
        for turn in range(3000):
            gauge.request(user_id=f"u{turn % 4}", workflow_version=str(turn)).start()
            if turn % 300 == 150:
                place.proxy.reset_all()
                until(lambda: gauge.stats().sent or gauge.stats().queued)
        assert gauge.flush(30)
        assert (gauge.stats().sent, gauge.stats().dropped) == (3000, 0)
    firsts: dict[str, tuple[bytes, int]] = {}
    for key, record in published(place.kafka.bootstrap, REQUESTS, service):
        firsts.setdefault(record["event_id"], (key, int(record["workflow_version"])))
    assert len(firsts) == 3000
    for user in range(4):
        versions = [version for key, version in firsts.values() if key == f"u{user}".encode()]
        assert versions == sorted(versions)


def test_a_topic_that_is_missing_holds_up_its_own_events_only(
    place: Place, service: str, published: Published, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.run(_delete(place.kafka.bootstrap, SPANS))
    with (
        caplog.at_level(logging.WARNING, "chatgauge"),
        chatgauge.Gauge(service, kafka=place.bootstrap) as gauge,
    ):
        for _ in range(20):
            gauge.span("tool", "search").start()
        gauge.sample("first", 0)
        until(lambda: gauge.stats().sent == 1)
        slowest = 0.0
        for sent in range(2, 22):
            began = time.monotonic()
            gauge.sample("n", sent)
            until(lambda sent=sent: gauge.stats().sent == sent)  # type: ignore[misc]
            slowest = max(slowest, time.monotonic() - began)
        assert gauge.stats().queued == 20
        asyncio.run(topics.create(place.kafka.bootstrap, partitions=3))
        assert gauge.flush(20)
        assert gauge.stats().sent == 41
    assert slowest < 1
    assert f"topic {SPANS} is missing" in caplog.text
    assert len(published(place.kafka.bootstrap, SPANS, service)) == 20


async def _delete(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        while topic in await admin.list_topics():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    finally:
        await admin.close()


def test_an_event_too_large_for_kafka_is_refused_alone(place: Place) -> None:
    asyncio.run(
        _create(place.kafka.bootstrap, NewTopic("tight", 1, 1, topic_configs={"max.message.bytes": "2000"}))
    )
    messages = [EncodedMessage("tight", b"k", f"{i}".encode()) for i in range(300)]
    messages[100] = EncodedMessage("tight", b"k", b"x" * 5000)
    transport = KafkaTransport(KafkaConnection(place.bootstrap))
    try:
        delivery = transport.deliver(messages)
    finally:
        transport.close()
    assert delivery.refused == [messages[100]]
    assert "an event of 5000 bytes is more than Kafka takes" in delivery.reason
    assert delivery.sent == messages[:100] + messages[101:]
    assert asyncio.run(_values(place.kafka.bootstrap, "tight")) == [
        message.value for message in delivery.sent
    ]


async def _create(bootstrap: str, topic: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([topic])
        while topic.name not in await admin.list_topics():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    finally:
        await admin.close()


async def _values(bootstrap: str, topic: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        values: list[bytes] = []
        while len(values) < end:
            for messages in (await consumer.getmany(timeout_ms=200)).values():
                values.extend(message.value for message in messages)
        return values
    finally:
        await consumer.stop()


class Garbage(socketserver.BaseRequestHandler):
    """Answers every request, with anything but an answer."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while self.request.recv(4096):
                self.request.sendall(b"\x00\x00\x00\x0aServiceUnavailable")


@pytest.fixture(params=["closed", "silent", "garbage", "unknown host", "wrong password", "no rights"])
def nowhere(request: pytest.FixtureRequest) -> Iterator[tuple[KafkaConnection, str]]:
    """Where events can't be sent to, and what is said of it."""
    way = request.param
    if way == "closed":
        yield KafkaConnection(f"127.0.0.1:{free_port()}"), "127.0.0.1"
    elif way == "silent":
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield KafkaConnection(f"127.0.0.1:{server.getsockname()[1]}"), ""
    elif way == "garbage":
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Garbage) as answering:
            thread = threading.Thread(target=answering.serve_forever, args=(0.01,))
            thread.start()
            yield KafkaConnection(f"127.0.0.1:{answering.server_address[1]}"), "127.0.0.1"
            answering.shutdown()
            thread.join()
    elif way == "unknown host":
        yield KafkaConnection("kafka.invalid:9092"), "kafka.invalid"
    else:
        kafka = request.getfixturevalue("place").kafka
        password, said = (
            ("right", "TopicAuthorizationFailed") if way == "no rights" else ("wrong", "uthentication")
        )
        yield (
            KafkaConnection(f"127.0.0.1:{kafka.guarded_port}", "SASL_PLAINTEXT", "PLAIN", "chat", password),
            said,
        )


def test_where_nobody_takes_events_they_wait_and_closing_ends_in_time(
    nowhere: tuple[KafkaConnection, str], service: str, caplog: pytest.LogCaptureFixture
) -> None:
    connection, said = nowhere
    with caplog.at_level(logging.WARNING):
        gauge = chatgauge.Gauge(service, kafka=connection)
        slowest = 0
        for value in range(30):
            began = time.perf_counter_ns()
            gauge.sample("n", value)
            slowest = max(slowest, time.perf_counter_ns() - began)
        assert not gauge.flush(0.5)
        stats = gauge.stats()
        assert (stats.offered, stats.queued, stats.failed, stats.dropped) == (30, 30, 0, 0)
        closing = time.monotonic()
        gauge.close(0.2)
        took = time.monotonic() - closing
    stats = gauge.stats()
    assert (stats.offered, stats.queued, stats.failed, stats.dropped) == (30, 0, 0, 30)
    assert slowest < 100_000_000
    assert took < 1
    assert "closed with 30 events unsent" in caplog.text
    assert said in caplog.text


def test_a_process_that_ends_or_forks_while_kafka_is_away_accounts_for_every_event() -> None:
    script = """
import atexit, os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
def tell():
    print(os.getpid() == parent, gauge.stats().queued, account(gauge.stats()), flush=True)
atexit.register(tell)
import chatgauge
parent = os.getpid()
gauge = chatgauge.Gauge("s", buffer_bytes=200_000, exit_timeout=0.3)
def account(stats):
    return stats.offered, stats.offered - stats.dropped - stats.sent - stats.failed - stats.queued
def measure():
    for value in range(300):
        gauge.sample("n", value)
threads = [threading.Thread(target=measure) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
child = os.fork()
if child == 0:
    gauge.sample("child", 1)
    sys.exit()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert gauge.stats().dropped > 0 and gauge.stats().queued > 0
gauge.close()
if os.fork() == 0:
    gauge.sample("grandchild", 1)
    assert gauge.stats().dropped == 1
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ
        | {
            "PYTHONPATH": str(Path(__file__).parents[2] / "sdk" / "src"),
            "CHATGAUGE_KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["False 0 (1, 0)", "True 0 (1200, 0)"]
    assert "closed with 1 events unsent: Kafka could not be reached in time (1 of 1 events" in done.stderr
    assert "of 1200 events were dropped, 0 failed" in done.stderr
