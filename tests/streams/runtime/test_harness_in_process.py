"""The harness between an agent of the test's own and a changelog in memory: which partitions are the agent's,
what it is told, what it may write, and what is acknowledged when.

On a real Kafka, see test_harness and test_application_on_kafka.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError
from faust.types import TP, Message
from prometheus_client import REGISTRY

from clients import retry
from clients.kafka.fetched import Fetched
from clients.kafka.publisher import Message as Sent
from infra.liveness import Part
from infra.settings import KafkaSettings
from schemas.batch_writer import batch_of
from schemas.codec import Codec
from schemas.contract import schema
from schemas.time import SECOND
from schemas.topics import ALERT_STATE, DECISIONS, REQUESTS
from streams.runtime import harness as harness_module
from streams.runtime.agent import Wiring
from streams.runtime.changelog import Write
from streams.runtime.entries import Claim, Entry, Rank, SupersededError
from streams.runtime.errors import LogUnavailableError, MovedError
from streams.runtime.fetch import Fetch
from streams.runtime.harness import Harness, build, run
from streams.runtime.ledger import ENVELOPED, Ledger, State, Worker
from streams.runtime.transport import BatchTransport

WIRING = Wiring("counting", REQUESTS, ALERT_STATE, 4, timedelta(milliseconds=20))
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
        async with asyncio.timeout(30):
            while self.ticks() < before + times and not following.done():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            self.app.should_stop = True
            await following

    def ticks(self) -> int:
        return sum(each[0] == "tick" for each in self.agent.told if isinstance(each, tuple))

    def waits(self) -> list[str]:
        return [wait.what for wait in self.unit.waits()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the harness takes for now, in its only item."""
    now = [NOW]
    monkeypatch.setattr(harness_module, "clock", lambda: now[0])
    return now


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch, clock: list[int]) -> None:
    monkeypatch.setattr(harness_module, "TopicLog", MemoryLog)
    monkeypatch.setattr(harness_module, "PatientPublisher", Published)
    monkeypatch.setattr(retry, "_FIRST_S", 0.001)
    monkeypatch.setattr(retry, "_LONGEST_S", 0.002)
    monkeypatch.setattr(retry, "_JITTER_S", 0.001)
    monkeypatch.setattr(retry, "_LOOK_EVERY_S", 0.001)


@pytest.fixture
async def world() -> World:
    return World(replace(WIRING, tick_every=timedelta(milliseconds=1)))


def raising(error: BaseException) -> Callable[[Ledger], Awaitable[object]]:
    async def does(ledger: Ledger) -> None:
        raise error

    return does


# Which partitions are its own.


async def test_until_the_group_has_given_it_partitions_it_waits_and_says_so(world: World) -> None:
    group = "the consumer group chatgauge-counting, to be given partitions"
    assert (world.waits(), world.unit.is_started) == ([group], False)
    await world.harness.expect(frozenset({0, 1}))
    assert (world.waits(), world.unit.is_started) == ([], False)
    await world.harness.restore()
    assert (world.waits(), world.unit.is_started) == ([], True)
    world.harness.forget()
    assert (world.waits(), world.unit.is_started) == ([group], False)
    await world.harness.expect(frozenset())
    assert world.waits() == []


async def test_a_table_below_recovers_into_the_changelog_and_for_its_unit(world: World) -> None:
    assert (world.table.changelog, world.table.unit) == (world.changelog, world.unit)
    assert (world.published.unit, world.published.bootstrap) == (world.unit, "127.0.0.1:9")


async def test_what_was_not_this_workers_last_is_read_whole(world: World) -> None:
    assert await world.harness.expect(frozenset({0, 1})) == {0, 1}
    await world.harness.restore()
    assert await world.harness.expect(frozenset({0, 1, 2})) == {2}
    world.consumer.notes[TP(REQUESTS.name, 1)] = Claim(9, 0).note()
    assert await world.harness.expect(frozenset({0, 1})) == {1}


async def test_its_state_is_what_lies_in_the_changelog_partition_by_partition(world: World) -> None:
    world.write(0, ENVELOPED.key(0, b"k"), ENVELOPED.value(0, 7, b"older"), (1, 0))
    world.write(0, ENVELOPED.key(0, b"k"), ENVELOPED.value(0, 9, b"newer"), (1, 1))
    world.write(0, ENVELOPED.key(0, b"l"), ENVELOPED.value(0, 8, b"l"), (1, 2))
    await world.assign(0, 1)
    assert world.agent.states == {0: {b"k": State(9, b"newer"), b"l": State(8, b"l")}, 1: {}}
    assert world.agent.now == NOW
    assert world.agent.told == ["forget", "begin", "restore", "resume"]
    labels = {"table": ALERT_STATE.name}
    assert REGISTRY.get_sample_value("chatgauge_stream_kept_blocks", labels) == 2


async def test_a_claim_is_committed_with_the_source_before_anything_is_taken_up(world: World) -> None:
    world.write(0, b"foreign", b"x", (1, 0))
    await world.assign(0, 1)
    notes = {tp: Claim.read(note) for tp, note in world.consumer.notes.items()}
    assert notes == {TP(REQUESTS.name, 0): Claim(2, 1), TP(REQUESTS.name, 1): Claim(1, 0)}


async def test_it_begins_once_and_what_it_waits_for_then_is_said(world: World) -> None:
    waits: list[str] = []

    async def does(ledger: Ledger) -> None:
        waits.extend(world.waits())

    world.agent.does = does
    await world.assign(0)
    await world.assign(0)
    assert [each for each in world.agent.told if each == "begin"] == ["begin"]
    assert waits == ["what counting has to know to begin"]


async def test_a_partition_that_is_refused_is_not_taken_up_nor_are_those_beside_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streams.runtime")
    world.consumer.refuses = {1}
    await world.assign(0, 1)
    assert "restore" not in world.agent.told
    assert not world.unit.is_started
    refused = "chat.requests, partition 1: the group has a newer generation"
    assert caplog.messages == [f"counting: {refused}; another rebalance is under way"]
    world.consumer.refuses = set()
    await world.assign(0, 1)
    assert set(world.agent.states) == {0, 1}


async def test_while_kafka_is_away_it_tries_again_and_says_what_it_waits_for(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[list[str]] = []
    world.log.unavailable = 2
    world.log.waits = lambda: waits.append(world.waits())
    await world.assign(0)
    assert waits == [["Kafka, to take over chat.alert-state/0"]] * 3
    assert set(world.agent.states) == {0}
    assert [each.split("; ")[0] for each in caplog.messages] == [
        "chat.alert-state/0 is not taken over yet: away"
    ] * 2
    assert "attempt 2 in" in caplog.messages[0]


async def test_it_does_not_try_again_once_the_group_has_a_newer_generation(world: World) -> None:
    world.log.unavailable = 100
    world.log.waits = lambda: setattr(world.app, "consumer_generation_id", GENERATION + 1)
    async with asyncio.timeout(30):
        await world.assign(0)
    assert world.log.unavailable == 99
    assert "restore" not in world.agent.told


async def test_what_fails_while_partitions_are_taken_over_is_not_passed_over(world: World) -> None:
    world.log.waits = lambda: [][0]
    with pytest.raises(ExceptionGroup) as failed:
        await world.assign(0)
    assert isinstance(failed.value.exceptions[0], IndexError)


async def test_a_partition_that_moves_while_it_resumes_is_no_failure(world: World) -> None:
    await world.assign(0)
    world.agent.does = raising(MovedError())
    await world.assign(0)
    assert world.agent.told[-1] == "resume"
    assert world.unit.is_started
    world.agent.does = raising(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await world.assign(0)


async def test_partitions_that_go_away_are_forgotten(world: World) -> None:
    await world.assign(0)
    await world.seek(0, 0)
    world.harness.forget()
    assert world.agent.told[-1] == "forget"
    with pytest.raises(MovedError, match=r"chat\.alert-state, partition 0"):
        await world.harness.write(0, {b"k": b"v"})
    assert not world.changelog.owns(0)
    await world.hand(0, 0, b"a")
    assert world.agent.steps() == []


# Where it reads from.


async def test_it_says_itself_from_where_it_reads_a_partition_of_its_own(world: World) -> None:
    await world.assign(0)
    world.agent.rewinds = 3
    assert world.harness.reading_from(TP(REQUESTS.name, 0), 10) == 7
    assert world.agent.told[-1] == ("reading", 0, 10)
    assert world.harness.reading_from(TP(REQUESTS.name, 1), 10) == 10
    assert world.agent.told[-1] == ("reading", 0, 10), "of another it is not asked"


# Steps.


async def test_a_fetch_is_taken_and_then_acknowledged(world: World) -> None:
    await world.assign(0, 1)
    await world.seek(0, 0)
    acknowledged: list[list[int]] = []

    async def does(ledger: Ledger) -> None:
        acknowledged.append([*world.acknowledged])

    world.agent.does = does
    await world.hand(0, 0, b"a", b"b")
    await world.hand(0, 2, b"c")
    assert world.agent.told[-2:] == [("step", 0, 0, 0), ("step", 0, 2, 0)]
    assert acknowledged == [[], [1]]
    assert world.acknowledged == [1, 2]


async def test_what_it_writes_says_how_far_it_had_read(world: World) -> None:
    await world.assign(0)
    await world.seek(0, 0)
    world.agent.does = lambda ledger: ledger.write(0, {b"k": b"v", b"gone": None})
    await world.hand(0, 0, b"a", b"b")
    [one, gone] = world.log.records[0]
    assert (one.key, one.value) == (b"0|k", ENVELOPED.value(0, 1, b"v"))
    assert (gone.key, gone.value) == (b"0|gone", None)
    assert world.harness.entry(0, b"0|k") == one.value
    assert world.harness.entry(0, b"0|gone") is None


async def test_it_says_so_after_a_restart_too_though_earlier_records_come_again(world: World) -> None:
    world.write(0, ENVELOPED.key(0, b"k"), ENVELOPED.value(0, 9, b"v"), (1, 0))
    await world.assign(0, 1)
    world.agent.does = lambda ledger: ledger.write(0, {b"k": b"w"})
    await world.hand(0, 0, b"a")
    assert world.log.records[0][-1].value == ENVELOPED.value(0, 9, b"w")
    await world.harness.write(1, {b"k": b"w"})
    assert world.log.records[1][-1].value == ENVELOPED.value(1, -1, b"w"), "of nothing, nothing was read"


async def test_what_was_acknowledged_before_is_remembered_only(world: World) -> None:
    await world.assign(0)
    world.agent.rewinds = 3
    assert await world.seek(0, 3) == 0
    await world.hand(0, 0, b"a", b"b", b"c")
    await world.hand(0, 3, b"d")
    assert world.agent.told[-2:] == [("step", 0, 0, 3), ("step", 0, 3, 3)]
    assert world.acknowledged == [3]


@pytest.mark.parametrize("case", ["generation", "partition", "unsought"])
async def test_a_fetch_of_a_time_before_is_not_taken(world: World, case: str) -> None:
    await world.assign(0)
    world.consumer.begun = {TP(REQUESTS.name, 0): cast("int", None)} if case == "unsought" else {}
    await world.hand(case == "partition", 0, b"a", generation=GENERATION - (case == "generation"))
    assert (world.agent.steps(), world.acknowledged) == ([], [])


async def test_a_hole_between_fetches_is_fetched_again(world: World) -> None:
    await world.assign(0)
    await world.hand(0, 0, b"a")
    await world.hand(0, 5, b"f")
    assert world.consumer.sought == [(TP(REQUESTS.name, 0), 1)]
    assert (world.agent.steps(), world.acknowledged) == ([(0, 0)], [0])
    world.consumer.begun[TP(REQUESTS.name, 0)] = 5
    await world.assign(0)
    await world.hand(0, 5, b"f")
    assert world.agent.steps() == [(0, 0), (0, 5)], "sought anew, it begins there"


async def test_a_step_whose_partition_has_moved_is_left_and_not_acknowledged(world: World) -> None:
    await world.assign(0)
    world.agent.does = raising(MovedError())
    await world.hand(0, 0, b"a")
    assert world.acknowledged == []
    world.agent.does = raising(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await world.hand(0, 1, b"b")


async def test_while_a_step_is_under_way_it_says_so_and_no_other_begins(world: World) -> None:
    await world.assign(0, 1)
    going_on = asyncio.Event()
    world.agent.does = lambda _: going_on.wait()
    first = asyncio.create_task(world.hand(0, 0, b"a"))
    second = asyncio.create_task(world.hand(1, 0, b"b"))
    await asyncio.sleep(0.01)
    assert world.agent.steps() == [(0, 0)]
    sighting = world.unit.sighting(computing=False)
    assert (sighting.occupied, sighting.doing) == (True, f"a step of {TP(REQUESTS.name, 0)}")
    moves = world.unit.moves()
    going_on.set()
    await asyncio.gather(first, second)
    assert world.agent.steps() == [(0, 0), (1, 0)]
    assert world.unit.moves() > moves
    assert not world.unit.sighting(computing=False).occupied


# An agent that acknowledges for itself.


async def test_at_its_own_pace_it_acknowledges_what_it_has_made_durable() -> None:
    world = World(replace(WIRING, own_pace=True))
    await world.assign(0, 1)
    for first in range(4):
        await world.hand(0, first, b"a")
    assert (len(world.agent.steps()), world.acknowledged) == (4, [])
    await world.harness.acknowledge(0, 1)
    assert world.acknowledged == [1], "one acknowledgement is for all before it"
    await world.harness.acknowledge(0, 1)
    await world.harness.acknowledge(1, 3)
    await world.harness.acknowledge(2, 3)
    assert world.acknowledged == [1]
    await world.harness.acknowledge(0, 100)
    assert world.acknowledged == [1, 3]


async def test_it_goes_on_with_something_meanwhile(world: World) -> None:
    await world.assign(0)
    going_on = asyncio.Event()

    async def work() -> None:
        await going_on.wait()

    world.harness.beside(work())
    await asyncio.sleep(0)
    assert world.unit.sighting(computing=False).doing == "making a step durable"
    going_on.set()
    await asyncio.gather(*world.app.futures)
    assert world.statuses == []


async def test_what_it_goes_on_with_may_move_but_not_fail(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(error: Exception) -> None:
        raise error

    world.harness.beside(failing(MovedError()))
    await asyncio.gather(*world.app.futures)
    assert world.statuses == []
    world.harness.beside(failing(ValueError("no")))
    await asyncio.gather(*world.app.futures)
    assert world.statuses == [70]
    assert "a step of counting failed: ValueError: no" in caplog.messages[-1]


async def test_it_may_ask_how_the_source_is_and_say_what_it_waits_for(world: World) -> None:
    worker = cast("Worker", world.harness)
    await world.assign(0, 1)
    assert worker.source_partitions == 4
    world.consumer.partitions = None
    assert worker.source_partitions == 0, "not known yet"
    assert [worker.caught_up(partition) for partition in (0, 1)] == [False, True]
    with worker.waiting("a price list"):
        assert world.waits() == ["a price list"]
    assert await worker.compute(lambda: world.unit.cpu_clocks() != frozenset()) is True


async def test_it_sends_records_to_topics_and_messages_as_they_are(world: World) -> None:
    record = {"decision_id": "d", "decided_at": 0, "what": "evaluated", "reason": "because"}
    await world.harness.send(DECISIONS, [("k", record)])
    await world.harness.publish([Sent("chat.closed", b"v")])
    [sent, plain] = world.published.messages
    assert (sent.topic, sent.key) == ("chat.decisions", b"k")
    assert Codec(schema("Decision")).decode(sent.value or b"")["reason"] == "because"
    assert plain == Sent("chat.closed", b"v")


# The clock.


async def test_the_clock_is_followed_until_the_worker_stops(world: World) -> None:
    await world.assign(0)
    await world.tick(3)
    assert world.agent.told[-3:] == [("tick", NOW)] * 3


async def test_an_agent_without_partitions_hears_nothing_of_it(world: World) -> None:
    following = asyncio.create_task(world.harness.ticking())
    await asyncio.sleep(0.02)
    assert world.ticks() == 0
    world.app.should_stop = True
    await following


async def test_no_tick_comes_into_a_step_and_ticks_are_no_progress(world: World) -> None:
    await world.assign(0)
    moves, seen = world.unit.moves(), []

    async def does(ledger: Ledger) -> None:
        seen.append(world.unit.sighting(computing=False).doing)

    world.agent.does = does
    await world.tick(2)
    assert (set(seen), world.unit.moves()) == ({"following the clock"}, moves)
    going_on = asyncio.Event()
    world.agent.does = lambda _: going_on.wait()
    stepping = asyncio.create_task(world.hand(0, 0, b"a"))
    await asyncio.sleep(0)
    world.app.should_stop = False
    following = asyncio.create_task(world.harness.ticking())
    await asyncio.sleep(0.02)
    assert world.agent.told[-1] == ("step", 0, 0, 0)
    world.app.should_stop = True
    going_on.set()
    await asyncio.gather(stepping, following)


async def test_a_tick_whose_partition_has_moved_is_left_and_one_that_fails_is_not(world: World) -> None:
    await world.assign(0)
    world.agent.does = raising(MovedError())
    await world.tick(2)
    world.agent.does = raising(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await world.tick()


# Watching the changelog.


async def test_the_changelog_is_watched_every_ten_seconds(world: World, clock: list[int]) -> None:
    await world.assign(0)
    await world.tick(3)
    assert world.consumer.asked_for_work == [[TP(REQUESTS.name, 0)]]
    clock[0] += 10 * SECOND - 1
    await world.tick(3)
    assert len(world.consumer.asked_for_work) == 1
    clock[0] += 1
    await world.tick(3)
    assert len(world.consumer.asked_for_work) == 2


async def test_what_another_worker_wrote_is_replaced_then(world: World, clock: list[int]) -> None:
    await world.assign(0)
    await world.harness.write(0, {b"k": b"v"})
    world.write(0, b"0|k", b"zombie", (0, 7))
    await world.tick(2)
    assert world.log.records[0][-1] == Entry(2, b"0|k", ENVELOPED.value(0, -1, b"v"), Rank(1, 1))
    labels = {"table": ALERT_STATE.name}
    assert REGISTRY.get_sample_value("chatgauge_stream_kept_blocks", labels) == 1


async def test_work_that_waits_is_told_to_the_watchdog(world: World, clock: list[int]) -> None:
    await world.assign(0)
    world.consumer.work = True
    moves = world.unit.moves()
    await world.tick()
    assert world.unit.sighting(computing=False).doing == "work waits"
    assert world.unit.sighting(computing=False).occupied
    assert world.unit.moves() == moves + 1, "that it waits is new; to look is no progress"
    world.consumer.work = False
    clock[0] += 10 * SECOND
    await world.tick()
    assert not world.unit.sighting(computing=False).occupied


@pytest.mark.parametrize("error", [KafkaConnectionError("away"), TimeoutError("late")])
async def test_ends_that_are_not_known_now_are_asked_for_later(
    world: World, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streams.runtime")
    await world.assign(0)
    world.consumer.work = error
    await world.tick(2)
    assert caplog.messages == [f"chat.requests: the ends are not known now: {error}"]


async def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness_module, "_ENDS_WITHIN_S", 0.01)
    await world.assign(0)
    asked = asyncio.Event()

    async def has_work(places: Collection[TP]) -> bool:
        asked.set()
        bounds = {wait.what: wait.bound for wait in world.unit.waits()}
        assert bounds == {"the ends of chat.requests": 0.01}
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(world.consumer, "has_work", has_work)
    await world.tick(2)
    assert asked.is_set()


async def test_a_partition_that_a_later_owner_writes_is_soon_taken_away(
    world: World, clock: list[int]
) -> None:
    await world.assign(0, 1)
    world.write(0, b"0|k", b"theirs", (9, 0))
    await world.tick()
    assert not world.changelog.owns(0)
    await world.assign(1)
    clock[0] += 10 * SECOND
    await world.tick()
    assert world.statuses == []


async def test_if_it_is_not_the_worker_ends(world: World, clock: list[int]) -> None:
    await world.assign(0, 1)
    world.write(0, b"0|k", b"theirs", (9, 0))
    await world.tick()
    clock[0] += 10 * SECOND
    said = (
        r"chat\.alert-state, partitions \[0\]: a later owner has written, and they are assigned to us still"
    )
    with pytest.raises(SupersededError, match=said):
        await world.tick()


async def test_a_partition_that_came_back_meanwhile_is_judged_anew(world: World, clock: list[int]) -> None:
    await world.assign(0)
    world.write(0, b"0|k", b"theirs", (9, 0))
    await world.tick()
    await world.assign(0)
    clock[0] += 10 * SECOND
    world.write(0, b"0|k", b"theirs", (19, 0))
    await world.tick()
    assert not world.changelog.owns(0)


# Beginning and ending.


async def test_when_the_worker_stops_the_agent_ends_and_all_is_sent(world: World) -> None:
    await world.harness.end()
    assert world.agent.told == ["end"]
    assert world.published.stopped


async def test_an_agent_is_wired_to_an_application(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Part("test")
    wiring = replace(WIRING, min_bytes=123, max_fetch=45)
    kafka = KafkaSettings(bootstrap="127.0.0.1:9", max_unpacked_bytes=33 * 1024 * 1024)
    app = build(Agent(), wiring, kafka, part)
    transport = app.transport
    assert isinstance(transport, BatchTransport)
    assert [str(url) for url in transport.url] == ["kafka://127.0.0.1:9"]
    batching = transport.batching
    assert (batching.sources, batching.changelogs) == ({REQUESTS.name}, {ALERT_STATE.name})
    assert (batching.linger, batching.min_bytes) == (timedelta(milliseconds=20), 123)
    assert batching.most_bytes == 33 * 1024 * 1024
    assert transport.part is part
    assert (app.conf.id, app.conf.topic_partitions) == ("chatgauge-counting", 4)
    assert app.conf.broker_max_poll_records == 45
    assert [unit.name for unit in part.units()] == ["counting"]
    assert app.tables["chat-alert-state"].partitions == 4
    assert app.agents["counting"].channel.get_topic_name() == REQUESTS.name
    alone = cast("BatchTransport", build(Agent(), wiring, kafka).transport)
    assert alone.part.name == "counting"


async def test_several_agents_are_units_of_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[Part, list[str]]] = []
    monkeypatch.setattr(
        harness_module.application,
        "run",
        lambda part, *apps: ran.append((part, [app.conf.id for app in apps])),
    )
    kafka = KafkaSettings(bootstrap="127.0.0.1:9")
    agents = [(Agent(), WIRING), (Agent(), replace(WIRING, name="other"))]
    run(agents, kafka, part := Part("test"))
    run(agents, kafka)
    ids = ["chatgauge-counting", "chatgauge-other"]
    assert [(each.name, there) for each, there in ran] == [("test", ids), ("agents", ids)]
    assert [unit.name for unit in part.units()] == ["counting", "other"]
