"""Two sinks of one group, as processes: one joins, leaves, or sleeps past its session, under load."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from clickhouse_connect.driver.client import Client

from clients.kafka.publisher import Message, Publisher
from infra.settings import ClickHouseSettings
from tests.sinks.making import encoded, request

pytestmark = pytest.mark.timeout(400)

PARTITIONS = 4
SESSION_S = 4
_QUICK = f"""
from sinks import consumer, main
consumer._SETTINGS.update(session_timeout_ms={SESSION_S * 1000}, heartbeat_interval_ms=500)
consumer._FRESH_S, consumer._ASK_AGAIN_S = {SESSION_S * 2 / 3}, {SESSION_S / 3}
main.run()
"""
"""A sink whose session ends sooner than the product's, which would only take longer."""

Sink = subprocess.Popen[bytes]


@contextmanager
def sink(kafka: str, clickhouse: ClickHouseSettings) -> Iterator[Sink]:
    settings = {
        "CHATGAUGE_KAFKA_BOOTSTRAP": kafka,
        "CHATGAUGE_CLICKHOUSE_PORT": str(clickhouse.port),
        "CHATGAUGE_CLICKHOUSE_DATABASE": clickhouse.database,
        "CHATGAUGE_CLICKHOUSE_PASSWORD": clickhouse.password.get_secret_value(),
        "CHATGAUGE_SINK_METRICS_PORT": "0",
        "CHATGAUGE_SINK_LINGER": "PT0.1S",
    }
    child = subprocess.Popen([sys.executable, "-c", _QUICK], env=os.environ | settings)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGCONT)
        child.kill()
        child.wait()


class Load:
    """Requests with ids of their own, 100 at a time, until it is told to end."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.sent = 0

    async def _run(self) -> None:
        publisher = Publisher(self._bootstrap)
        try:
            for start in itertools.count(0, 100):
                await publisher.publish(
                    [
                        Message("chat.requests", encoded(request(n)), partition=n % PARTITIONS)
                        for n in range(start, start + 100)
                    ]
                )
                self.sent = start + 100
                if self._ending.is_set():
                    return
                await asyncio.sleep(0.02)
        finally:
            await publisher.stop()

    async def end(self) -> None:
        self._ending.set()
        if self._task is not None:
            await self._task

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()


async def shared_by(kafka: str, wanted: int) -> bool:
    """Whether so many sinks share the requests, and have done sharing them out."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        (response,) = await admin.describe_consumer_groups(["chatgauge-sink-chat.requests"])
        (group,) = response.groups
    except GroupCoordinatorNotAvailableError:
        return False
    finally:
        await admin.close()
    return (group[2], len(group[5])) == ("Stable", wanted)


async def until(condition: Callable[[], object]) -> None:
    """Waits for it, or for what it awaits."""
    ends = time.monotonic() + 60
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < ends, "not in time"
        await asyncio.sleep(0.05)


async def test_produced_ids_equal_stored_ids_while_a_second_sink_joins_leaves_and_sleeps(
    fresh_kafka: str, database: ClickHouseSettings, client: Client, create_topics: Callable[..., None]
) -> None:
    await asyncio.to_thread(create_topics, fresh_kafka, partitions=PARTITIONS)

    def count() -> int:
        return int(client.query("SELECT uniqExact(event_id) FROM events").result_rows[0][0])

    async def goes_on() -> None:
        reached = load.sent
        await until(lambda: count() >= reached)

    async with Load(fresh_kafka) as load:
        with sink(fresh_kafka, database) as first, sink(fresh_kafka, database) as second:
            await until(lambda: shared_by(fresh_kafka, 2))
            client.command("SYSTEM STOP MERGES events")  # what is doubled shall be seen
            await goes_on()
            second.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(second.wait, 30) == 0
            await goes_on()
            with sink(fresh_kafka, database):
                await until(lambda: shared_by(fresh_kafka, 2))
                first.send_signal(signal.SIGSTOP)
                await until(lambda: shared_by(fresh_kafka, 1))
                await goes_on()
                first.send_signal(signal.SIGCONT)
                await until(lambda: shared_by(fresh_kafka, 2))
                await load.end()
                await goes_on()
    figures = "SELECT count(), uniqExact(_partition, _offset), uniqExact(event_id) FROM events"
    assert client.query(figures).result_rows == [(load.sent,) * 3]
