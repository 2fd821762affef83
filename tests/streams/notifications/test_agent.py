"""The notifier's worker as a process, on a real Kafka."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen
from typing import Any, Self

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from schemas import topics
from schemas.codec import Codec
from schemas.contract import schema
from schemas.time import clock
from schemas.topics import Topic
from streams.alerts.rule import dumped
from streams.definitions.definition import Definition
from streams.definitions.publisher import DefinitionPublisher
from streams.notifications import metrics
from streams.notifications.definitions import Definitions
from streams.notifications.subscribing import Subscribing
from tests.streams.broker import Broker, process, wait_until
from tests.streams.notifications.examples import alert_record, endpoint_of, rule_of

pytestmark = pytest.mark.timeout(150)

PARTITIONS = 2
WORKER = Path(__file__).with_name("notifying_worker.py")


@pytest.fixture(scope="module")
def broker(fresh_kafka: str, create_topics: Callable[..., None]) -> Broker:
    create_topics(fresh_kafka, partitions=PARTITIONS)
    return Broker(fresh_kafka)


Worker = Callable[..., "AbstractContextManager[Popen[str]]"]


@pytest.fixture
def worker(broker: Broker, tmp_path: Path) -> Worker:
    """`with worker(*options):` runs it meanwhile."""

    def running(*options: str) -> "AbstractContextManager[Popen[str]]":
        command = [sys.executable, str(WORKER), broker.bootstrap, str(PARTITIONS), *options]
        return process(command, os.environ, tmp_path / "worker.log")

    return running


def define(broker: Broker, topic: Topic, *definitions: dict[str, Any]) -> None:
    asyncio.run(publish(broker, topic, *definitions))


async def publish(broker: Broker, topic: Topic, *definitions: dict[str, Any]) -> None:
    publisher = DefinitionPublisher(broker.bootstrap)
    for each in definitions:
        await publisher.publish(topic, Definition(each["id"], 1, False, clock(), "ada", each))
    await publisher.stop()


def send(
    broker: Broker, topic: str, record: str, events: Iterable[dict[str, Any]], partition: int = 0
) -> None:
    codec = Codec(schema(record))
    broker.send(topic, {partition: [codec.encode(event) for event in events]})


def read(broker: Broker, topic: str, record: str) -> list[dict[str, Any]]:
    codec = Codec(schema(record))
    return [codec.decode(each.value) for each in broker.records(topic) if each.value is not None]


def failed(*numbers: int) -> list[dict[str, Any]]:
    return [
        {
            "event_id": f"e{number}",
            "request_id": f"r{number}",
            "phase": "finished",
            "occurred_at": clock(),
            "service": "chat",
            "provider": "openai",
            "model": "o3",
            "error_type": "timeout",
        }
        for number in numbers
    ]


def test_a_killed_worker_loses_nothing_and_the_next_one_tells_it_once(broker: Broker, worker: Worker) -> None:
    define(broker, topics.RULES, dumped(rule_of()))
    define(broker, topics.ENDPOINTS, *(endpoint_of(id_).model_dump(mode="json") for id_ in ("a", "b")))
    send(broker, "chat.requests", "RequestEvent", failed(1, 2))
    storm = [alert_record(f"al_{number}", at=clock()) for number in range(300)]

    with worker("--killed") as first:
        send(broker, "chat.alerts", "Alert", storm)
        wait_until("it has killed itself", lambda: first.poll() == -signal.SIGKILL)
    assert read(broker, "chat.notifications", "Notification") == []

    subscription = [{"types": ["request.failed"]}]
    define(broker, topics.ENDPOINTS, endpoint_of("dev", subscriptions=subscription).model_dump(mode="json"))
    send(broker, "chat.requests", "RequestEvent", failed(3, 4))
    with worker() as second:
        wait_until("all is told", lambda: len(read(broker, "chat.notifications", "Notification")) >= 6)
        resolved = [{**each, "transition": 2, "state": "resolved"} for each in storm[:10]]
        send(broker, "chat.alerts", "Alert", resolved)
        broker.wait_until_acknowledged("chatgauge-notifier", "chat.alerts")
        broker.wait_until_acknowledged("chatgauge-subscriptions", "chat.requests")
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0
    send(broker, "chat.requests", "RequestEvent", failed(5))
    with worker():
        wait_until("the rest is told", lambda: len(read(broker, "chat.notifications", "Notification")) >= 7)

    made = {each["notification_id"]: each for each in read(broker, "chat.notifications", "Notification")}
    told = Counter(
        (each["endpoint_id"], transition) for each in made.values() for transition in each["alerts"]
    )
    assert told == Counter((id_, f"al_{number}/1") for id_ in ("a", "b") for number in range(300))
    assert sorted(len(each["alerts"]) for each in made.values()) == [0, 0, 0, 100, 100, 200, 200]
    events = [json.loads(each["body"])["data"] for each in made.values() if each["endpoint_id"] == "dev"]
    assert sorted(each["request_id"] for each in events) == ["r3", "r4", "r5"], "since the subscription"
    decided = {each["decision_id"]: each for each in read(broker, "chat.decisions", "Decision")}
    assert Counter(each["what"] for each in decided.values()) == {"notified": 600}


class Followed:
    """Subscriptions at work in this process, and what they tell of requests that failed."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._definitions = Definitions(broker.bootstrap)
        self._subscribing = Subscribing(broker.bootstrap, self._definitions, "https://gauge.example.org")

    async def __aenter__(self) -> Self:
        await self._definitions.begin()
        self._subscribing.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._subscribing.stop()
        await self._definitions.end()

    async def want(self, wanted: bool = True) -> None:
        """Have an endpoint that subscribes to them, or one that is disabled."""
        wanting = endpoint_of("dev", subscriptions=[{"types": ["request.failed"]}]).model_dump(mode="json")
        await publish(self._broker, topics.ENDPOINTS, {**wanting, "enabled": wanted})

    async def until_unwanted(self) -> None:
        """Disable the endpoint, and wait until no topic is followed."""
        await self.want(False)
        async with asyncio.timeout(20):
            while metrics.SUBSCRIBED.collect()[0].samples[0].value != 0:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def fail(self, number: int, partition: int = 0) -> None:
        """A request fails."""
        await asyncio.to_thread(
            send, self._broker, "chat.requests", "RequestEvent", failed(number), partition=partition
        )

    async def told(self) -> list[str]:
        """The requests of which was told."""
        made = await asyncio.to_thread(read, self._broker, "chat.notifications", "Notification")
        bodies = (json.loads(each["body"])["data"] for each in made if each["type"] == "request.failed")
        return [each["request_id"] for each in bodies]

    async def until_told(self, *wanted: str) -> None:
        async with asyncio.timeout(40):
            while not set(wanted) <= set(await self.told()):  # noqa: ASYNC110 - Kafka has no such event
                await asyncio.sleep(0.1)


async def test_events_are_followed_only_while_somebody_wants_them(broker: Broker) -> None:
    async with Followed(broker) as followed:
        await followed.want()
        await followed.fail(11)
        await followed.until_told("r11")
        await followed.until_unwanted()
        await followed.fail(12)
        await followed.want()
        await followed.fail(13)
        await followed.until_told("r13")
        told = await followed.told()
    assert [each for each in told if each in ("r11", "r12", "r13")] == ["r11", "r13"]


async def test_nothing_is_read_before_every_partition_has_begun(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition that begins early is not committed back to where it began by one that begins late."""
    begin = AIOKafkaConsumer.offsets_for_times
    begun: list[int] = []

    async def slowly(consumer: AIOKafkaConsumer, times: dict[TopicPartition, int]) -> Any:
        if begun:
            await asyncio.sleep(1.5)
        begun.extend(place.partition for place in times)
        return await begin(consumer, times)

    async with Followed(broker) as followed:
        await followed.until_unwanted()
        monkeypatch.setattr(AIOKafkaConsumer, "offsets_for_times", slowly)
        await followed.want()
        for partition in range(PARTITIONS):
            await followed.fail(21 + partition, partition)
        await followed.until_told("r21", "r22")
        await asyncio.to_thread(broker.wait_until_acknowledged, "chatgauge-subscriptions", "chat.requests")
    assert len(begun) == PARTITIONS


async def test_a_beginning_that_failed_is_made_again(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = AIOKafkaConsumer.offsets_for_times
    failures: list[KafkaError] = []
    begun: list[int] = []

    async def fails_once(consumer: AIOKafkaConsumer, times: dict[TopicPartition, int]) -> Any:
        if not failures:
            failures.append(KafkaTimeoutError())
            raise failures[0]
        begun.extend(place.partition for place in times)
        return await begin(consumer, times)

    async with Followed(broker) as followed:
        await followed.until_unwanted()
        monkeypatch.setattr(AIOKafkaConsumer, "offsets_for_times", fails_once)
        await followed.want()
        await followed.fail(31)
        await followed.until_told("r31")
    assert sorted(begun) == list(range(PARTITIONS))
