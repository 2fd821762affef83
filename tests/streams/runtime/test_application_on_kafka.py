"""An agent in this process, on a real Kafka: what it is handed, what it leaves there, and how it ends."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, cast

import faust
import pytest
from aiokafka import AIOKafkaProducer

from infra import topics
from infra.liveness import Part
from infra.settings import KafkaSettings
from schemas.topics import Topic
from streams.runtime.agent import Wiring
from streams.runtime.fetch import Fetch
from streams.runtime.harness import build
from streams.runtime.ledger import Ledger, State
from streams.runtime.transport import BatchConsumer

PATIENCE_S: Final = 60.0
PARTITIONS: Final = 2

pytestmark = pytest.mark.timeout(180)


class Keeping:
    """An agent that keeps the values of each fetch, and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.fetches: list[tuple[int, list[bytes | None]]] = []
        self.states: dict[int, dict[bytes, State]] = {}
        self.ticks = 0

    async def begin(self, ledger: Ledger) -> None:
        self.told.append("begin")

    def restore(self, states: Mapping[int, Mapping[bytes, State]], now: int) -> None:
        self.told.append("restore")
        self.states = {partition: dict(entries) for partition, entries in states.items()}

    async def resume(self, ledger: Ledger) -> None:
        self.told.append("resume")

    def reading_from(self, partition: int, committed: int) -> int:
        return committed

    def forget(self) -> None:
        self.told.append("forget")

    async def step(self, partition: int, fetch: Fetch, committed: int, ledger: Ledger) -> None:
        values = [record.value for record in fetch.records]
        self.fetches.append((partition, values))
        await ledger.write(partition, {b"last": values[-1]} if values else {})

    async def tick(self, now: int, ledger: Ledger) -> None:
        self.ticks += 1

    async def end(self) -> None:
        self.told.append("end")

    @property
    def taken(self) -> list[bytes | None]:
        return [value for _, values in self.fetches for value in values]


async def until(what: str, condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)
    assert condition(), what


@pytest.fixture
async def wiring(kafka: str, topic_prefix: str) -> Wiring:
    source = Topic(f"{topic_prefix}-source", "RequestEvent")
    state = Topic(f"{topic_prefix}-state", "AgentState", {"cleanup.policy": "compact"})
    await topics.create(kafka, partitions=PARTITIONS, topics=[source, state])
    return Wiring(topic_prefix, source, state, PARTITIONS, timedelta(milliseconds=10))


@asynccontextmanager
async def running(
    kafka: str, agent: Keeping, wiring: Wiring, part: Part | None = None
) -> AsyncIterator[faust.App]:
    app = build(agent, wiring, KafkaSettings(bootstrap=kafka), part)
    await app.start()
    try:
        await until("it has taken up its state", lambda: "resume" in agent.told)
        yield app
    finally:
        await app.stop()


async def send(kafka: str, topic: Topic, values: Sequence[bytes], partition: int = 0) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for value in values:
            await producer.send_and_wait(topic.name, value, key=b"k", partition=partition)


async def test_an_agent_takes_its_source_and_goes_on_where_it_was(kafka: str, wiring: Wiring) -> None:
    await send(kafka, wiring.source, [b"a", b"b"])
    first = Keeping()
    async with running(kafka, first, wiring):
        await until("it has taken all", lambda: first.taken == [b"a", b"b"])
        await until("it follows the clock", lambda: first.ticks)
    await send(kafka, wiring.source, [b"c"])
    second = Keeping()
    async with running(kafka, second, wiring) as app:
        await until("it has taken the rest", lambda: second.taken)
        consumer = cast("BatchConsumer", app.consumer)
        assert second.states[0][b"last"] == State(1, b"b")
    assert second.taken == [b"c"]
