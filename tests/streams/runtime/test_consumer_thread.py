"""What the consumer's thread asks of Kafka's client, and what it makes of its refusals and silences.

With a real broker, see test_application_on_kafka.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import timedelta
from typing import Any, cast

import aiokafka
import faust
import pytest
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaConnectionError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.types import TP

from clients.kafka.fetched import ALL
from infra.liveness import Part
from infra.settings import KafkaSettings
from schemas.topics import ALERTS, NOTIFIER_STATE
from schemas.unpacking import MOST_BYTES
from streams.runtime import consumer_thread
from streams.runtime.application import broker_urls, new_app
from streams.runtime.consumer_thread import Batching, ConsumerThread
from streams.runtime.transport import BatchConsumer, BatchTransport

KAFKA = KafkaSettings(bootstrap="127.0.0.1:9")
ONE, OTHER, NOT_OURS = (TP(ALERTS.name, partition) for partition in range(3))
GENERATION = 5
BATCHING = Batching(
    frozenset({ALERTS.name}), frozenset({NOTIFIER_STATE.name}), timedelta(milliseconds=70), 123
)


def of(tp: TP) -> TopicPartition:
    return TopicPartition(tp.topic, tp.partition)


class Client:
    """Kafka's client, and its coordinator: it commits, or fails as a test says."""

    def __init__(self) -> None:
        self.assigned = {ONE, OTHER}
        self.partitions: set[int] | None = {0, 1, 2}
        self.committed: list[Mapping[TopicPartition, OffsetAndMetadata]] = []
        self.fails: BaseException | None = None
        self.hangs = False
        self.generation = GENERATION
        self.is_known = False
        self._commit_lock = asyncio.Lock()
        self._closed = False
        self.stored: dict[TopicPartition, OffsetAndMetadata] = {}
        self.fetched: list[tuple[set[TP], float | None, int | None]] = []

    @property
    def _fetcher(self) -> "Client":
        return self

    @property
    def _subscriptions(self) -> "Client":
        return self

    def fetch_context(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def fetched_records(
        self,
        places: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109
        max_records: int | None = None,
    ) -> str:
        self.fetched.append((places, timeout, max_records))
        return "fetches"

    async def fetch_committed_offsets(
        self, places: list[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        return {place: self.stored[place] for place in places if place in self.stored}

    @property
    def _coordinator(self) -> "Client":
        return self

    def assignment(self) -> set[TopicPartition]:
        return {of(tp) for tp in self.assigned}

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        assert topic == ALERTS.name
        return self.partitions

    async def commit(self, positions: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails
        self.committed.append(positions)

    async def ensure_coordinator_known(self) -> None:
        self.is_known = True

    async def _do_commit_offsets(
        self, assignment: None, positions: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> None:
        assert self.is_known, "there is nobody to commit to"
        assert self._commit_lock.locked(), "no other commit may come in between"
        await self.commit(positions)


@pytest.fixture
async def client() -> Client:
    return Client()


@pytest.fixture
async def app() -> faust.App:
    app = new_app("in-memory", KAFKA, partitions=3, max_fetch=100)
    app.transport = BatchTransport(broker_urls(KAFKA), app, BATCHING, cast("Any", None), Part("test"))
    return app


@pytest.fixture
async def consumer(app: faust.App) -> AsyncIterator[BatchConsumer]:
    async def nothing(*_: object) -> None: ...

    consumer = cast(
        "BatchConsumer",
        app.transport.create_consumer(nothing, on_partitions_revoked=nothing, on_partitions_assigned=nothing),
    )
    yield consumer
    consumer._thread.thread_loop.close()


@pytest.fixture
async def thread(consumer: BatchConsumer, client: Client) -> ConsumerThread:
    thread = cast("ConsumerThread", consumer._thread)
    thread._consumer = client
    return thread


# What is handed over by the fetch, and how it is gathered.


def test_sources_and_changelogs_are_handed_over_by_the_fetch() -> None:
    assert [topic in BATCHING for topic in (ALERTS.name, NOTIFIER_STATE.name, "chat.other")] == [
        *(True, True, False)
    ]
    assert BATCHING.most_bytes == MOST_BYTES


async def test_the_broker_gathers_a_fetch_and_hides_what_was_aborted(
    app: faust.App, thread: ConsumerThread
) -> None:
    made = thread._create_worker_consumer(app.transport)
    assert isinstance(made, aiokafka.AIOKafkaConsumer)
    assert (made._fetch_max_wait_ms, made._fetch_min_bytes) == (70, 123)
    assert made._isolation_level == "read_committed"
    assert made._group_id == "chatgauge-in-memory"
    await made.stop()


async def test_every_member_knows_how_many_partitions_a_topic_has(
    thread: ConsumerThread, client: Client
) -> None:
    assert thread.topic_partitions(ALERTS.name) == 3
    for unknown in (None, set[int]()):
        client.partitions = unknown
        assert thread.topic_partitions(ALERTS.name) is None


@pytest.mark.parametrize(("most", "told"), [(100, 100), (None, ALL)])
async def test_what_is_fetched_of_them_is_left_packed(
    thread: ConsumerThread, client: Client, monkeypatch: pytest.MonkeyPatch, most: int | None, told: int
) -> None:
    left: list[tuple[object, list[bool], int]] = []

    def leave_packed(consumer: object, wanted: Callable[[str], bool], most_records: int) -> None:
        left.append((consumer, [wanted(name) for name in (ALERTS.name, "chat.other")], most_records))

    monkeypatch.setattr(consumer_thread, "leave_packed", leave_packed)
    assert await thread._fetch_records(cast("Any", client), {ONE}, timeout=1.5, max_records=most) == "fetches"
    assert left == [(client, [True, False], told)]
    assert client.fetched == [({ONE}, 1.5, None)]


# What is committed.


async def test_what_is_committed_is_asked_of_the_group(
    thread: ConsumerThread, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def call_thread(function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        return await function(*arguments)

    monkeypatch.setattr(thread, "call_thread", call_thread)
    client.stored = {
        of(ONE): OffsetAndMetadata(0, "ours"),
        of(OTHER): OffsetAndMetadata(8, cast("Any", None)),
        of(NOT_OURS): OffsetAndMetadata(-1, ""),
    }
    places = [ONE, OTHER, NOT_OURS, TP(ALERTS.name, 3)]
    assert await thread.committed_offsets(places) == {ONE: 0, OTHER: 8}
    assert await thread.committed_notes(places) == {ONE: "ours", OTHER: "", NOT_OURS: ""}


# Committing.


async def test_offsets_are_committed_each_with_its_note(
    thread: ConsumerThread, consumer: BatchConsumer, client: Client
) -> None:
    consumer._notes = {ONE: "ours", OTHER: ""}
    assert await thread._commit({ONE: 7, OTHER: 8}) is True
    assert client.committed == [{of(ONE): OffsetAndMetadata(7, "ours"), of(OTHER): OffsetAndMetadata(8, "")}]


async def test_what_is_not_ours_or_would_lose_its_note_is_left(
    thread: ConsumerThread, consumer: BatchConsumer, client: Client
) -> None:
    consumer._notes = {ONE: "ours", NOT_OURS: "theirs"}
    assert await thread._commit({ONE: 7, OTHER: 8, NOT_OURS: 9}) is False
    assert client.committed == [{of(ONE): OffsetAndMetadata(7, "ours")}]
    assert await thread._commit({OTHER: 8, NOT_OURS: 9}) is False
    assert await thread._commit({}) is False
    assert len(client.committed) == 1


@pytest.mark.parametrize("error", [CommitFailedError(), IllegalStateError(), TimeoutError()])
async def test_what_kafka_refuses_is_committed_later_or_by_others(
    thread: ConsumerThread,
    consumer: BatchConsumer,
    client: Client,
    error: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    consumer._notes, client.fails = {ONE: "ours"}, error
    caplog.set_level(logging.INFO)
    assert await thread._commit({ONE: 7}) is False
    assert not thread.crashed
    assert caplog.messages[-1].endswith(f"chatgauge-in-memory: not committed: {error}")


async def test_what_nobody_expects_ends_the_consumer(
    thread: ConsumerThread, consumer: BatchConsumer, client: Client
) -> None:
    consumer._notes, client.fails = {ONE: "ours"}, ValueError("no")
    assert await thread._commit({ONE: 7}) is False
    assert thread.crashed


async def test_a_commit_that_is_not_answered_is_not_waited_for_for_ever(
    thread: ConsumerThread, consumer: BatchConsumer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_thread, "COMMIT_WITHIN_S", 0.01)
    consumer._notes, client.hangs = {ONE: "ours"}, True
    async with asyncio.timeout(10):
        assert await thread._commit({ONE: 7}) is False
        with pytest.raises(TimeoutError):
            await thread._commit_note(ONE, 7, "ours", GENERATION)
    assert not thread.crashed


# Committing a note.


async def test_a_note_is_committed_with_an_offset(thread: ConsumerThread, client: Client) -> None:
    assert await thread._commit_note(ONE, 7, "ours", GENERATION) is True
    assert client.committed == [{of(ONE): OffsetAndMetadata(7, "ours")}]


@pytest.mark.parametrize(("tp", "generation"), [(ONE, GENERATION - 1), (NOT_OURS, GENERATION)])
async def test_not_by_a_member_of_another_generation_nor_of_what_is_not_ours(
    thread: ConsumerThread, client: Client, tp: TP, generation: int
) -> None:
    assert await thread._commit_note(tp, 7, "ours", generation) is False
    assert client.committed == []


@pytest.mark.parametrize(
    "error", [UnknownMemberIdError(), IllegalGenerationError(), RebalanceInProgressError()]
)
async def test_nor_when_kafka_knows_of_a_newer_generation(
    thread: ConsumerThread, client: Client, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client.fails = error
    assert await thread._commit_note(ONE, 7, "ours", GENERATION) is False
    assert caplog.messages[-1].endswith(f"chatgauge-in-memory: ours is not committed: {error!r}")


async def test_a_connection_that_is_lost_leaves_open_whether_it_is_committed(
    thread: ConsumerThread, client: Client
) -> None:
    client.fails = KafkaConnectionError("away")
    with pytest.raises(KafkaConnectionError):
        await thread._commit_note(ONE, 7, "ours", GENERATION)


async def test_a_commit_that_is_given_up_is_not_cut_short_on_its_way(
    thread: ConsumerThread, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a request on a connection would make nonsense of what follows it."""
    going_on, done = asyncio.Event(), asyncio.Event()

    async def commit(positions: object) -> None:
        await going_on.wait()
        done.set()

    monkeypatch.setattr(client, "commit", commit)
    committing = asyncio.create_task(thread._commit_note(ONE, 7, "ours", GENERATION))
    while not client._commit_lock.locked():  # noqa: ASYNC110
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    committing.cancel()
    with suppress(asyncio.CancelledError):
        await committing
    going_on.set()
    async with asyncio.timeout(10):
        await done.wait()


# Ending.


async def test_a_rebalance_after_the_stop_has_begun_does_not_take_the_client_apart(
    thread: ConsumerThread, client: Client
) -> None:
    thread.close()
    assert client._closed is False


async def test_what_still_runs_in_the_thread_is_ended(thread: ConsumerThread) -> None:
    left = asyncio.create_task(asyncio.Event().wait())
    async with asyncio.timeout(10):
        await thread._gather_remaining_tasks()
    assert left.cancelled()


async def test_nothing_more_is_asked_of_a_thread_that_stops(
    thread: ConsumerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = asyncio.Event()

    async def stop() -> None:
        stopped.set()

    monkeypatch.setattr(thread.method_queue, "stop", stop)
    thread._consumer = None
    await thread.on_thread_stop()
    assert stopped.is_set()


async def test_without_a_client_there_is_nothing_wrong_with_it(thread: ConsumerThread) -> None:
    thread._consumer = None
    assert thread._ended_task() is None
    async with asyncio.timeout(10):
        await thread.on_thread_stop()
