"""An agent in this process, on a real Kafka: what it is handed, what it leaves there, and how it ends."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast

import faust
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from infra import topics
from infra.liveness import Part
from infra.settings import KafkaSettings
from schemas.topics import Topic
from streams.runtime.agent import Wiring
from streams.runtime.consumer_thread import ConsumerThread
from streams.runtime.fetch import Fetch
from streams.runtime.harness import build
from streams.runtime.ledger import Ledger, State
from streams.runtime.transport import BatchConsumer
from tests.streams.broker import Broker

PATIENCE_S: Final = 60.0
PARTITIONS: Final = 2

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]


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
    """Waits for it. Fails, saying what was waited for, when it takes too long."""
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends, f"waited in vain: {what}"
        await asyncio.sleep(0.02)


def wired(prefix: str) -> Wiring:
    source = Topic(f"{prefix}-source", "RequestEvent")
    state = Topic(f"{prefix}-state", "AgentState", {"cleanup.policy": "compact"})
    return Wiring(prefix, source, state, PARTITIONS, timedelta(milliseconds=10))


@dataclass
class Running:
    """An agent at work."""

    agent: Keeping
    wiring: Wiring
    app: faust.App
    part: Part

    @property
    def consumer(self) -> BatchConsumer:
        return cast("BatchConsumer", self.app.consumer)

    @property
    def client(self) -> AIOKafkaConsumer:
        return cast("ConsumerThread", self.consumer._thread)._ensure_consumer()

    def place(self, partition: int) -> TP:
        return TP(self.wiring.source.name, partition)


@asynccontextmanager
async def running(bootstrap: str, agent: Keeping, wiring: Wiring) -> AsyncIterator[Running]:
    part = Part("test", exit=lambda status: pytest.fail(f"the process ends with {status}"))
    app = build(agent, wiring, KafkaSettings(bootstrap=bootstrap), part)
    await app.start()
    try:
        await until("it has taken up its state", lambda: "resume" in agent.told)
        yield Running(agent, wiring, app, part)
    finally:
        await app.stop()


class Sending:
    """Sends to partitions of a topic."""

    def __init__(self, bootstrap: str, topic: Topic) -> None:
        self._bootstrap = bootstrap
        self._topic = topic.name

    async def __call__(self, *values: bytes, partition: int = 0) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self._bootstrap) as producer:
            for value in values:
                await producer.send_and_wait(self._topic, value, key=b"k", partition=partition)

    async def abort(self, *values: bytes, partition: int = 0) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, transactional_id=self._topic)
        async with producer:
            await producer.begin_transaction()
            for value in values:
                await producer.send_and_wait(self._topic, value, key=b"k", partition=partition)
            await producer.abort_transaction()


async def committed(bootstrap: str, wiring: Wiring) -> dict[int, OffsetAndMetadata]:
    """What the agent's group has committed, by partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(f"chatgauge-{wiring.name}")
        return {place.partition: each for place, each in found.items() if each.offset >= 0}
    finally:
        await admin.close()


async def until_committed(bootstrap: str, wiring: Wiring, offset: int, partition: int = 0) -> None:
    ends = time.monotonic() + PATIENCE_S
    while (each := (await committed(bootstrap, wiring)).get(partition)) is None or each.offset < offset:
        assert time.monotonic() < ends, f"only {each} is committed of partition {partition}"


# One agent, that the tests work with one after the other.


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def one(kafka: str) -> AsyncIterator[Running]:
    wiring = wired(f"test-{uuid.uuid4().hex[:12]}")
    await topics.create(kafka, partitions=PARTITIONS, topics=[wiring.source, wiring.state])
    async with running(kafka, Keeping(), wiring) as one:
        yield one


@pytest.fixture
def send(kafka: str, one: Running) -> Sending:
    return Sending(kafka, one.wiring.source)


async def test_it_takes_what_is_sent_and_follows_the_clock(one: Running, send: Sending) -> None:
    await send(b"a", b"b")
    await until("it has taken all", lambda: one.agent.taken == [b"a", b"b"])
    await until("it is told of the clock", lambda: one.agent.ticks > 2)
    assert one.agent.told[-3:] == ["begin", "restore", "resume"]


async def test_what_is_taken_is_committed_with_the_claim(one: Running, kafka: str) -> None:
    await until_committed(kafka, one.wiring, 2)
    found = await committed(kafka, one.wiring)
    assert [found[partition].metadata for partition in range(PARTITIONS)] == ["owner: epoch 1 since 0"] * 2
    assert (found[0].offset, found[1].offset) == (2, 0)


async def test_what_was_aborted_is_not_seen_and_is_no_work(one: Running, send: Sending, kafka: str) -> None:
    await send.abort(b"aborted", partition=1)
    await send(b"c", partition=1)
    await until("it has taken what came behind it", lambda: b"c" in one.agent.taken)
    assert b"aborted" not in one.agent.taken
    await until("it is caught up", lambda: one.consumer.caught_up(one.place(1)))
    assert one.consumer.caught_up(one.place(0))
    assert not await one.consumer.has_work([one.place(0), one.place(1)])
    await until_committed(kafka, one.wiring, 3, partition=1)


async def test_the_broker_gathers_what_it_sends(one: Running) -> None:
    assert one.client._fetch_max_wait_ms == 10
    assert one.client._fetch_min_bytes == one.wiring.min_bytes
    assert one.consumer.topic_partitions(one.wiring.source.name) == PARTITIONS
    assert one.consumer.topic_partitions("chat.nowhere") is None


async def test_a_note_is_committed_by_the_present_generation_alone(one: Running, kafka: str) -> None:
    tp, generation = one.place(0), one.app.consumer_generation_id
    note = one.consumer.note_of(tp)
    assert note is not None
    try:
        assert await one.consumer.commit_note(tp, "noted")
        assert await one.consumer.committed_notes([tp]) == {tp: "noted"}
        one.app.consumer_generation_id = generation - 1
        assert not await one.consumer.commit_note(tp, "too late")
        assert await one.consumer.committed_notes([tp]) == {tp: "noted"}
    finally:
        one.app.consumer_generation_id = generation
        assert await one.consumer.commit_note(tp, note)
    assert (await committed(kafka, one.wiring))[0] == OffsetAndMetadata(2, note)


async def test_of_a_partition_that_nothing_is_committed_of_there_is_no_offset(one: Running) -> None:
    nowhere = TP(one.wiring.state.name, 0)
    thread = cast("ConsumerThread", one.consumer._thread)
    assert await thread.committed_offsets([one.place(0), nowhere]) == {one.place(0): 2}
    assert (await thread.committed_notes([one.place(0)])).keys() == {one.place(0)}


async def test_it_is_watched_over_with_the_client_and_its_thread(one: Running) -> None:
    group = f"chatgauge-{one.wiring.name}"
    assert {loop.name for loop in one.part.loops()} == {"main", f"consumer of {group}"}
    checks = dict(one.part.guards().values())
    check = checks[f"the consumer of {group}"]
    assert check() is None
    cancel = one.client._fetcher._fetch_task.cancel
    one.consumer._thread.thread_loop.call_soon_threadsafe(cancel)
    await until("the client's task has ended", lambda: check() is not None)
    assert "the fetching task of Kafka's client" in str(check())


# One that is stopped, and started again.


async def test_the_next_one_goes_on_where_it_was(kafka: str, topic_prefix: str) -> None:
    wiring = wired(topic_prefix)
    await topics.create(kafka, partitions=PARTITIONS, topics=[wiring.source, wiring.state])
    send = Sending(kafka, wiring.source)
    await send(b"a", b"b")
    async with running(kafka, Keeping(), wiring) as first:
        await until("it has taken all", lambda: first.agent.taken == [b"a", b"b"])
        await until_committed(kafka, wiring, 2)
    assert first.agent.told[-1] == "end"
    assert first.part.guards() == {}
    assert await asyncio.to_thread(Broker(kafka).members, f"chatgauge-{wiring.name}") == 0, "it has left"

    await send(b"c")
    async with running(kafka, Keeping(), wiring) as second:
        assert second.agent.states == {0: {b"last": State(1, b"b")}, 1: {}}
        await until("it has taken what is left", lambda: second.agent.taken)
        assert second.agent.taken == [b"c"]
        notes = {each.metadata for each in (await committed(kafka, wiring)).values()}
    assert notes == {"owner: epoch 2 since 1", "owner: epoch 2 since 0"}
