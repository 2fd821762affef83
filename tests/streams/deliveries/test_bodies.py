"""Notifications at hand, or read again from the topic where they lie."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from infra import topics
from schemas.codec import Codec
from schemas.contract import schema
from schemas.topics import NOTIFICATIONS, Topic
from streams.deliveries.bodies import Bodies
from streams.deliveries.errors import BodyGoneError
from tests.streams.deliveries.outboxes import notification

_CODEC = Codec(schema("Notification"))
_COUNT = 300


@pytest.fixture
async def topic(kafka: str, topic_prefix: str) -> Topic:
    """A topic with notifications n0, n1, ... at the offsets 0, 1, ... of partition 1."""
    topic = replace(NOTIFICATIONS, name=f"{topic_prefix}-notifications")
    await topics.create(kafka, partitions=2, topics=[topic])
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        sent = [
            await producer.send(topic.name, _CODEC.encode(notification(number).record()), partition=1)
            for number in range(_COUNT)
        ]
        await asyncio.gather(*sent)
    return topic


@pytest.fixture
async def bodies(kafka: str, topic: Topic) -> AsyncIterator[Bodies]:
    bodies = Bodies(kafka, topic, 20_000)
    yield bodies
    await bodies.stop()


async def test_what_is_not_at_hand_is_read_again_within_the_bound_on_memory(bodies: Bodies) -> None:
    found = await asyncio.gather(*(bodies.get((1, offset)) for offset in range(_COUNT)))
    assert [each.notification_id for each in found] == [f"n{number}" for number in range(_COUNT)]
    assert found[7] == notification(7)
    assert 0 < bodies.nbytes <= 20_000
    assert await bodies.get((1, 3)) == notification(3)


async def test_what_retention_has_removed_is_gone_and_hinders_nobody(
    kafka: str, topic: Topic, bodies: Bodies
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.delete_records({TopicPartition(topic.name, 1): RecordsToDelete(before_offset=100)})
    await admin.close()
    asked = [asyncio.create_task(bodies.get((1, offset))) for offset in (50, 100, _COUNT)]
    gone, there, never = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(gone, BodyGoneError)
    assert there == notification(100)
    assert isinstance(never, BodyGoneError)


async def test_what_was_put_is_at_hand_until_the_bound_without_asking_kafka() -> None:
    bodies = Bodies("nowhere:1", NOTIFICATIONS, 2_000)
    for number in range(100):
        bodies.put((0, number), _CODEC.encode(notification(number).record()))
    assert bodies.nbytes <= 2_000
    assert await bodies.get((0, 99)) == notification(99)
    bodies.drop((0, 99))
    bodies.drop((0, 99))
    assert bodies.nbytes > 0
