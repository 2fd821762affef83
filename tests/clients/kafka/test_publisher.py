"""The publisher against a real broker: which answers, is stopped, and comes back."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.structs import RecordMetadata

from clients.kafka.publisher import (
    AcknowledgementTimeoutError,
    Message,
    ProducerReplacedError,
    Publisher,
    PublishError,
)
from tests.clients.kafka.conftest import PATIENCE_S, Broker, requests_under_way, until

WITHIN_S = 1.0


@pytest.fixture
async def publisher(broker: Broker) -> AsyncIterator[Publisher]:
    publisher = Publisher(broker.bootstrap, within_s=PATIENCE_S)
    yield publisher
    await publisher.stop()


@pytest.fixture
async def impatient(broker: Broker) -> AsyncIterator[Publisher]:
    """Gives up after a second, on a busy machine also what would have gone well."""
    publisher = Publisher(broker.bootstrap, within_s=WITHIN_S)
    yield publisher
    await publisher.stop()


async def _values(bootstrap: str, topic: str, partition: int) -> list[bytes]:
    place = TopicPartition(topic, partition)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        values: list[bytes] = []
        while len(values) < end:
            values += [each.value for each in (await consumer.getmany(timeout_ms=500)).get(place, [])]
        return values
    finally:
        await consumer.stop()


def _left_behind() -> list[str]:
    return [str(task) for task in asyncio.all_tasks() if "aiokafka" in str(task.get_coro())]


async def test_messages_are_acknowledged_in_their_order(
    broker: Broker, publisher: Publisher, topic_prefix: str
) -> None:
    topic = await broker.topic(topic_prefix)
    messages = [Message(topic, b"%d" % n, partition=n % 2) for n in range(2000)]

    metadata = await publisher.publish(messages)

    assert [(each.partition, each.offset) for each in metadata] == [(n % 2, n // 2) for n in range(2000)]
    assert await _values(broker.bootstrap, topic, 1) == [b"%d" % n for n in range(1, 2000, 2)]
    assert await publisher.publish([]) == []


async def test_what_a_stopped_broker_does_not_acknowledge_fails_in_time_and_can_be_repeated(
    broker: Broker, impatient: Publisher, topic_prefix: str
) -> None:
    topic = await broker.topic(topic_prefix)
    await _until_published(impatient, [Message(topic, b"before", partition=0)])

    with broker.stopped():
        began = time.monotonic()
        with pytest.raises(PublishError) as raised:
            await impatient.publish([Message(topic, b"again", partition=0)] * 3)
        took = time.monotonic() - began

    assert raised.value.retriable
    assert raised.value.acknowledged == 0
    assert took < PATIENCE_S
    metadata = await _until_published(impatient, [Message(topic, b"after", partition=0)])
    assert (await _values(broker.bootstrap, topic, 0))[metadata[0].offset] == b"after"


async def _until_published(publisher: Publisher, messages: list[Message]) -> list[RecordMetadata]:
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await publisher.publish(messages)
        except KafkaError as error:
            if not error.retriable or time.monotonic() > ends:
                raise


@pytest.mark.parametrize("idempotent", [False, True])
async def test_stopping_ends_while_the_broker_is_stopped(
    broker: Broker, topic_prefix: str, idempotent: bool
) -> None:
    topic = await broker.topic(topic_prefix)
    publisher = Publisher(broker.bootstrap, within_s=60.0, enable_idempotence=idempotent)
    await publisher.publish([Message(topic, b"before", partition=0)])

    with broker.stopped():
        # More than the buffers of the connection hold, so that closing it would wait for the broker.
        waiting = asyncio.create_task(
            publisher.publish([Message(topic, bytes(900_000), partition=n % 2) for n in range(20)])
        )
        began = time.monotonic()
        await until(requests_under_way)
        await publisher.stop(within_s=0.5)
        took = time.monotonic() - began
        with pytest.raises(PublishError) as raised:
            await asyncio.wait_for(waiting, PATIENCE_S)

    assert took < PATIENCE_S
    assert raised.value.retriable
    assert isinstance(raised.value.first, ProducerReplacedError)
    assert _left_behind() == []


async def test_a_producer_whose_sender_has_ended_is_replaced(
    broker: Broker, publisher: Publisher, topic_prefix: str
) -> None:
    topic = await broker.topic(topic_prefix)
    await publisher.publish([Message(topic, b"before", partition=0)])
    assert publisher._link is not None
    sender = publisher._link._producer._sender.sender_task
    sender.cancel()
    await asyncio.wait({sender})

    (metadata,) = await publisher.publish([Message(topic, b"after", partition=0)])

    assert metadata.offset == 1


async def test_a_sender_that_ends_while_messages_wait_fails_them_and_others_follow(
    broker: Broker, impatient: Publisher, topic_prefix: str
) -> None:
    topic = await broker.topic(topic_prefix)
    await _until_published(impatient, [Message(topic, b"before", partition=0)])
    assert impatient._link is not None
    sender = impatient._link._producer._sender.sender_task
    with broker.stopped():
        waiting = asyncio.create_task(impatient.publish([Message(topic, b"lost", partition=0)]))
        await until(requests_under_way)
        for request in requests_under_way():
            request.cancel()
        await asyncio.wait({sender})
        with pytest.raises(PublishError) as raised:
            await asyncio.wait_for(waiting, PATIENCE_S)

    assert isinstance(raised.value.first, AcknowledgementTimeoutError)
    assert (await _until_published(impatient, [Message(topic, b"after", partition=0)]))[0].offset >= 1


async def test_a_message_that_is_too_large_does_not_hold_up_the_others(
    broker: Broker, publisher: Publisher, topic_prefix: str
) -> None:
    topic = await broker.topic(topic_prefix)
    small = Message(topic, b"small", partition=0)

    with pytest.raises(PublishError) as raised:
        await publisher.publish([small, Message(topic, bytes(2_000_000), partition=0), small])

    first, refused, third = raised.value.outcomes
    assert isinstance(refused, MessageSizeTooLargeError)
    assert not raised.value.retriable
    assert raised.value.acknowledged == 1
    assert [each.offset for each in (first, third) if isinstance(each, RecordMetadata)] == [0, 1]


async def test_nobody_who_answers_is_told_as_an_error_that_may_be_repeated() -> None:
    publisher = Publisher("127.0.0.1:1", within_s=WITHIN_S)

    with pytest.raises(KafkaError) as raised:
        await publisher.publish([Message("chat.requests", b"")])

    assert raised.value.retriable
    await publisher.stop()
    assert _left_behind() == []
