"""What a sink declares of itself: what it waits for, which partition it has halted, whether there is work."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer

from infra.liveness import State, Waiting
from tests.faults.answering import Answering
from tests.faults.proxy import Proxy
from tests.sinks.at_work import Place, Running, sink, until_committed
from tests.sinks.making import encoded, request
from tests.sinks.test_halting import MANY, of_another_version


def awaited(running: Running) -> list[Waiting]:
    """What is waited for of ClickHouse."""
    return [wait for wait in running.part.report().waiting if wait.what.startswith("ClickHouse: ")]


def has_work(running: Running) -> bool:
    (unit,) = running.part.units()
    return unit.sighting(computing=False).occupied


async def test_while_clickhouse_is_in_trouble_the_sink_waits_for_it(place: Place) -> None:
    await place.send(place.requests, [encoded(request(n)) for n in range(100)])
    with Answering(243) as full, Proxy(full.address) as proxy:
        away = place.clickhouse.model_copy(update={"port": proxy.port})
        async with sink(place, place.requests, clickhouse=away) as running:
            await running.until(lambda: running.part.report().state is State.WAITING and awaited(running))
            (wait,) = awaited(running)
            proxy.target = ("127.0.0.1", place.clickhouse.port)
            await until_committed(place, place.requests, 100)
            await running.until(lambda: running.part.report().state is State.RUNNING)

    assert wait.unit == place.requests.name
    assert "code: 243" in wait.what


async def test_a_halted_partition_is_told_and_is_no_work(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.sink._LAG_EVERY_S", 0.1)
    await place.send(place.requests, [encoded(request(n)) for n in range(MANY)])
    async with sink(place, place.requests, of_another_version) as running:
        await running.until(lambda: running.part.report().state is State.HALTED)
        await place.send(place.requests, [encoded(request(n)) for n in range(10)])
        await running.until(lambda: not has_work(running))
        (halt,) = running.part.report().halted

    assert (halt.unit, halt.partition) == (place.requests.name, 0)
    assert halt.why.startswith("halted: ")


async def test_the_end_of_a_transaction_is_no_work(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinks.sink._LAG_EVERY_S", 0.1)
    async with AIOKafkaProducer(
        bootstrap_servers=place.bootstrap, transactional_id=place.requests.name
    ) as producer:
        for number in range(2):
            async with producer.transaction():
                await producer.send_and_wait(
                    place.requests.name, encoded(request(number)), key=b"k", partition=0
                )
    async with sink(place, place.requests) as running:
        await until_committed(place, place.requests, 4)  # past the second one's marker
        looks = 0
        while looks < 5:
            await running.until(lambda: not has_work(running))
            await asyncio.sleep(0.1)
            looks += not has_work(running)

        assert running.part.report().state is State.RUNNING
