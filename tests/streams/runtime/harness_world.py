"""A harness between an agent of the test's own and a changelog in memory.

On a real Kafka, see test_harness and test_application_on_kafka.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

from faust.types import TP, Message

from clients.kafka.fetched import Fetched
from clients.kafka.publisher import Message as Sent
from infra.liveness import Part
from schemas.batch_writer import batch_of
from schemas.time import SECOND
from schemas.topics import ALERT_STATE, REQUESTS
from streams.runtime.agent import Wiring
from streams.runtime.changelog import Write
from streams.runtime.entries import Claim, Entry, Rank
from streams.runtime.errors import LogUnavailableError
from streams.runtime.fetch import Fetch
from streams.runtime.harness import Harness
from streams.runtime.ledger import Ledger, State

WIRING = Wiring(
    *("counting", REQUESTS, ALERT_STATE, 4, timedelta(milliseconds=20)), tick_every=timedelta(milliseconds=1)
)
GENERATION = 5
NOW = 1_700_000_000 * SECOND


class Consumer:
    """The group's member: partitions 0 and 1 of the source are its own."""

    def __init__(self) -> None:
        self.assigned = {TP(REQUESTS.name, 0), TP(REQUESTS.name, 1), TP(ALERT_STATE.name, 0)}
        self.notes: dict[TP, str] = {}
        self.refuses: set[int] = set()
        self.begun: dict[TP, int] = {}
        self.sought: list[tuple[TP, int]] = []
        self.ends: dict[TP, int] = {}
        self.work: bool | Exception = False
        self.asked_for_work: list[Collection[TP]] = []
        self.partitions: int | None = 4

    def assignment(self) -> set[TP]:
        return self.assigned

    async def committed_notes(self, places: Collection[TP]) -> dict[TP, str]:
        return {tp: self.notes[tp] for tp in places if tp in self.notes}

    async def commit_note(self, tp: TP, note: str) -> bool:
        if tp.partition in self.refuses:
            return False
        self.notes[tp] = note
        return True

    async def highwaters(self, *places: TP) -> dict[TP, int]:
        return {tp: self.ends[tp] for tp in places if tp in self.ends}

    async def has_work(self, places: Collection[TP]) -> bool:
        self.asked_for_work.append(places)
        if isinstance(self.work, Exception):
            raise self.work
        return self.work

    def begun_at(self, tp: TP) -> int | None:
        return self.begun.get(tp, 0)

    async def seek(self, tp: TP, offset: int) -> None:
        self.sought.append((tp, offset))

    def caught_up(self, tp: TP) -> bool:
        return tp == TP(REQUESTS.name, 1)

    def topic_partitions(self, topic: str) -> int | None:
        assert topic == REQUESTS.name
        return self.partitions


class App:
    """What the harness has of Faust."""

    def __init__(self) -> None:
        self.consumer = Consumer()
        self.consumer_generation_id = GENERATION
        self.should_stop = False
        self.futures: list[asyncio.Task[None]] = []

    def add_future(self, work: Coroutine[Any, Any, None]) -> None:
        self.futures.append(asyncio.create_task(work))


class MemoryLog:
    """The changelog's topic in memory. Its end and its claims go through the harness."""

    def __init__(self, bootstrap: str, topic: Any, publisher: Any, *, end: Any, put_claim: Any) -> None:
        self.topic = topic.name
        self.records: defaultdict[int, list[Entry]] = defaultdict(list)
        self.unavailable = 0
        self.waits: Callable[[], object] = lambda: None
        self._end = end
        self._put_claim = put_claim

    async def end(self, partition: int) -> int:
        self.waits()
        if self.unavailable:
            self.unavailable -= 1
            raise LogUnavailableError("away")
        return cast("int", await self._end(partition))

    async def read(self, partition: int, begin: int, end: int) -> Sequence[Entry]:
        return self.records[partition][begin:end]

    async def append(
        self, partition: int, writes: Sequence[Write], wanted: Callable[[], bool]
    ) -> Sequence[int]:
        begin = len(self.records[partition])
        self.records[partition] += [Entry(begin + at, *write) for at, write in enumerate(writes)]
        return range(begin, begin + len(writes))

    async def claim(self, partition: int, claim: Claim) -> None:
        await self._put_claim(partition, claim)


class Published:
    """A publisher that remembers."""

    def __init__(self, bootstrap: str, unit: Any) -> None:
        self.bootstrap = bootstrap
        self.unit = unit
        self.messages: list[Sent] = []
        self.stopped = False

    async def publish(self, messages: Sequence[Sent]) -> None:
        self.messages += messages

    async def stop(self) -> None:
        self.stopped = True


class Agent:
    """Remembers what it is told, and does in a step or a tick what a test says."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.states: Mapping[int, Mapping[bytes, State]] = {}
        self.now = 0
        self.does: Callable[[Ledger], Awaitable[object]] | None = None
        self.rewinds = 0

    async def begin(self, ledger: Ledger) -> None:
        self.told.append("begin")
        await self._do(ledger)

    def restore(self, states: Mapping[int, Mapping[bytes, State]], now: int) -> None:
        self.told.append("restore")
        self.states, self.now = states, now

    async def resume(self, ledger: Ledger) -> None:
        self.told.append("resume")
        await self._do(ledger)

    def reading_from(self, partition: int, committed: int) -> int:
        self.told.append(("reading", partition, committed))
        return committed - self.rewinds

    def forget(self) -> None:
        self.told.append("forget")

    async def step(self, partition: int, fetch: Fetch, committed: int, ledger: Ledger) -> None:
        self.told.append(("step", partition, fetch.first, committed))
        await self._do(ledger)

    async def tick(self, now: int, ledger: Ledger) -> None:
        self.told.append(("tick", now))
        await self._do(ledger)

    async def end(self) -> None:
        self.told.append("end")

    async def _do(self, ledger: Ledger) -> None:
        if self.does is not None:
            await self.does(ledger)

    def steps(self) -> list[tuple[int, int]]:
        return [each[1:3] for each in self.told if each[0] == "step"]


class World:
    """A harness, and everything around it."""

    def __init__(self, wiring: Wiring = WIRING) -> None:
        self.app, self.agent, self.wiring = App(), Agent(), wiring
        self.statuses: list[int] = []
        self.now_s = 0.0
        self.part = Part("test", clock=lambda: self.now_s, exit=self.statuses.append)
        self.table = SimpleNamespace()
        self.harness = Harness(
            cast("Any", self.app),
            self.agent,
            wiring,
            cast("Any", self.table),
            "127.0.0.1:9",
            self.part,
        )
        self.consumer = self.app.consumer
        self.unit = self.part.unit(wiring.name)
        self.changelog = self.harness._changelog
        self.log = cast("MemoryLog", self.changelog._log)
        self.published = cast("Published", cast("Any", self.harness._publisher))
        self.acknowledged: list[int] = []

    def write(self, partition: int, key: bytes, value: bytes | None, rank: tuple[int, int]) -> None:
        """By anybody, before this worker."""
        records = self.log.records[partition]
        records.append(Entry(len(records), key, value, Rank(*rank)))
        self.consumer.ends[TP(ALERT_STATE.name, partition)] = len(records)

    async def assign(self, *partitions: int) -> None:
        """As Faust does it: the partitions are recovered and taken over, then sought."""
        self.consumer.assigned = {TP(REQUESTS.name, each) for each in partitions}
        self.consumer.assigned.add(TP("chat.beside", 3))
        await self.harness.expect(frozenset(partitions))
        await self.harness.restore()

    async def seek(self, partition: int, committed: int) -> int:
        tp = TP(REQUESTS.name, partition)
        self.consumer.begun[tp] = begin = self.harness.reading_from(tp, committed)
        return begin

    async def hand(self, partition: int, first: int, *values: bytes, generation: int = GENERATION) -> None:
        batch = batch_of(values, offset=first)
        fetch = Fetch(REQUESTS.name, partition, Fetched(first, batch.next_offset, [batch]))
        message = Message(
            *(REQUESTS.name, partition, batch.next_offset - 1, 0.0, 1, None, None, cast("Any", fetch)),
            *(None, 0, 0, TP(REQUESTS.name, partition)),
            generation_id=generation,
        )

        async def acknowledge(event: Any) -> bool:
            self.acknowledged.append(event.message.offset)
            return True

        await self.harness.step(cast("Any", SimpleNamespace(message=message)), acknowledge)

    async def tick(self, times: int = 1) -> None:
        """Let the clock be followed until the agent has been told of it so often, or it fails."""
        before = self.ticks()
        self.app.should_stop = False
        following = asyncio.create_task(self.harness.ticking())
        async with asyncio.timeout(10):
            while self.ticks() < before + times and not following.done():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            self.app.should_stop = True
            await following

    def ticks(self) -> int:
        return sum(each[0] == "tick" for each in self.agent.told if isinstance(each, tuple))

    def waits(self) -> list[str]:
        return [wait.what for wait in self.unit.waits()]


def raising(error: BaseException) -> Callable[[Ledger], Awaitable[object]]:
    async def does(ledger: Ledger) -> None:
        raise error

    return does
