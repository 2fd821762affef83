"""Publishing to a real Kafka: complete, keyed as Kafka's own producers key, in order; and its troubles."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from infra import topics
from infra.ports import free_port
from schemas.topics import REQUESTS, Topic
from traffic.errors import KafkaUnavailableError, MissingTopicError
from traffic.publish import Publisher, partition_of

PARTITIONS = 3


@given(st.binary(max_size=40), st.integers(1, 64))
def test_keys_go_where_kafka_s_own_partitioner_sends_them(key: bytes, partitions: int) -> None:
    expected = DefaultPartitioner()(key, list(range(partitions)), [])
    assert partition_of(key, partitions) == expected


def test_the_partition_of_a_key_is_the_java_client_s() -> None:
    # From the vectors of Kafka's UtilsTest.testMurmur2.
    hashes = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    for key, murmur2 in hashes.items():
        assert partition_of(key, 1_000) == (murmur2 & 0x7FFFFFFF) % 1_000


@pytest.fixture
async def topic(kafka: str, topic_prefix: str) -> str:
    created = Topic(f"{topic_prefix}.requests", "RequestEvent", REQUESTS.config)
    await topics.create(kafka, partitions=PARTITIONS, topics=[created])
    return created.name


@asynccontextmanager
async def reading(bootstrap: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
        yield consumer
    finally:
        await consumer.stop()


async def everything(bootstrap: str, topic: str) -> list[ConsumerRecord]:
    async with reading(bootstrap, topic) as consumer:
        end = await consumer.end_offsets(consumer.assignment())
        records: list[ConsumerRecord] = []
        async with asyncio.timeout(30):
            while len(records) < sum(end.values()):
                for fetched in (await consumer.getmany(timeout_ms=1_000)).values():
                    records.extend(fetched)
        return records


async def test_every_message_arrives_once_in_its_key_s_partition_and_order(kafka: str, topic: str) -> None:
    keys = [f"user-{number % 50}".encode() for number in range(30_000)]
    values = [number.to_bytes(4, "big") * 25 for number in range(30_000)]
    async with Publisher(kafka, [topic]) as publisher:
        for start in range(0, len(keys), 7_000):
            await publisher.send(topic, keys[start : start + 7_000], values[start : start + 7_000])
        await publisher.flush()
        assert publisher.acknowledged == 30_000

    records = await everything(kafka, topic)

    assert sorted(record.value for record in records) == values
    order: dict[int, list[bytes]] = defaultdict(list)
    for record in records:
        assert record.partition == partition_of(record.key, PARTITIONS)
        order[record.partition].append(record.value)
    assert len(order) == PARTITIONS
    for arrived in order.values():
        assert arrived == sorted(arrived)


async def test_a_message_may_be_null_or_large(kafka: str, topic: str) -> None:
    large = b"x" * 600_000
    async with Publisher(kafka, [topic]) as publisher:
        await publisher.send(topic, [b"k", b"k", b"k"], [None, large, b"after"])
    assert [record.value for record in await everything(kafka, topic)] == [None, large, b"after"]


async def test_missing_topics_are_named(kafka: str, topic: str) -> None:
    with pytest.raises(MissingTopicError, match=r"no topic nowhere: create .* `chatgauge topics`"):
        async with Publisher(kafka, [topic, "nowhere"]):
            pass


async def test_without_kafka_it_says_how_to_get_one() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(KafkaUnavailableError, match=f"does not answer at {address}.*chatgauge up"):
        async with Publisher(address):
            pass


async def test_when_kafka_refuses_a_message_the_error_tells_what_got_through(kafka: str, topic: str) -> None:
    publisher = Publisher(kafka, [topic])
    with pytest.raises(KafkaUnavailableError, match=r"did not confirm .* 1 messages are confirmed"):  # noqa: PT012
        async with publisher:
            await publisher.send(topic, [b"k"], [b"small"])
            await publisher.flush()
            await publisher.send(topic, [b"k"], [b"x" * 17 * 1024 * 1024])
            await publisher.flush()
