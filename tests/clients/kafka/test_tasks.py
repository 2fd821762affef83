"""Kafka's client is asked which of the tasks inside it have ended, on a real broker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from clients.kafka.tasks import ended_task


@pytest.fixture
async def consumer(kafka: str, topic_prefix: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A member of a group that has its partition."""
    topic = f"{topic_prefix}tasks"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    member = AIOKafkaConsumer(topic, bootstrap_servers=kafka, group_id=topic)
    await member.start()
    async with asyncio.timeout(60):
        while not member.assignment():
            await member.getmany(timeout_ms=100)
    yield member
    await asyncio.wait([asyncio.ensure_future(member.stop())], timeout=5)


async def test_a_client_that_works_and_one_that_has_not_begun_have_lost_nothing(
    kafka: str, consumer: AIOKafkaConsumer
) -> None:
    new = AIOKafkaConsumer(bootstrap_servers=kafka)
    found = ended_task(new)
    await new.stop()

    assert found is None
    assert ended_task(consumer) is None


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (lambda consumer: consumer._client._sync_task, "the metadata task"),
        (lambda consumer: consumer._fetcher._fetch_task, "the fetching task"),
        (lambda consumer: consumer._coordinator._heartbeat_task, "the heartbeat"),
        (lambda consumer: consumer._coordinator._coordination_task, "the group's task"),
    ],
)
async def test_a_consumer_says_which_of_its_tasks_has_ended(
    consumer: AIOKafkaConsumer, task: Callable[[Any], "asyncio.Task[None]"], name: str
) -> None:
    ending = task(consumer)
    ending.cancel()
    await asyncio.wait([ending], timeout=10)

    found = ended_task(consumer)

    assert found is not None
    assert found.startswith(f"{name} of Kafka's client ")


async def test_a_producer_says_that_its_sender_has_ended(kafka: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    well = ended_task(producer)
    producer._sender.sender_task.cancel()
    await asyncio.wait([producer._sender.sender_task], timeout=10)
    found = ended_task(producer)
    await producer.stop()

    assert well is None
    assert found is not None
    assert found.startswith("the sending task of Kafka's client ")
