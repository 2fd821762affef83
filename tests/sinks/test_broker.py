"""A broker that is not there yet, is killed in the midst of it, and is gone when the sink is to stop."""

import asyncio
import time
from pathlib import Path

from clickhouse_connect.driver.client import Client

from infra import topics
from infra.kafka import LocalKafka
from infra.ports import free_port
from infra.settings import ClickHouseSettings
from schemas.topics import DEAD_LETTERS, REQUESTS, WINDOWS
from tests.sinks.at_work import Place, letter_writer, sink, stored, until_committed
from tests.sinks.making import encoded, request


def killed(kafka: LocalKafka) -> None:
    kafka.process.kill()
    kafka.stop()


async def started(kafka: LocalKafka) -> None:
    kafka.launch()
    await asyncio.to_thread(kafka.wait_ready)


async def test_offsets_advance_again_after_every_return_of_the_broker(
    tmp_path: Path, database: ClickHouseSettings, tables: Client
) -> None:
    kafka = LocalKafka(tmp_path / "kafka", port=free_port())
    place = Place(kafka.bootstrap, database, tables, REQUESTS, WINDOWS, DEAD_LETTERS)
    try:
        await started(kafka)
        await topics.create(kafka.bootstrap, partitions=1)
        await place.send(place.requests, [encoded(request(n)) for n in range(10)])
        killed(kafka)
        async with sink(place, place.requests) as running, sink(place, place.letters, letter_writer):
            await started(kafka)
            await until_committed(place, place.requests, 10)
            killed(kafka)
            await started(kafka)
            await place.send(place.requests, [encoded(request(10)), b"bad"])
            await until_committed(place, place.requests, 12)
            await running.until(lambda: place.rows("SELECT offset FROM dead_letters FINAL") == [(11,)])
            killed(kafka)
            begun = time.monotonic()
        assert time.monotonic() - begun < 10
        assert stored(place) == list(range(11))
    finally:
        kafka.stop()
