"""The API as a process of its own, and what it finds on Kafka."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from aiokafka import AIOKafkaProducer

from infra.settings import ClickHouseSettings

PATIENCE: Final = 60.0
_RUN: Final = "from api.main import run; run()"


def start(kafka: str, clickhouse: ClickHouseSettings, port: int, log: Path) -> subprocess.Popen[bytes]:
    """An API on that port, whose data are beside its log."""
    environment = os.environ | {
        "CHATGAUGE_DATA": str(log.parent),
        "CHATGAUGE_KAFKA_BOOTSTRAP": kafka,
        "CHATGAUGE_API_PORT": str(port),
        "CHATGAUGE_API_PARTS": "{}",
        "CHATGAUGE_CLICKHOUSE_HOST": clickhouse.host,
        "CHATGAUGE_CLICKHOUSE_PORT": str(clickhouse.port),
        "CHATGAUGE_CLICKHOUSE_USER": clickhouse.user,
        "CHATGAUGE_CLICKHOUSE_PASSWORD": clickhouse.password.get_secret_value(),
        "CHATGAUGE_CLICKHOUSE_DATABASE": clickhouse.database,
    }
    with log.open("wb") as out:
        return subprocess.Popen([sys.executable, "-c", _RUN], env=environment, stdout=out, stderr=out)


@contextmanager
def running(
    kafka: str, clickhouse: ClickHouseSettings, port: int, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """An API that runs meanwhile; SIGTERM must end it well."""
    process = start(kafka, clickhouse, port, log)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for(what: Callable[[], Any], process: subprocess.Popen[bytes], log: Path) -> Any:
    """The first true answer of `what`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if answer := what():
                return answer
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"waited in vain for {what}: {log.read_text()}")


def publish(kafka: str, records: list[tuple[str, int, bytes | None, bytes | None]]) -> None:
    """Publishes (topic, partition, key, value)."""

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka)
        await producer.start()
        try:
            for topic, partition, key, value in records:
                await producer.send(topic, value, key=key, partition=partition)
        finally:
            await producer.stop()

    asyncio.run(send())
