"""From a pane that closes to the webhook's receipt, with many endpoints of which some are broken.

Rollup, alert and delivery workers run as they are installed, on live traffic. Again and again a service
appears that violates a rule of its own, so that every endpoint is told of a new alert. What is measured,
for each healthy endpoint: from the moment at which the violating pane has closed in the last source
partition (the broker's time of the record on `chat.closed` that says so) to the moment at which the
request has reached the receiver. One endpoint is dead (its port refuses), one answers after 20 s.
"""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import uvicorn
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench import stack
from bench.progress import say
from bench.stack import PARTITIONS, NotInTimeError, Stack
from bench.studies.live import WrongError
from infra.ports import free_port
from schemas.codec import Codec
from schemas.contract import schema
from schemas.topics import ALERTS, CLOSED, ENDPOINTS, NOTIFICATIONS, REQUESTS, RULES, WINDOWS, Topic
from streams.definitions.definition import Definition
from streams.definitions.publisher import DefinitionPublisher

ENDPOINTS_COUNT: Final = 200
ROUNDS: Final = 20
EVERY_S: Final = 2.0
SLOW_S: Final = 20.0
WITHIN_S: Final = 30.0
STARTED_WITHIN_S: Final = 120.0
LATENESS: Final = timedelta(seconds=1)
_DEAD, _SLOW = _BROKEN = ("e000", "e001")
_SECOND_US: Final = 1_000_000
_EVENT: Final = Codec(schema("RequestEvent"))


@dataclass
class Receiver:
    """A web server that notes what reaches it: endpoint, rule and time; and answers, one endpoint late."""

    port: int = field(default_factory=free_port)
    receipts: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        at = time.time()
        endpoint = scope["path"].strip("/")
        for alert in orjson.loads(body)["data"]["alerts"]:
            self.receipts.setdefault((endpoint, alert["rule_id"]), []).append(at)
        if endpoint == _SLOW:
            try:
                async with asyncio.timeout(SLOW_S):
                    await self.stopping.wait()
            except TimeoutError:
                pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def run(home: Path, endpoints: int = ENDPOINTS_COUNT, rounds: int = ROUNDS) -> dict[str, Any]:
    """The figures, in milliseconds. Raises WrongError when a healthy endpoint was not told, or told twice."""
    with stack.running(home) as running:
        return asyncio.run(_measure(running, endpoints, rounds))


async def _measure(running: Stack, endpoints: int, rounds: int) -> dict[str, Any]:
    receiver = Receiver()
    # Each endpoint is a host of its own, as in life: all of 127.0.0.0/8 is this machine.
    config = uvicorn.Config(
        receiver, host="0.0.0.0", port=receiver.port, log_config=None, lifespan="off", access_log=False
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        await _set_up(running.bootstrap, receiver.port, endpoints, rounds)
        settings = {
            "CHATGAUGE_WINDOWS_LATENESS": "PT1S",
            "CHATGAUGE_DELIVERY_ALLOW": '["127.0.0.0/8"]',
            "CHATGAUGE_ALERTS_DEFAULT_RULES": "false",
        }
        for kind in ("rollup", "alerts", "deliveries"):
            running.start_worker(kind, env=settings)
        began = await _provoke(running, receiver, endpoints, rounds)
    finally:
        receiver.stopping.set()
        server.should_exit = True
        await serving
    closed = await _closings(running.bootstrap, began)
    found = _figures(receiver, closed, endpoints, rounds)
    return found | {"stages": await _stages(running.bootstrap, closed)}


async def _set_up(bootstrap: str, port: int, endpoints: int, rounds: int) -> None:
    publisher = DefinitionPublisher(bootstrap)
    try:
        for number in range(endpoints):
            name = f"e{number:03}"
            to = free_port() if name == _DEAD else port
            await _define(
                publisher,
                ENDPOINTS,
                name,
                {"id": name, "channel": "webhook", "url": f"http://127.0.1.{number + 1}:{to}/{name}"},
            )
        for number in range(rounds + 1):
            await _define(
                publisher,
                RULES,
                f"rule-{number}",
                {
                    "id": f"rule-{number}",
                    "name": f"Service {number} is there",
                    "kind": "threshold",
                    "severity": "warning",
                    "metric": "requests",
                    "aggregation": "sum",
                    "grouping": "service",
                    "filter": {"service": [f"service-{number}"]},
                    "pane": "1s",
                    "window": "1s",
                    "operator": ">=",
                    "threshold": 1,
                    "consecutive": 1,
                },
            )
    finally:
        await publisher.stop()


async def _define(
    publisher: DefinitionPublisher, topic: Topic, id_: str, definition: Mapping[str, Any]
) -> None:
    await publisher.publish(topic, Definition(id_, 1, False, time.time_ns() // 1000, "bench", definition))


async def _provoke(running: Stack, receiver: Receiver, endpoints: int, rounds: int) -> list[float]:
    """Traffic in all partitions; and a new service, round after round, once the first has got through.

    When each round's event occurred.
    """

    def everywhere(rule: str) -> Callable[[], bool]:
        return lambda: _heard(receiver, rule) >= endpoints - len(_BROKEN)

    began: list[float] = []
    async with AsyncExitStack() as leaving:
        producer = AIOKafkaProducer(bootstrap_servers=running.bootstrap, linger_ms=5)
        await producer.start()
        leaving.push_async_callback(producer.stop)
        traffic = asyncio.create_task(_traffic(producer))
        leaving.callback(traffic.cancel)
        for number in range(rounds + 1):
            began.append(time.time())
            await producer.send_and_wait(REQUESTS.name, _event(f"service-{number}"), partition=number % 4)
            told = f"rule-{number}"
            if number == 0:
                await _until(running, everywhere(told), STARTED_WITHIN_S)
                say(f"alerting: {endpoints} endpoints are told of alerts")
            else:
                await asyncio.sleep(EVERY_S)
                if number == rounds:
                    await _until(running, everywhere(told), WITHIN_S)
    return began


def _heard(receiver: Receiver, rule: str) -> int:
    return sum(which == rule and endpoint not in _BROKEN for endpoint, which in receiver.receipts)


async def _until(running: Stack, holds: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        running.check()
        if time.monotonic() > deadline:
            raise NotInTimeError(f"alerting: not all endpoints were told within {within_s:.0f} s")
        await asyncio.sleep(0.05)


async def _traffic(producer: AIOKafkaProducer) -> None:
    while True:
        for partition in range(PARTITIONS):
            await producer.send(REQUESTS.name, _event("background"), partition=partition)
        await asyncio.sleep(0.05)


def _event(service: str) -> bytes:
    return _EVENT.encode(
        {
            "event_id": str(uuid.uuid4()),
            "request_id": str(uuid.uuid4()),
            "phase": "finished",
            "occurred_at": time.time_ns() // 1000,
            "service": service,
            "provider": "openai",
            "model": "gpt-4o-mini",
            "total_us": 1_000,
        }
    )


async def _closings(bootstrap: str, began: list[float]) -> list[float]:
    """When the second that each round's event lies in had closed in every source partition."""
    told: dict[int, list[tuple[float, int]]] = {}
    for at, record in await _records(bootstrap, CLOSED):
        if record["table"] == WINDOWS.name and record["pane"] is None:
            watermark = int(record["watermark"].timestamp() * _SECOND_US)
            told.setdefault(record["partition"], []).append((at, watermark))
    closings = []
    for at in began:
        end = (int(at) + 1) * _SECOND_US
        firsts = [min(when for when, watermark in heard if watermark >= end) for heard in told.values()]
        closings.append(max(firsts))
    return closings


async def _stages(bootstrap: str, closed: list[float]) -> dict[str, float]:
    """On the way: milliseconds from the closing, at the median, until the alert and the last notification
    were on their topics."""
    judged: dict[str, float] = {}
    rule_of: dict[str, str] = {}
    for at, alert in await _records(bootstrap, ALERTS):
        judged.setdefault(alert["rule_id"], at)
        rule_of[alert["alert_id"]] = alert["rule_id"]
    planned: dict[str, float] = {}
    for at, notification in await _records(bootstrap, NOTIFICATIONS):
        for told in notification["alerts"]:
            planned[rule_of[told.split("/")[0]]] = at
    rules = [f"rule-{number}" for number in range(1, len(closed))]
    return {
        name: round(float(np.median([(at[rule] - closed[int(rule[5:])]) * 1000 for rule in rules])), 1)
        for name, at in (("judged", judged), ("planned", planned))
    }


async def _records(bootstrap: str, topic: Topic) -> list[tuple[float, dict[str, Any]]]:
    """Everything on a topic, with the broker's time in seconds."""
    codec = Codec(schema(topic.record))
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = range(PARTITIONS if topic.follows_source else 1)
        places = [TopicPartition(topic.name, partition) for partition in partitions]
        ends = await consumer.end_offsets(places)
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        found = []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [(record.timestamp / 1000, codec.decode(record.value)) for record in records]
        return found
    finally:
        await consumer.stop()


def _figures(receiver: Receiver, closed: list[float], endpoints: int, rounds: int) -> dict[str, Any]:
    """Of the healthy endpoints, leaving out the first round, in which all parts are new."""
    healthy = [f"e{number:03}" for number in range(endpoints) if f"e{number:03}" not in _BROKEN]
    told = Counter({key: len(at) for key, at in receiver.receipts.items()})
    wrong = [
        f"{endpoint} was told {told[endpoint, f'rule-{number}']} times of rule-{number}"
        for endpoint in healthy
        for number in range(1, rounds + 1)
        if told[endpoint, f"rule-{number}"] != 1
    ]
    if wrong:
        raise WrongError(f"alerting: {len(wrong)} wrong: {'; '.join(wrong[:5])}")
    late = np.array(
        [
            (receiver.receipts[endpoint, f"rule-{number}"][0] - closed[number]) * 1000
            for endpoint in healthy
            for number in range(1, rounds + 1)
        ]
    )
    found: dict[str, Any] = {"endpoints": endpoints, "rounds": rounds, "receipts": late.size}
    found |= {f"p{q}": round(float(np.quantile(late, q / 100)), 1) for q in (50, 95, 99)}
    found["max"] = round(float(late.max()), 1)
    say(f"alerting: p50 {found['p50']:,.0f}, p95 {found['p95']:,.0f}, p99 {found['p99']:,.0f} ms")
    return found
