"""The sinks as a process: all topics at once, metrics over HTTP, and a clean end."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.client import Client

from infra.ports import free_port
from infra.settings import ClickHouseSettings
from streams.windows.block import write_block
from tests.sinks.making import block, encoded, request, sample, span


@contextmanager
def process(kafka: str, clickhouse: ClickHouseSettings, port: int) -> Iterator[subprocess.Popen[bytes]]:
    settings = {
        "CHATGAUGE_KAFKA_BOOTSTRAP": kafka,
        "CHATGAUGE_CLICKHOUSE_PORT": str(clickhouse.port),
        "CHATGAUGE_CLICKHOUSE_DATABASE": clickhouse.database,
        "CHATGAUGE_CLICKHOUSE_PASSWORD": clickhouse.password.get_secret_value(),
        "CHATGAUGE_SINK_METRICS_PORT": str(port),
        "CHATGAUGE_SINK_LINGER": "PT0.1S",
    }
    child = subprocess.Popen(
        [sys.executable, "-c", "from sinks.main import run; run()"],
        env=os.environ | settings,
        stderr=subprocess.PIPE,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.05)


async def publish(bootstrap: str) -> None:
    values = {
        "chat.requests": encoded(request(1)),
        "chat.spans": encoded(span(1), "SpanEvent"),
        "chat.samples": encoded(sample(1), "Sample"),
        "chat.windows": write_block(block(grouping="service")),
        "chat.usage": write_block(block(grouping="user")),
    }
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for topic, value in values.items():
            await producer.send_and_wait(topic, value, key=b"key")
        await producer.send_and_wait("chat.spans", b"broken")


def test_every_topic_reaches_its_table_and_sigterm_ends_it_cleanly(
    fresh_kafka: str,
    database: ClickHouseSettings,
    client: Client,
    create_topics: Callable[..., None],
) -> None:
    create_topics(fresh_kafka, partitions=2)
    asyncio.run(publish(fresh_kafka))
    port = free_port()
    counts = " + ".join(
        f"(SELECT count() FROM {t} FINAL)" for t in ("events", "spans", "samples", "windows", "dead_letters")
    )

    def all_there() -> bool:
        assert child.poll() is None, child.communicate()[1].decode()
        tables = client.query("SELECT count() FROM system.tables WHERE database = currentDatabase()")
        return tables.result_rows[0][0] > 25 and client.query(f"SELECT {counts}").result_rows == [(6,)]

    with process(fresh_kafka, database, port) as child:
        wait_until(all_there)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            metrics = page.read().decode()
        assert "chatgauge_sink_clickhouse_up 1.0" in metrics
        assert 'chatgauge_sink_dead_letters_total{reason="unknown_format",topic="chat.spans"} 1.0' in metrics
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
