"""The local Kafka: keeps its data however it ends, and says clearly why it cannot start."""

import asyncio
import socket
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from infra import topics
from infra.errors import DiskFullError, JarsUnavailableError, JavaUnusableError, PortTakenError
from infra.kafka import LocalKafka, Outside, jars
from infra.kafka.java import java_version
from infra.ports import free_port
from schemas.topics import Topic

TOPIC = Topic("kept", "RequestEvent")


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalKafka]:
    jars.require()
    kafka = LocalKafka(tmp_path / "kafka", port=free_port())
    yield kafka
    kafka.stop()


async def publish(bootstrap: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(TOPIC.name, value)


async def read(bootstrap: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(TOPIC.name, 0)])
        return [(await consumer.getone()).value for _ in range(count)]


def test_what_it_has_acknowledged_outlives_a_stop_and_a_kill(local: LocalKafka) -> None:
    local.start()
    asyncio.run(topics.create(local.bootstrap, partitions=1, topics=[TOPIC]))
    asyncio.run(publish(local.bootstrap, b"before the stop"))
    local.stop()
    assert local.process.returncode == 143  # it ended by itself when asked to

    local.start()
    asyncio.run(publish(local.bootstrap, b"before the kill"))
    local.process.kill()
    local.process.stop()

    local.start()
    assert asyncio.run(read(local.bootstrap, 2)) == [b"before the stop", b"before the kill"]


def test_it_takes_any_cluster_id(local: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    begins_with_a_hyphen = uuid.UUID(bytes=b"\xf8" * 16)
    monkeypatch.setattr(uuid, "uuid4", lambda: begins_with_a_hyphen)
    local.prepare()
    assert "cluster.id=-Pj4" in (local.data / "log" / "meta.properties").read_text()


def test_clients_from_outside_are_told_to_come_by_their_own_port(tmp_path: Path) -> None:
    outside = Outside(port=free_port(), reached_by=free_port())

    async def told() -> int:
        client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{outside.port}")
        await client.bootstrap()
        try:
            (broker,) = client.cluster.brokers()
            return int(broker.port)
        finally:
            await client.close()

    with LocalKafka(tmp_path / "kafka", port=free_port(), outside=outside) as kafka:
        assert kafka.answers()
        assert asyncio.run(told()) == outside.reached_by


async def test_no_topic_comes_to_be_by_accident(kafka: str, topic_prefix: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka, request_timeout_ms=1500) as producer:
        with pytest.raises(KafkaError):
            await producer.send_and_wait(f"{topic_prefix}.mistyped", b"")

    assert await topics.describe(kafka, [Topic(f"{topic_prefix}.mistyped", "RequestEvent")]) == {}


def test_a_taken_port_is_told_before_anything_is_started(local: LocalKafka) -> None:
    with (
        socket.create_server(("127.0.0.1", local.port)),
        pytest.raises(PortTakenError, match=f"port {local.port} is taken by pid .*CHATGAUGE_KAFKA_BOOTSTRAP"),
    ):
        local.start()


def test_a_missing_java_is_told_with_how_to_install_it(
    local: LocalKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)

    with pytest.raises(JavaUnusableError, match="no «java» on the PATH: install Java 17 or newer"):
        local.start()


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_391"', 8),
        ('openjdk version "21" x', 21),
    ],
)
def test_the_version_of_java_is_understood(
    said: str, version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: LocalKafka
) -> None:
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)

    assert java_version(str(java)) == version
    if version < 17:
        monkeypatch.delenv("JAVA_HOME", raising=False)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        with pytest.raises(JavaUnusableError, match=r"needs Java 17, and .* is version 8"):
            local.start()


def test_missing_jars_are_told(local: LocalKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHATGAUGE_KAFKA_JARS", str(tmp_path / "none"))

    with pytest.raises(JarsUnavailableError, match="run «make install»"):
        local.start()


def test_fetching_without_maven_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHATGAUGE_KAFKA_JARS", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(JarsUnavailableError, match="no «mvn» on the PATH"):
        jars.fetch()


def test_a_full_disk_is_told_before_anything_is_written(
    local: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalKafka, "least_free", 2**60)

    with pytest.raises(DiskFullError, match="free some space, or choose another disk with --data"):
        local.start()

    assert list(local.data.iterdir()) == []
