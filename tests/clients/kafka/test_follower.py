"""Topics that are read without a group: whole, from wherever they begin, through transactions and outages."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import KafkaConnectionError

from clients import retry
from clients.kafka import follower
from clients.kafka.consumers import consuming
from clients.kafka.follower import Follower, FollowingEndedError, Records, read_range, since
from clients.kafka.producers import new_producer
from infra import topics
from schemas.topics import SPANS

PARTITIONS = 2


@pytest.fixture
async def topic(kafka: str, topic_prefix: str) -> str:
    name = f"{topic_prefix}-followed"
    await create(kafka, name)
    return name


async def create(kafka: str, name: str) -> None:
    """A topic whose records keep the times that they are sent with."""
    await topics.create(kafka, partitions=PARTITIONS, topics=[replace(SPANS, name=name, config={})])


async def send(kafka: str, topic: str, *values: str, partition: int = 0, at_ms: int | None = None) -> None:
    async with new_producer(kafka) as producer:
        for value in values:
            await producer.send_and_wait(topic, value.encode(), partition=partition, timestamp_ms=at_ms)


@contextlib.asynccontextmanager
async def transactional(kafka: str, topic: str) -> AsyncIterator[AIOKafkaProducer]:
    async with new_producer(kafka, transactional_id=f"writer of {topic}") as producer:
        yield producer


async def write(producer: AIOKafkaProducer, topic: str, *values: str, commit: bool) -> None:
    """A transaction; behind its records lies a marker, which has an offset of its own."""
    await producer.begin_transaction()
    for value in values:
        await producer.send_and_wait(topic, value.encode(), partition=0)
    await (producer.commit_transaction() if commit else producer.abort_transaction())


class Read:
    """What a follower has read."""

    def __init__(self, kafka: str, topic: str, **settings: Any) -> None:
        self.values: list[str] = []
        self.follower = Follower(kafka, [topic], self._take, poll_ms=50, **settings)
        self._came = asyncio.Condition()

    async def _take(self, fetched: Records) -> None:
        async with self._came:
            self.values += [record.value.decode() for each in fetched.values() for record in each]
            self._came.notify_all()

    async def until(self, *values: str) -> None:
        async with asyncio.timeout(30), self._came:
            await self._came.wait_for(lambda: set(values) <= set(self.values))

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator["asyncio.Task[None]"]:
        task = asyncio.create_task(self.follower.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def ready(self) -> None:
        async with asyncio.timeout(30):
            await self.follower.ready()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)


async def test_all_that_there_is_has_been_read_when_it_has_caught_up_and_what_comes_later_follows(
    kafka: str, topic: str
) -> None:
    told: list[int] = []
    await send(kafka, topic, "a", "b")
    await send(kafka, topic, "c", partition=1)
    read = Read(kafka, topic, on_caught_up=lambda: told.append(len(read.values)))
    assert not read.follower.caught_up
    assert topic in str(read.follower.failure)
    async with read.following():
        await read.ready()
        assert sorted(read.values) == ["a", "b", "c"]
        assert (read.follower.failure, told) == (None, [3])
        await send(kafka, topic, "d", partition=1)
        async with asyncio.timeout(30):
            await read.follower.reached(TopicPartition(topic, 1), 1)
        assert sorted(read.values) == ["a", "b", "c", "d"]
    assert told == [3], "told once"


async def test_aborted_records_are_never_seen_and_markers_at_the_end_are_no_waiting_work(
    kafka: str, topic: str
) -> None:
    async with transactional(kafka, topic) as producer:
        await write(producer, topic, "committed", commit=True)
        await write(producer, topic, "aborted", "too", commit=False)
    read = Read(kafka, topic)
    async with read.following():
        await read.ready()
        assert read.values == ["committed"]
        # committed, its marker, two that were aborted, their marker
        assert read.follower.positions == {TopicPartition(topic, 0): 5, TopicPartition(topic, 1): 0}


async def test_what_an_open_transaction_holds_back_is_not_waited_for_and_comes_when_it_is_committed(
    kafka: str, topic: str
) -> None:
    read = Read(kafka, topic)
    await send(kafka, topic, "before")
    async with transactional(kafka, topic) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"open", partition=0)
        await send(kafka, topic, "behind")
        async with consuming(kafka) as consumer:
            place = TopicPartition(topic, 0)
            assert await consumer.end_offsets([place]) == {place: 1}
        async with read.following():
            await read.ready()
            assert read.values == ["before"]
            await producer.commit_transaction()
            await read.until("open", "behind")
    assert read.values == ["before", "open", "behind"]


async def test_it_may_begin_at_a_time(kafka: str, topic: str) -> None:
    now = int(time.time() * 1000)
    await send(kafka, topic, "old", at_ms=now - 60_000)
    await send(kafka, topic, "new", "newer", at_ms=now)
    await send(kafka, topic, "old too", at_ms=now - 60_000, partition=1)
    read = Read(kafka, topic, start=since(lambda name: now - 1_000 if name == topic else 0))
    async with read.following():
        await read.ready()
    assert read.values == ["new", "newer"]


async def test_new_partitions_are_read_from_their_beginning(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "_NEW_PARTITIONS_S", 0.1)
    await send(kafka, topic, "a")
    read = Read(kafka, topic)
    async with read.following():
        await read.ready()
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        await admin.create_partitions({topic: NewPartitions(PARTITIONS + 1)})
        await admin.close()
        await send(kafka, topic, "b", partition=PARTITIONS)
        await read.until("b")
    assert read.values == ["a", "b"]


async def test_a_topic_that_is_not_there_yet_is_awaited(kafka: str, topic_prefix: str) -> None:
    name = f"{topic_prefix}-late"
    read = Read(kafka, name)
    async with read.following():
        await until(lambda: "awaiting" in str(read.follower.failure) and name in str(read.follower.failure))
        await create(kafka, name)
        await send(kafka, name, "a")
        await read.until("a")
        await until(lambda: read.follower.failure is None)


async def test_an_outage_is_told_of_and_what_was_read_before_is_not_read_again(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read = Read(kafka, topic)
    getmany = AIOKafkaConsumer.getmany
    failures = 0

    async def fails(consumer: AIOKafkaConsumer, *places: Any, **settings: Any) -> Any:
        nonlocal failures
        if failures < 2:
            failures += 1
            raise KafkaConnectionError("the cable is out")
        return await getmany(consumer, *places, **settings)

    await send(kafka, topic, "a", "b")
    async with read.following():
        await read.until("a", "b")
        monkeypatch.setattr(AIOKafkaConsumer, "getmany", fails)
        await until(lambda: "the cable is out" in str(read.follower.failure))
        await send(kafka, topic, "c")
        await read.until("c")
        await until(lambda: read.follower.failure is None)
    assert read.values == ["a", "b", "c"]
    told = [record.getMessage() for record in caplog.records if record.name == follower.__name__]
    assert len(told) == 2
    assert all(topic in each and "the cable is out" in each and "attempt" in each for each in told)


async def test_a_kafka_that_is_not_there_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST_S", 0.05)
    monkeypatch.setattr(retry, "_JITTER_S", 0.0)
    read = Read("127.0.0.1:1", "nowhere")
    async with read.following() as task:
        await until(lambda: "does not answer" in str(read.follower.failure))
        assert not task.done()
    assert not read.follower.caught_up


@pytest.mark.parametrize("error", [ValueError("no such thing"), KafkaConnectionError("not the follower's")])
async def test_what_the_taker_raises_ends_the_following_and_is_never_silent(
    kafka: str, topic: str, error: Exception
) -> None:
    async def take(fetched: Records) -> None:
        if fetched:
            raise error

    failing = Follower(kafka, [topic], take)
    await send(kafka, topic, "a")
    task = asyncio.create_task(failing.run())
    waiting: list[Awaitable[None]] = [failing.ready(), failing.reached(TopicPartition(topic, 0), 0)]
    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [FollowingEndedError] * 2
    with pytest.raises(type(error)) as raised:
        await task
    assert raised.value is error
    assert "not followed any more" in str(failing.failure)
    assert str(error) in str(failing.failure)
    assert failing.positions[TopicPartition(topic, 0)] == 0, "what was not taken was not read"


async def test_a_range_is_read_as_far_as_it_goes_without_what_lies_around_it(kafka: str, topic: str) -> None:
    place = TopicPartition(topic, 0)
    await send(kafka, topic, *"abcdef")
    assert [record.value for record in await read_range(kafka, place, 1, 4, within_s=30)] == [
        b"b",
        b"c",
        b"d",
    ]
    async with transactional(kafka, topic) as producer:
        await write(producer, topic, "aborted", commit=False)
    assert await read_range(kafka, place, 6, 8, within_s=30) == []
    with pytest.raises(TimeoutError):
        await read_range(kafka, place, 0, 9, within_s=1)
