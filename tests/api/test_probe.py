"""What is seen of the groups and topics, on a real broker."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from api.health.probe import Bounds, _bounds, _sighting
from api.health.progress import Follower, Offsets
from clients.kafka.consumers import consuming
from clients.kafka.partitions import administering, partitions
from infra import topics
from schemas.topics import Topic
from streams.runtime.entries import Claim


async def seen(kafka: str, name: str) -> tuple[dict[TopicPartition, Bounds], dict[int, Offsets]]:
    """The topic, and its group of the same name."""
    async with administering(kafka) as admin, consuming(kafka) as consumer:
        bounds = await _bounds(consumer, await partitions(admin, [name]))
        sighting = await _sighting(admin, Follower("part", name, name), bounds, 1)
        return bounds, dict(sighting.partitions)


async def test_positions_open_transactions_and_which_notes_are_halts(kafka: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}-requests"
    await topics.create(kafka, partitions=2, topics=[Topic(topic, "RequestEvent")])
    first, second = (TopicPartition(topic, partition) for partition in (0, 1))
    async with AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=topic) as producer:
        for partition in (0, 0, 1):
            async with producer.transaction():
                await producer.send_and_wait(topic, b"v", partition=partition)
        await producer.begin_transaction()
        sent = [await producer.send(topic, b"v", partition=0) for _ in range(3)]
        await asyncio.gather(*sent)
        async with AIOKafkaConsumer(
            bootstrap_servers=kafka, group_id=topic, enable_auto_commit=False
        ) as consumer:
            consumer.assign([first, second])
            await consumer.commit(
                {
                    first: OffsetAndMetadata(4, Claim(3, 10).note()),
                    second: OffsetAndMetadata(1, "halted: nothing of it can be read"),
                }
            )
        held, groups = await seen(kafka, topic)
        await producer.commit_transaction()
    released, _ = await seen(kafka, topic)

    assert held == {first: Bounds(0, 4, 3), second: Bounds(0, 2, 0)}
    assert groups == {
        0: Offsets(4, 0, 4, "", held_back=3),
        1: Offsets(1, 0, 2, "halted: nothing of it can be read"),
    }
    assert (groups[0].lag, groups[1].lag) == (0, 1)
    assert released[first] == Bounds(0, 8, 0)
