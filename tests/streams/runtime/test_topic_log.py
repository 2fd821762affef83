"""The topic below a changelog: what lies in it, and what becomes of Kafka's silence."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError

from infra import topics
from infra.liveness import Unit
from schemas.topics import Topic
from streams.runtime import topic_log
from streams.runtime.changelog import Write
from streams.runtime.entries import RANK_HEADER, Claim, Entry, Rank
from streams.runtime.errors import LogUnavailableError, MovedError
from streams.runtime.publisher import PatientPublisher
from streams.runtime.topic_log import TopicLog

TOPIC = Topic("chat.in-memory", "AgentState")
WRITES = [Write(b"k", b"v", Rank(3, 0)), Write(b"l", None, Rank(3, 1))]


class Published:
    """A publisher that remembers."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def publish(self, messages: Sequence[Any], wanted: Callable[[], bool]) -> list[int]:
        if not wanted():
            raise MovedError
        self.messages += messages
        return [40, 42]


def of(
    publisher: Any = None, end: Any = None, put_claim: Any = None, bootstrap: str = "127.0.0.1:9"
) -> TopicLog:
    return TopicLog(bootstrap, TOPIC, publisher, end=end, put_claim=put_claim)


async def test_what_is_appended_carries_its_rank_to_its_partition() -> None:
    published = Published()
    log = of(published)

    assert log.topic == "chat.in-memory"
    assert await log.append(3, WRITES, lambda: True) == [40, 42]
    assert [(each.topic, each.partition, each.key, each.value) for each in published.messages] == [
        ("chat.in-memory", 3, b"k", b"v"),
        ("chat.in-memory", 3, b"l", None),
    ]
    assert [each.headers for each in published.messages] == [
        ((RANK_HEADER, Rank(3, 0).encode()),),
        ((RANK_HEADER, Rank(3, 1).encode()),),
    ]


async def test_it_is_appended_only_while_it_is_wanted() -> None:
    with pytest.raises(MovedError):
        await of(Published()).append(3, WRITES, lambda: False)


async def test_the_end_and_the_claim_are_kafkas_to_say() -> None:
    asked: list[tuple[int, Claim | None]] = []

    async def end(partition: int) -> int:
        asked.append((partition, None))
        return 17

    async def put_claim(partition: int, claim: Claim) -> None:
        asked.append((partition, claim))

    log = of(end=end, put_claim=put_claim)
    assert await log.end(3) == 17
    await log.claim(3, Claim(2, 17))
    assert asked == [(3, None), (3, Claim(2, 17))]


@pytest.mark.parametrize("error", [KafkaConnectionError("away"), TimeoutError("late")])
async def test_where_kafka_does_not_answer_the_log_is_unavailable(error: Exception) -> None:
    async def silent(*_: object) -> int:
        raise error

    log = of(end=silent, put_claim=silent)
    said = f"{type(error).__name__}: {error}"
    with pytest.raises(LogUnavailableError) as at_the_end:
        await log.end(3)
    with pytest.raises(LogUnavailableError) as at_the_claim:
        await log.claim(3, Claim(2, 17))
    assert [str(at_the_end.value), str(at_the_claim.value)] == [said, said]


async def test_an_end_that_nobody_says_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(partition: int) -> int:
        await asyncio.Event().wait()
        return partition

    monkeypatch.setattr(topic_log, "_WITHIN_S", 0.01)
    async with asyncio.timeout(10):
        with pytest.raises(LogUnavailableError, match="TimeoutError"):
            await of(end=never).end(3)


async def test_a_refused_claim_is_no_silence() -> None:
    async def refused(*_: object) -> None:
        raise MovedError("newer")

    with pytest.raises(MovedError, match="newer"):
        await of(put_claim=refused).claim(3, Claim(2, 17))


async def test_a_broker_that_is_not_there_makes_the_log_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_log, "_WITHIN_S", 2.0)
    async with asyncio.timeout(10):
        with pytest.raises(LogUnavailableError, match=r"^(KafkaConnectionError|TimeoutError): "):
            await of().read(3, 0, 1)


async def test_what_was_appended_is_read_with_its_rank(kafka: str, topic_prefix: str) -> None:
    topic = Topic(f"{topic_prefix}-state", "AgentState")
    await topics.create(kafka, partitions=2, topics=[topic])
    publisher = PatientPublisher(kafka, Unit("test"))
    log = TopicLog(kafka, topic, publisher, end=cast("Any", None), put_claim=cast("Any", None))
    try:
        assert await log.append(1, WRITES * 2, lambda: True) == [0, 1, 2, 3]
    finally:
        await publisher.stop()

    assert await log.read(1, 1, 3) == [
        Entry(1, b"l", None, Rank(3, 1)),
        Entry(2, b"k", b"v", Rank(3, 0)),
    ]
    assert await log.read(0, 0, 0) == []
