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
from typing import Any

import pytest

from schemas import topics
from schemas.codec import Codec
from schemas.contract import schema
from schemas.topics import Topic
from streams.alerts.rule import dumped
from streams.clock import clock
from streams.definitions import Definition, Registrar
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
    registrar = Registrar(broker.bootstrap)
    for each in definitions:
        await registrar.publish(topic, Definition(each["id"], 1, False, clock(), "ada", each))
    await registrar.stop()


def send(broker: Broker, topic: str, record: str, events: Iterable[dict[str, Any]]) -> None:
    codec = Codec(schema(record))
    broker.send(topic, {0: [codec.encode(event) for event in events]})


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


async def test_events_are_followed_only_while_somebody_wants_them(broker: Broker) -> None:
    wanting = endpoint_of("dev", subscriptions=[{"types": ["request.failed"]}]).model_dump(mode="json")
    definitions = Definitions(broker.bootstrap)
    subscribing = Subscribing(broker.bootstrap, definitions, "https://gauge.example.org")

    async def heard(*wanted: str) -> None:
        async with asyncio.timeout(40):
            while not set(wanted) <= set(await asyncio.to_thread(requests)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    def requests() -> list[str]:
        made = read(broker, "chat.notifications", "Notification")
        bodies = (json.loads(each["body"])["data"] for each in made if each["type"] == "request.failed")
        return [each["request_id"] for each in bodies]

    async def fail(number: int) -> None:
        await asyncio.to_thread(send, broker, "chat.requests", "RequestEvent", failed(number))

    async def followed(topics_followed: int) -> None:
        async with asyncio.timeout(20):
            while metrics.SUBSCRIBED.collect()[0].samples[0].value != topics_followed:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    await definitions.begin()
    subscribing.start()
    try:
        await publish(broker, topics.ENDPOINTS, wanting)
        await fail(11)
        await heard("r11")
        await publish(broker, topics.ENDPOINTS, {**wanting, "enabled": False})
        await followed(0)
        await fail(12)
        await publish(broker, topics.ENDPOINTS, wanting)
        await fail(13)
        await heard("r13")
    finally:
        await subscribing.stop()
        await definitions.end()

    told = await asyncio.to_thread(requests)
    assert [each for each in told if each in ("r11", "r12", "r13")] == ["r11", "r13"]
