"""The worker as a process, on a real Kafka, with real receivers: what it does about endpoints."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from schemas.time import clock
from streams.definitions.definition import Definition
from streams.definitions.publisher import DefinitionPublisher
from streams.definitions.topic import DefinitionTopic
from streams.endpoints.secrets import open_vault
from tests.streams.deliveries.drill.receiver import Receiver
from tests.streams.deliveries.drill.topics import attempts, new_secret, notification, publish, set_up
from tests.streams.deliveries.drill.worker import Worker

pytestmark = pytest.mark.timeout(150)

_PARTITIONS = 2
_WITHIN_S = 40


@pytest.fixture
def bootstrap(fresh_kafka: str, create_topics: Callable[..., None]) -> str:
    create_topics(fresh_kafka, partitions=_PARTITIONS)
    return fresh_kafka


@pytest.fixture
async def receivers() -> AsyncIterator[dict[str, Receiver]]:
    made = {id_: Receiver(id_, new_secret(), 1, failing=0) for id_ in ("hook", "gone", "watch")}
    made["gone"].always = 410
    yield made
    for receiver in made.values():
        await receiver.stop()


async def until(what: str, condition: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(_WITHIN_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"waited in vain: {what}")


async def log_of(bootstrap: str, id_: str, count: int) -> list[tuple[int, int, str]]:
    """What the log says of a notification, once it says so much: redriven, attempt, outcome."""
    async with asyncio.timeout(_WITHIN_S):
        while True:
            log = [each for each in await attempts(bootstrap, _PARTITIONS) if each["notification_id"] == id_]
            if len(log) >= count:
                return [(each["redriven"], each["attempt"], each["outcome"]) for each in log]
            await asyncio.sleep(0.1)


async def test_an_endpoint_that_is_gone_is_disabled_and_what_was_parked_can_be_redriven(
    bootstrap: str, receivers: dict[str, Receiver], tmp_path: Path
) -> None:
    hook, gone, watch = receivers.values()
    vault = open_vault(None, tmp_path, create=True)
    endpoints = [(each.endpoint_id, await each.start(), each.secret) for each in receivers.values()]
    await set_up(bootstrap, vault, endpoints, 5.0)
    publisher = DefinitionPublisher(bootstrap)
    # Without room for bodies each is read again from Kafka before it is sent.
    worker = Worker(bootstrap, _PARTITIONS, tmp_path, (0.2,), CHATGAUGE_DELIVERY_BODY_MEMORY="0")
    made = [notification(1, "hook"), notification(2, "gone"), notification(3, "gone")]
    rest = random.Random(1)

    async def redrive(number: int) -> None:
        await publish(bootstrap, [replace(made[number - 1], redriven=1)], rest)

    try:
        async with DefinitionTopic(bootstrap, topics.ENDPOINTS) as followed:
            await followed.ready()
            worker.start()
            await publish(bootstrap, made[:2], rest)

            def definition() -> dict[str, Any]:
                return dict(followed.items["gone"].definition)

            await until("delivered", lambda: "nt_00000001" in hook.taken)
            await until("the endpoint is disabled", lambda: not definition()["enabled"])
            assert definition()["disabled_because"] == "the receiver answered 410 Gone"
            assert followed.items["gone"].revision == 2
            await until("the others are told", lambda: bool(watch.requests))
            body = json.loads(watch.requests[0].body)
            assert (body["type"], body["data"]["endpoint_id"]) == ("endpoint.failing", "gone")
            assert body["data"]["disabled"]

            await publish(bootstrap, made[2:], rest)
            assert await log_of(bootstrap, "nt_00000003", 1) == [(0, 0, "parked")]
            assert len(gone.requests) == 1

            gone.always = None
            enabled = definition() | {"enabled": True}
            await publisher.publish(
                topics.ENDPOINTS, Definition("gone", 3, False, clock(), "a person", enabled)
            )
            await redrive(2)
            await redrive(3)
            await until("delivered anew", lambda: gone.taken == {"nt_00000002", "nt_00000003"})
            assert await log_of(bootstrap, "nt_00000002", 2) == [(0, 1, "parked"), (1, 1, "delivered")]

        assert worker.stop() == 0, worker.tail()
        worker.start()
        await publish(bootstrap, [*made, notification(4, "hook")], rest)
        await until("what is new is delivered", lambda: "nt_00000004" in hook.taken)
        assert worker.stop() == 0, worker.tail()
        told = [each.webhook_id for each in hook.requests if b"alert.firing" in each.body]
        assert told == ["nt_00000001", "nt_00000004"]
        assert all(each.signed for receiver in receivers.values() for each in receiver.requests)
    finally:
        worker.stop()
        await publisher.stop()
