"""The agent that counts, on a worker without Kafka: what it makes durable, in which order, and when."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from clients.kafka.fetched import Fetched
from schemas.batch_writer import batch_of
from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import RegistryUnavailableError
from schemas.time import HOUR, MINUTE, SECOND
from schemas.topics import WINDOWS
from streams.catalogue.groupings import SERVICE, TOTAL, USER
from streams.counting.agent import Counting
from streams.counting.requests import RequestReader, Requests
from streams.runtime.errors import MovedError
from streams.runtime.fetch import Fetch
from streams.runtime.ledger import State
from streams.windows.block import BlockKey, read_block
from streams.windows.panes import Pane
from streams.windows.plan import Plan
from tests.streams.memory_worker import Acknowledged, MemoryWorker, Published, Written
from tests.streams.windows.requests import NOON

CODEC = Codec(schema("RequestEvent"))
CLOSED = Codec(schema("ClosedPane"))
MINUTES = Pane("1m", 26 * HOUR, MINUTE)
SECONDS = Pane("1s", 15 * MINUTE, SECOND, live_only=True)
TABLE = replace(WINDOWS, name="chat.windows-in-memory")
PLAN = Plan(((TOTAL, MINUTES), (TOTAL, SECONDS)), lateness=10 * SECOND, write_every=SECOND)
AT_ONCE = Plan(((TOTAL, MINUTES),), lateness=10 * SECOND)


class Clock:
    """The time, as it is set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr("streams.counting.agent.clock", clock)
    return clock


def event(name: str, at: int, **fields: Any) -> bytes:
    """A finished request."""
    texts = dict.fromkeys(("request_id", "service", "provider", "model"), "x")
    return CODEC.encode({**texts, "event_id": name, "phase": "finished", "occurred_at": at, **fields})


def fetch(offset: int, *values: bytes, partition: int = 0) -> Fetch:
    batch = batch_of(values, offset=offset, timestamp=NOON // 1_000)
    fetched = Fetched(offset, offset + len(values), [batch])
    return Fetch("chat.requests", partition, fetched, [fetched])


async def begun(
    worker: MemoryWorker, plan: Plan = PLAN, partitions: tuple[int, ...] = (0,), reader: Any = None
) -> Counting:
    """An agent that has these partitions, and what is written of them."""
    counting = Counting(TABLE, plan, reader or RequestReader())
    await counting.begin(worker)
    entries = {
        p: {key: State(-1, value) for key, value in worker.entries.get(p, {}).items()} for p in partitions
    }
    counting.restore(entries, NOON)
    await counting.resume(worker)
    return counting


async def step(counting: Counting, worker: MemoryWorker, fetch: Fetch, committed: int = 0) -> None:
    """A step, until what it made is durable."""
    await counting.step(fetch.partition, fetch, committed, worker)
    await worker.settled()


def told(worker: MemoryWorker) -> list[Any]:
    """What the worker was given since it was asked last: of blocks the requests, of panes that close too."""
    found: list[Any] = []
    for each in worker.log:
        match each:
            case Written(partition, entries):
                found.append(
                    ("wrote", partition, {name(key): counted(value) for key, value in entries.items()})
                )
            case Published(messages):
                found.append(("announced", [announced(message.value) for message in messages]))
            case Acknowledged(partition, through):
                found.append(("acknowledged", partition, through))
    worker.log.clear()
    return found


def name(key: bytes) -> str:
    """The pane, and in which second it begins."""
    block = BlockKey.decode(key)
    return f"{block.pane} {(block.pane_start - NOON) // SECOND}"


def counted(value: bytes | None) -> int | None:
    """The requests in a block."""
    return None if value is None else sum(read_block(value).rows["requests"].to_pylist())


def announced(value: bytes | None) -> Any:
    record = CLOSED.decode(value or b"")
    watermark = (record["watermark"].timestamp() * SECOND - NOON) / SECOND
    if record["pane"] is None:
        return "watermark", watermark
    return "closed", record["pane"], (record["pane_start"].timestamp() * SECOND - NOON) / SECOND


BEAT = ("announced", [("watermark", -10.0)])


async def test_live_figures_go_first_then_the_rest_and_then_the_fetch_is_acknowledged(clock: Clock) -> None:
    worker = MemoryWorker()
    counting = await begun(worker)
    await step(counting, worker, fetch(0, event("a", NOON), event("b", NOON)))
    assert told(worker) == [
        ("wrote", 0, {"1s 0": 2}),
        BEAT,
        ("wrote", 0, {"1m 0": 2}),
        ("acknowledged", 0, 1),
    ]


async def test_within_a_second_live_figures_alone_are_written_and_nothing_is_acknowledged(
    clock: Clock,
) -> None:
    worker = MemoryWorker()
    counting = await begun(worker)
    await step(counting, worker, fetch(0, event("a", NOON)))
    told(worker)

    clock.now += SECOND - 1
    await step(counting, worker, fetch(1, event("b", NOON + 1)))
    assert told(worker) == [("wrote", 0, {"1s 0": 2})]
    clock.now += 1
    await step(counting, worker, fetch(2, event("c", NOON + SECOND)))
    assert told(worker) == [
        ("wrote", 0, {"1s 1": 1}),
        ("announced", [("watermark", -9.0)]),
        ("wrote", 0, {"1m 0": 3}),
        ("acknowledged", 0, 2),
    ]


async def test_a_pane_that_closes_is_announced_before_its_block_is_written_as_closed(clock: Clock) -> None:
    worker = MemoryWorker()
    counting = await begun(worker, AT_ONCE)
    await step(counting, worker, fetch(0, event("a", NOON)))
    told(worker)
    await step(counting, worker, fetch(1, event("b", NOON + MINUTE + 10 * SECOND)))
    assert told(worker) == [
        ("wrote", 0, {"1m 60": 1}),
        ("announced", [("closed", "1m", 0.0), ("watermark", 60.0)]),
        ("wrote", 0, {"1m 0": 1}),
        ("acknowledged", 0, 1),
    ]


async def test_a_block_past_its_time_is_deleted_with_what_is_written(clock: Clock) -> None:
    worker = MemoryWorker()
    counting = await begun(worker, replace(AT_ONCE, counted=((TOTAL, replace(MINUTES, keep=MINUTE)),)))
    await step(counting, worker, fetch(0, event("a", NOON)))
    await step(counting, worker, fetch(1, event("b", NOON + 2 * MINUTE + 10 * SECOND)))
    assert told(worker)[-2:] == [("wrote", 0, {"1m 0": None}), ("acknowledged", 0, 1)]


async def test_what_is_written_is_taken_up_by_the_next_and_what_comes_again_counts_once(clock: Clock) -> None:
    worker = MemoryWorker()
    await step(await begun(worker, AT_ONCE), worker, fetch(0, event("a", NOON), event("b", NOON)))
    told(worker)

    counting = await begun(worker, AT_ONCE)
    assert counting.reading_from(0, 2) == 0, "ids have to be remembered again"
    assert counting.reading_from(7, 2) == 2, "it is not ours"
    await step(counting, worker, fetch(0, event("a", NOON), event("b", NOON), event("c", NOON)))
    assert told(worker) == [("wrote", 0, {"1m 0": 3}), BEAT, ("acknowledged", 0, 2)]


async def test_an_acknowledged_fetch_is_remembered_and_nothing_else(clock: Clock) -> None:
    worker = MemoryWorker()
    counting = await begun(worker, AT_ONCE)
    await step(counting, worker, fetch(0, event("a", NOON), event("b", NOON)), committed=2)
    assert told(worker) == []
    await step(counting, worker, fetch(2, event("a", NOON), event("c", NOON)), committed=2)
    assert told(worker) == [("wrote", 0, {"1m 0": 1}), BEAT, ("acknowledged", 0, 3)]


async def test_a_fetch_that_reaches_beyond_what_is_acknowledged_is_counted_from_there(clock: Clock) -> None:
    worker = MemoryWorker()
    counting = await begun(worker, AT_ONCE)
    assert counting.reading_from(0, 1) == 1
    await step(counting, worker, fetch(0, event("a", NOON), event("b", NOON)), committed=1)
    assert told(worker) == [("wrote", 0, {"1m 0": 1}), BEAT, ("acknowledged", 0, 1)]


async def test_a_partition_that_is_not_ours_is_not_counted(clock: Clock) -> None:
    worker = MemoryWorker(2)
    counting = await begun(worker)
    await step(counting, worker, fetch(0, event("a", NOON), partition=1))
    counting.forget()
    await step(counting, worker, fetch(0, event("a", NOON)))
    clock.now += 2 * SECOND
    await counting.tick(clock.now, worker)
    assert told(worker) == []


async def test_restoring_anew_voids_what_was_known(clock: Clock) -> None:
    worker = MemoryWorker(2)
    counting = await begun(worker, AT_ONCE, partitions=(0, 1))
    counting.restore({1: {}}, NOON)
    await step(counting, worker, fetch(0, event("a", NOON), partition=0))
    await step(counting, worker, fetch(0, event("a", NOON), partition=1))
    assert [each for each in told(worker) if each[0] == "acknowledged"] == [("acknowledged", 1, 0)]


async def test_nothing_is_published_before_it_has_begun() -> None:
    counting = Counting(TABLE, AT_ONCE, RequestReader())
    with pytest.raises(RuntimeError, match=r"^counting has not begun$"):
        counting.restore({0: {}}, NOON)


@pytest.mark.parametrize(
    ("moves_during", "left"),
    [
        ("write", [("wrote", 0, {"1s 0": 1}), BEAT]),
        ("publish", [("wrote", 0, {"1s 0": 1}), BEAT]),
        ("acknowledge", [("wrote", 0, {"1s 0": 1}), BEAT, ("wrote", 0, {"1m 0": 1}), ("acknowledged", 0, 0)]),
    ],
)
async def test_when_a_partition_has_moved_nothing_more_is_written_or_acknowledged(
    clock: Clock, moves_during: str, left: list[Any]
) -> None:
    worker = MemoryWorker()
    counting = await begun(worker)

    async def move() -> None:
        counting.forget()

    worker.during[moves_during] = move
    await step(counting, worker, fetch(0, event("a", NOON)))
    assert told(worker) == left
    assert worker._beside == []


async def test_a_step_that_can_not_be_made_durable_says_so_and_lets_the_next_one_be(clock: Clock) -> None:
    worker = MemoryWorker()
    counting = await begun(worker)
    worker.moved = {0}
    with pytest.raises(MovedError):
        await step(counting, worker, fetch(0, event("a", NOON)))
    worker.moved = set()
    async with asyncio.timeout(5):
        await step(counting, worker, fetch(1, event("b", NOON)))
    assert told(worker)[0] == ("wrote", 0, {"1s 0": 2})


async def test_while_one_partition_waits_for_kafka_others_are_counted_and_its_own_next_waits(
    clock: Clock,
) -> None:
    worker = MemoryWorker(2)
    counting = await begun(worker, AT_ONCE, partitions=(0, 1))
    kafka_is_back = asyncio.Event()
    worker.during["write"] = kafka_is_back.wait
    reads: list[int] = []
    reader = counting._reader
    counting._reader = Watched(reader, reads)

    await counting.step(0, fetch(0, event("a", NOON)), 0, worker)
    await counting.step(1, fetch(5, event("b", NOON), partition=1), 0, worker)
    next_one = asyncio.ensure_future(counting.step(0, fetch(1, event("c", NOON)), 0, worker))
    for _ in range(20):
        await asyncio.sleep(0)
    assert (reads, worker.log, next_one.done()) == ([0, 5], [], False)

    kafka_is_back.set()
    async with asyncio.timeout(5):
        await next_one
        await worker.settled()
    wrote = [each for each in told(worker) if each[0] != "announced"]
    assert [each for each in wrote if each[1] == 0] == [
        ("wrote", 0, {"1m 0": 1}),
        ("acknowledged", 0, 0),
        ("wrote", 0, {"1m 0": 2}),
        ("acknowledged", 0, 1),
    ]
    assert [each for each in wrote if each[1] == 1] == [("wrote", 1, {"1m 0": 1}), ("acknowledged", 1, 5)]


class Watched(RequestReader):
    """A reader of which is known what it read; it fails first, as often as there are `failures`."""

    def __init__(
        self, reader: RequestReader, reads: list[Any], failures: list[Exception] | None = None
    ) -> None:
        self._actual = reader
        self._reads = reads
        self._failures = failures or []

    def read(self, fetch: Fetch) -> Requests:
        self._reads.append(fetch.first)
        if self._failures:
            raise self._failures.pop(0)
        return self._actual.read(fetch)


async def test_a_fetch_that_can_not_be_read_fails_the_step_and_leaves_the_turn(clock: Clock) -> None:
    worker = MemoryWorker()
    reads: list[int] = []
    reader = Watched(RequestReader(), reads, [ValueError("it can't be read")])
    counting = await begun(worker, AT_ONCE, reader=reader)
    with pytest.raises(ValueError, match="it can't be read"):
        await step(counting, worker, fetch(0, event("a", NOON)))
    assert (reads, worker.waits) == ([0], []), "it is not tried again"
    async with asyncio.timeout(5):
        await step(counting, worker, fetch(0, event("a", NOON)))
    assert told(worker)[-1] == ("acknowledged", 0, 0)


async def test_a_schema_registry_that_is_away_is_waited_for(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    worker = MemoryWorker()
    reads: list[int] = []
    reader = Watched(RequestReader(), reads, [RegistryUnavailableError("no answer")])
    counting = await begun(worker, AT_ONCE, reader=reader)
    with caplog.at_level(logging.WARNING, "streams.counting.agent"):
        await step(counting, worker, fetch(0, event("a", NOON)))
    assert (reads, worker.waits) == ([0, 0], ["the schema registry: no answer"])
    assert "chat.windows-in-memory: no answer; attempt 2 in " in caplog.text
    assert caplog.messages[0].endswith(" s")
    assert told(worker) == [("wrote", 0, {"1m 0": 1}), BEAT, ("acknowledged", 0, 0)]


@pytest.mark.parametrize("ours_again", [False, True])
async def test_a_partition_that_moves_while_its_fetch_is_read_is_not_counted(
    clock: Clock, ours_again: bool
) -> None:
    worker = MemoryWorker()
    reads: list[int] = []
    counting = await begun(worker, AT_ONCE)

    class Moving(RequestReader):
        def read(self, fetch: Fetch) -> Requests:
            reads.append(fetch.first)
            counting.forget()
            if ours_again:
                counting.restore({0: {}}, NOON)
            raise RegistryUnavailableError("no answer")

    counting._reader = Moving()
    async with asyncio.timeout(5):
        await step(counting, worker, fetch(0, event("a", NOON)))
    assert (reads, told(worker)) == ([0], [])


async def test_a_partition_that_moves_while_a_large_fetch_is_read_is_not_counted(clock: Clock) -> None:
    worker = MemoryWorker()
    counting = await begun(worker, AT_ONCE)
    actual = counting._reader

    class Moving(RequestReader):
        def read(self, fetch: Fetch) -> Requests:
            requests = actual.read(fetch)
            counting.forget()
            return requests

    counting._reader = Moving()
    await step(counting, worker, fetch(0, event("a", NOON)))
    assert told(worker) == []


MIB = 1_048_576


@pytest.mark.parametrize(("size", "in_a_thread"), [(4_096, 0), (MIB - 1, 0), (MIB, 1)])
async def test_a_fetch_of_a_megabyte_is_read_in_a_thread(clock: Clock, size: int, in_a_thread: int) -> None:
    """As padding serves a record that can't be read: it is counted, and holds nothing up."""
    worker = MemoryWorker()
    counting = await begun(worker, AT_ONCE)
    good = event("a", NOON)
    around = fetch(0, good, bytes(size - 1_000)).fetched.nbytes - (size - 1_000)
    large = fetch(0, good, bytes(size - around))
    assert large.fetched.nbytes == size
    await step(counting, worker, large)
    assert worker.computed == in_a_thread
    assert told(worker) == [("wrote", 0, {"1m 0": 1}), BEAT, ("acknowledged", 0, 1)]


async def test_where_nothing_comes_for_a_second_the_clock_writes_and_closes(clock: Clock) -> None:
    worker = MemoryWorker()
    counting = await begun(worker, replace(PLAN, write_every=MINUTE))
    await step(counting, worker, fetch(0, event("a", NOON)))
    await step(counting, worker, fetch(1, event("b", NOON)))
    told(worker)
    clock.now = NOON + SECOND - 1
    await counting.tick(0, worker)
    assert told(worker) == []

    clock.now = NOON + SECOND
    await counting.tick(0, worker)
    assert told(worker) == [("announced", [("watermark", -9.0)])]
    clock.now = NOON + MINUTE
    await counting.tick(0, worker)
    assert told(worker) == [
        ("wrote", 0, {"1m 0": 2}),
        ("announced", [("closed", "1s", 0.0), ("watermark", 50.0)]),
        ("wrote", 0, {"1s 0": 2}),
        ("acknowledged", 0, 1),
    ]
    clock.now = NOON + MINUTE + 10 * SECOND
    await counting.tick(0, worker)
    assert told(worker) == [
        ("announced", [("closed", "1m", 0.0), ("watermark", 60.0)]),
        ("wrote", 0, {"1m 0": 2}),
        ("acknowledged", 0, 1),
    ]


async def test_behind_the_source_the_clock_writes_and_neither_closes_nor_tells_a_watermark(
    clock: Clock,
) -> None:
    worker = MemoryWorker()
    counting = await begun(worker, replace(PLAN, write_every=MINUTE))
    await step(counting, worker, fetch(0, event("a", NOON)))
    await step(counting, worker, fetch(1, event("b", NOON)))
    told(worker)
    worker.behind = {0}
    clock.now = NOON + 5 * MINUTE
    await counting.tick(0, worker)
    assert told(worker) == [("wrote", 0, {"1m 0": 2}), ("acknowledged", 0, 1)]


async def test_a_partition_that_is_busy_does_not_keep_the_clock_from_the_others(clock: Clock) -> None:
    worker = MemoryWorker(3)
    counting = await begun(worker, AT_ONCE, partitions=(0, 1, 2))
    for partition in range(3):
        await step(counting, worker, fetch(0, event("a", NOON), partition=partition))
    clock.now = NOON + 2 * SECOND
    await step(counting, worker, fetch(1, event("b", NOON), partition=1))
    told(worker)
    await counting.tick(0, worker)
    acknowledged = [each for each in told(worker) if each[0] == "acknowledged"]
    assert acknowledged == [("acknowledged", 0, 0), ("acknowledged", 2, 0)]


async def test_a_partition_that_moves_while_the_clock_waits_for_its_turn_is_left_alone(clock: Clock) -> None:
    worker = MemoryWorker()
    counting = await begun(worker, AT_ONCE)
    moves = asyncio.Event()
    worker.during["acknowledge"] = moves.wait
    await counting.step(0, fetch(0, event("a", NOON)), 0, worker)
    clock.now = NOON + MINUTE
    ticking = asyncio.ensure_future(counting.tick(0, worker))
    for _ in range(20):
        await asyncio.sleep(0)
    told(worker)
    counting.forget()
    moves.set()
    await ticking
    await worker.settled()
    assert told(worker) == [("acknowledged", 0, 0)]


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"chatgauge_stream_{name}", {"table": TABLE.name, **labels}) or 0.0


async def test_prometheus_is_told_what_came_and_what_became_of_it(clock: Clock) -> None:
    worker = MemoryWorker()
    plan = Plan(((TOTAL, replace(MINUTES, keep=MINUTE)),), lateness=10 * SECOND, remember=3)
    counting = await begun(worker, plan)
    names = {
        "events_total": 7,
        "counted_total": 4,
        "repeats_total": 1,
        "too_late_total": 1,
        "step_events_sum": 7,
        "step_events_count": 2,
        "step_seconds_count": 2,
        "blocks_total": 5,
    }
    before = {each: sample(each) for each in names}
    spent, refused = sample("step_seconds_sum"), sample("refused_total", reason="invalid")
    nbytes, closed = sample("block_bytes_total"), sample("closed_panes_total", grouping="total")

    some = [event("a", NOON), event("b", NOON + MINUTE), event("c", NOON + MINUTE), event("a", NOON)]
    await step(counting, worker, fetch(0, *some, event("x", NOON, prompt_tokens=-1)))
    late = [event("d", NOON + 3 * MINUTE), event("e", NOON - 5 * MINUTE)]
    await step(counting, worker, fetch(5, *late))

    assert {each: sample(each) - before[each] for each in names} == names
    assert sample("refused_total", reason="invalid") - refused == 1
    assert 0 < sample("step_seconds_sum") - spent < 60
    values = [value for each in worker.log if isinstance(each, Written) for value in each.entries.values()]
    assert sample("block_bytes_total") - nbytes == sum(len(value) for value in values if value is not None)
    assert sample("closed_panes_total", grouping="total") - closed == 2
    assert sample("watermark_seconds", partition="0") == (NOON + 3 * MINUTE) / SECOND - 10
    windows = counting._partitions[0].windows
    assert sample("remembered_ids") == len(windows.repeats) == 3
    assert sample("remembered_bytes") == windows.repeats.nbytes > 0
    assert sample("forgotten_early") == 2, "of the two oldest minutes"


async def test_a_partition_of_many_users_is_counted_by_user(clock: Clock) -> None:
    worker = MemoryWorker()
    counting = await begun(worker, Plan(((USER, MINUTES), (SERVICE, MINUTES)), lateness=10 * SECOND))
    users = [event(str(n), NOON, user_id=f"u{n % 3}") for n in range(9)]
    await step(counting, worker, fetch(0, *users))
    found = {}
    for value in worker.entries[0].values():
        block = read_block(value)
        keys = block.rows["user_id" if block.key.grouping == "user" else "service"].to_pylist()
        found |= dict(zip(keys, block.rows["requests"].to_pylist(), strict=True))
    assert found == {"u0": 3, "u1": 3, "u2": 3, "x": 9}


async def test_warming_up_goes_all_the_way_and_leaves_nothing_behind(clock: Clock) -> None:
    worker = MemoryWorker()
    actual = RequestReader()
    warm: list[Requests] = []

    class Keeping(RequestReader):
        def read(self, fetch: Fetch) -> Requests:
            warm.append(actual.read(fetch))
            return warm[-1]

    counting = Counting(TABLE, replace(PLAN, counted=(*PLAN.counted, (USER, MINUTES))), Keeping())
    counting.warm_up()
    [requests] = warm
    assert (requests.records, requests.finished.height, requests.refused) == (2, 2, [])
    for name in ("user_id", "space_id", "workflow_version", "error_type", "total_us", "first_token_us"):
        assert requests.finished[name].null_count() == 0, name

    counting._reader = actual
    await counting.begin(worker)
    counting.restore({0: {}}, NOON)
    await step(counting, worker, fetch(0, event("a", NOON)))
    assert told(worker)[0] == ("wrote", 0, {"1s 0": 1})
    await counting.end()
