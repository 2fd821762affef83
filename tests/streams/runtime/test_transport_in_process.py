"""The consumer of the batch transport, beside a Kafka that says and does at once what a test needs of it.

With a real one, see test_transport and test_application_on_kafka.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from datetime import timedelta
from typing import Any, cast

import faust
import pytest
from aiokafka.errors import IllegalStateError, KafkaConnectionError
from aiokafka.structs import ConsumerRecord
from faust.types import TP, Message

from clients.kafka.fetched import Fetched
from infra.liveness import Part
from infra.settings import KafkaSettings
from schemas.record_batch import split
from schemas.topics import ALERTS, NOTIFIER_STATE
from streams.runtime import transport as transport_module
from streams.runtime.application import broker_urls, new_app
from streams.runtime.consumer_thread import Batching, ConsumerThread
from streams.runtime.fetch import Fetch
from streams.runtime.table import add_table
from streams.runtime.transport import BatchConsumer, BatchTransport, Records
from tests.schemas.batches import TIME_MS, batch

KAFKA = KafkaSettings(bootstrap="127.0.0.1:9")
SOURCE, OTHER = TP(ALERTS.name, 0), TP(ALERTS.name, 1)
STATE = TP(NOTIFIER_STATE.name, 0)
PLAIN = TP("chat.plain", 0)
GENERATION = 5


class Kafka:
    """What the consumer has of its thread: one member of a group, that has all partitions."""

    def __init__(self) -> None:
        self.assigned = {SOURCE, OTHER, STATE}
        self.committed: dict[TP, int | None] = {}
        self.notes: dict[TP, str] = {}
        self.earliest = {SOURCE: 0, OTHER: 0}
        self.ends: dict[TP, int | None] = {}
        self.positions: dict[TP, int | None] = {}
        self.sought: list[dict[TP, int]] = []
        self.fetched: Mapping[TP, list[Any]] = {}
        self.asked_for: list[set[TP] | None] = []
        self.answers: bool | Exception = True
        self.put: list[tuple[TP, int, str, int]] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def assignment(self) -> set[TP]:
        return self.assigned

    async def seek_to_committed(self) -> dict[TP, int | None]:
        return {tp: self.committed.get(tp) for tp in self.assigned}

    async def earliest_offsets(self, *places: TP) -> dict[TP, int]:
        return {tp: self.earliest[tp] for tp in places}

    async def seek_wait(self, places: Mapping[TP, int]) -> None:
        if isinstance(self.answers, Exception):
            raise self.answers
        self.sought.append(dict(places))

    def highwater(self, tp: TP) -> int | None:
        return self.ends.get(tp)

    async def highwaters(self, *places: TP) -> dict[TP, int | None]:
        return {tp: self.ends.get(tp) for tp in places}

    async def position(self, tp: TP) -> int | None:
        return self.positions.get(tp)

    async def committed_notes(self, places: Collection[TP]) -> dict[TP, str]:
        return {tp: self.notes[tp] for tp in places if tp in self.notes}

    async def committed_offsets(self, places: Collection[TP]) -> dict[TP, int]:
        self.meanwhile()
        return {tp: offset for tp in places if (offset := self.committed.get(tp)) is not None}

    async def commit_note(self, tp: TP, offset: int, note: str, generation: int) -> bool:
        self.put.append((tp, offset, note, generation))
        if isinstance(self.answers, Exception):
            raise self.answers
        return self.answers

    async def getmany(self, places: set[TP] | None, timeout: float) -> Mapping[TP, list[Any]]:  # noqa: ASYNC109
        self.asked_for.append(places)
        self.meanwhile()
        return self.fetched


class Reads:
    """How partitions are read: as a test says."""

    def __init__(self) -> None:
        self.whole: set[int] = set()
        self.expected: list[frozenset[int]] = []
        self.begin: dict[TP, int] = {}
        self.asked: list[tuple[TP, int]] = []

    async def expect(self, assigned: frozenset[int]) -> Collection[int]:
        self.expected.append(assigned)
        return self.whole

    def reading_from(self, tp: TP, committed: int) -> int:
        self.asked.append((tp, committed))
        return self.begin.get(tp, committed)


@pytest.fixture
def kafka_here() -> Kafka:
    return Kafka()


@pytest.fixture
def reads() -> Reads:
    return Reads()


@pytest.fixture
async def app(reads: Reads) -> faust.App:
    app = new_app("in-memory", KAFKA, partitions=2, max_fetch=100)
    batching = Batching(
        frozenset({ALERTS.name}), frozenset({NOTIFIER_STATE.name}), timedelta(0), 1, most_bytes=77
    )
    app.transport = BatchTransport(broker_urls(KAFKA), app, batching, reads, Part("test"))
    add_table(app, NOTIFIER_STATE, 2)
    app.topics._acking_topics.update({ALERTS.name, PLAIN.topic})
    app.consumer_generation_id = GENERATION
    app.flow_control.resume()
    app.rebalancing = False
    return app


@pytest.fixture
async def told() -> list[Any]:
    return []


@pytest.fixture
async def consumer(app: faust.App, kafka_here: Kafka, told: list[Any]) -> AsyncIterator[BatchConsumer]:
    async def callback(message: Message) -> None: ...

    async def revoked(places: set[TP]) -> None:
        told.append(("revoked", places))

    async def assigned(places: set[TP], generation: int) -> None:
        told.append(("assigned", places, generation))

    consumer = app.transport.create_consumer(
        callback, on_partitions_revoked=revoked, on_partitions_assigned=assigned
    )
    assert isinstance(consumer, BatchConsumer)
    thread, consumer._thread = consumer._thread, kafka_here
    assert isinstance(thread, ConsumerThread)
    assert thread.beacon.parent is consumer.beacon, "if it fails, the consumer does"
    consumer._set_active_tps({SOURCE, OTHER, STATE, PLAIN})
    yield consumer
    thread.thread_loop.close()


def fetched(first: int, next_offset: int, *values: bytes) -> Fetched:
    """Of the records before `next_offset`."""
    begin = next_offset - len(values)
    return Fetched(first, next_offset, list(split(batch(values, begin))) if values else [])


async def taken(consumer: BatchConsumer) -> list[tuple[TP, Message]]:
    return [each async for each in consumer.getmany(1.0)]


def message(tp: TP, offset: int, generation: int = GENERATION) -> Message:
    return Message(
        *(tp.topic, tp.partition, offset, 0.0, 1, None, None, None, None, 0, 0, tp), generation_id=generation
    )


async def test_a_transport_says_whose_part_it_is_and_how_it_reads(app: faust.App, reads: Reads) -> None:
    transport = cast("BatchTransport", app.transport)
    assert (transport.part.name, transport.reading) == ("test", reads)
    assert transport.batching.sources == {ALERTS.name}


# How far a partition is acknowledged.


async def test_a_partition_of_which_nothing_was_fetched_is_not_caught_up(consumer: BatchConsumer) -> None:
    assert not consumer.caught_up(SOURCE)


async def test_it_is_when_what_is_acknowledged_reaches_the_end(
    consumer: BatchConsumer, kafka_here: Kafka
) -> None:
    kafka_here.ends[SOURCE] = 12
    assert not consumer.caught_up(SOURCE)
    consumer.ack(message(SOURCE, 10))
    assert not consumer.caught_up(SOURCE)
    consumer.ack(message(SOURCE, 11))
    assert consumer.caught_up(SOURCE)
    assert not consumer.caught_up(OTHER)


async def test_it_is_when_what_was_committed_before_reaches_the_end(
    consumer: BatchConsumer, kafka_here: Kafka
) -> None:
    kafka_here.ends[SOURCE], kafka_here.committed[SOURCE] = 12, 12
    await consumer.perform_seek()
    assert consumer.caught_up(SOURCE)


async def test_it_is_when_retention_has_left_nothing(consumer: BatchConsumer, kafka_here: Kafka) -> None:
    kafka_here.ends[SOURCE], kafka_here.committed[SOURCE], kafka_here.earliest[SOURCE] = 12, 3, 12
    await consumer.perform_seek()
    assert consumer.caught_up(SOURCE)


async def test_it_is_though_it_is_read_from_before_what_was_committed(
    consumer: BatchConsumer, kafka_here: Kafka, reads: Reads
) -> None:
    kafka_here.ends[SOURCE], kafka_here.committed[SOURCE], reads.begin[SOURCE] = 12, 12, 5
    await consumer.perform_seek()
    assert consumer.begun_at(SOURCE) == 5
    assert consumer.caught_up(SOURCE)


async def test_a_partition_of_one_record_that_nobody_has_taken_is_not(
    consumer: BatchConsumer, kafka_here: Kafka
) -> None:
    kafka_here.ends[SOURCE] = 1
    assert not consumer.caught_up(SOURCE)


async def test_an_empty_partition_is_caught_up(consumer: BatchConsumer, kafka_here: Kafka) -> None:
    kafka_here.ends[SOURCE] = 0
    assert consumer.caught_up(SOURCE)


# Whether there is work.


@pytest.mark.parametrize(
    ("ends", "positions", "has_work"),
    [
        ({SOURCE: 5, OTHER: 5}, {SOURCE: 5, OTHER: 5}, False),
        ({SOURCE: 5, OTHER: 6}, {SOURCE: 5, OTHER: 5}, True),
        ({SOURCE: 1, OTHER: 0}, {SOURCE: None, OTHER: None}, True),
        ({SOURCE: None, OTHER: 0}, {SOURCE: 0, OTHER: None}, False),
    ],
)
async def test_there_is_work_where_a_partition_goes_on_behind_what_was_fetched(
    consumer: BatchConsumer,
    kafka_here: Kafka,
    ends: dict[TP, int | None],
    positions: dict[TP, int | None],
    has_work: bool,
) -> None:
    kafka_here.ends, kafka_here.positions = ends, positions
    assert await consumer.has_work([SOURCE, OTHER]) is has_work


# Notes.


async def test_a_note_is_known_from_kafka_and_goes_with_every_commit(
    consumer: BatchConsumer, kafka_here: Kafka
) -> None:
    kafka_here.notes = {SOURCE: "ours"}
    assert consumer.note_of(SOURCE) is None, "not known: it must not be lost"
    assert await consumer.committed_notes([SOURCE, OTHER]) == {SOURCE: "ours"}
    assert (consumer.note_of(SOURCE), consumer.note_of(OTHER)) == ("ours", "")


async def test_a_note_is_committed_with_the_offset_that_is_there(
    consumer: BatchConsumer, kafka_here: Kafka
) -> None:
    kafka_here.committed[SOURCE], kafka_here.earliest[SOURCE] = 7, 3
    assert await consumer.commit_note(SOURCE, "ours") is True
    assert kafka_here.put == [(SOURCE, 7, "ours", GENERATION)]
    assert consumer.note_of(SOURCE) == "ours"


async def test_where_none_is_it_is_committed_with_the_beginning(
    consumer: BatchConsumer, kafka_here: Kafka
) -> None:
    kafka_here.earliest[SOURCE] = 3
    assert await consumer.commit_note(SOURCE, "ours")
    assert kafka_here.put == [(SOURCE, 3, "ours", GENERATION)]


async def test_it_is_of_the_generation_in_which_it_was_asked_for(
    consumer: BatchConsumer, kafka_here: Kafka, app: faust.App
) -> None:
    kafka_here.meanwhile = lambda: setattr(app, "consumer_generation_id", GENERATION + 1)
    await consumer.commit_note(SOURCE, "ours")
    assert kafka_here.put == [(SOURCE, 0, "ours", GENERATION)]


async def test_a_note_that_is_refused_is_not_known(consumer: BatchConsumer, kafka_here: Kafka) -> None:
    kafka_here.answers = False
    assert await consumer.commit_note(SOURCE, "ours") is False
    assert consumer.note_of(SOURCE) is None


async def test_what_may_be_committed_or_not_goes_with_the_next_commit(
    consumer: BatchConsumer, kafka_here: Kafka
) -> None:
    kafka_here.answers = KafkaConnectionError("away")
    with pytest.raises(KafkaConnectionError):
        await consumer.commit_note(SOURCE, "ours")
    assert consumer.note_of(SOURCE) == "ours"


async def test_an_offset_that_kafka_does_not_say_is_not_waited_for_for_ever(
    consumer: BatchConsumer, kafka_here: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(places: Collection[TP]) -> dict[TP, int]:
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(transport_module, "COMMIT_WITHIN_S", 0.01)
    monkeypatch.setattr(kafka_here, "committed_offsets", never)
    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError):
            await consumer.commit_note(SOURCE, "ours")
    assert consumer.note_of(SOURCE) is None


# Where a partition is read from.


async def test_reading_begins_at_what_is_committed_or_at_the_beginning(
    consumer: BatchConsumer, kafka_here: Kafka, reads: Reads
) -> None:
    kafka_here.committed[SOURCE], kafka_here.earliest[OTHER] = 7, 3
    assert consumer.begun_at(SOURCE) is None
    await consumer.perform_seek()
    assert kafka_here.sought == [{SOURCE: 7, OTHER: 3}]
    assert (consumer.begun_at(SOURCE), consumer.begun_at(OTHER)) == (7, 3)
    assert sorted(reads.asked) == [(SOURCE, 7), (OTHER, 3)]
    assert consumer._read_offset[SOURCE] is None, "Faust drops nothing as read already"


async def test_it_may_begin_earlier_but_not_before_what_retention_has_left(
    consumer: BatchConsumer, kafka_here: Kafka, reads: Reads
) -> None:
    kafka_here.committed.update({SOURCE: 70, OTHER: 70})
    kafka_here.earliest.update({SOURCE: 20, OTHER: 90})
    reads.begin = {SOURCE: 10, OTHER: 80}
    await consumer.perform_seek()
    assert sorted(reads.asked) == [(SOURCE, 70), (OTHER, 90)]
    assert kafka_here.sought == [{SOURCE: 20, OTHER: 90}]


async def test_without_a_source_nothing_is_sought_beside_what_faust_seeks(
    consumer: BatchConsumer, kafka_here: Kafka
) -> None:
    kafka_here.assigned = {STATE}
    kafka_here.committed[STATE] = 3
    await consumer.perform_seek()
    assert kafka_here.sought == []
    assert consumer._read_offset[STATE] == 3


# Fetching.


async def test_a_fetch_of_a_source_is_one_message(consumer: BatchConsumer, kafka_here: Kafka) -> None:
    batches = [*split(batch([b"a"], 3)), *split(batch([b"b", b"c"], 4))]
    one, two = Fetched(3, 6, batches), fetched(6, 7, b"c")
    other = fetched(0, 1, b"d")
    kafka_here.fetched = {SOURCE: [one, two], OTHER: [other], STATE: [fetched(0, 3)]}

    messages = await taken(consumer)

    assert [(tp, each.offset) for tp, each in messages] == [(SOURCE, 5), (SOURCE, 6), (OTHER, 0), (STATE, 2)]
    first = messages[0][1]
    assert (first.topic, first.partition, first.tp) == (SOURCE.topic, 0, SOURCE)
    assert first.timestamp == (TIME_MS + 2) / 1000
    assert (first.key, first.headers, first.generation_id) == (None, None, GENERATION)
    assert cast("Any", first.value) == Fetch(SOURCE.topic, 0, one, [one, two, other], most_bytes=77)
    assert messages[3][1].timestamp == 0.0, "it holds no record"


async def test_a_record_of_any_other_topic_is_a_message_as_ever(
    consumer: BatchConsumer, kafka_here: Kafka
) -> None:
    record = ConsumerRecord(PLAIN.topic, 0, 4, 1_000, 0, b"k", b"v", None, 1, 1, ())
    kafka_here.fetched = {PLAIN: [record]}
    [(tp, one)] = await taken(consumer)
    assert (tp, one.offset, one.key, one.value) == (PLAIN, 4, b"k", b"v")


async def test_only_partitions_that_are_active_or_buffered_are_handed_over(
    consumer: BatchConsumer, kafka_here: Kafka
) -> None:
    kafka_here.fetched = {SOURCE: [fetched(0, 1, b"a")], OTHER: [fetched(0, 1, b"a")]}
    kafka_here.meanwhile = lambda: consumer.pause_partitions([SOURCE])
    assert [tp for tp, _ in await taken(consumer)] == [OTHER]
    consumer._buffered_partitions.add(SOURCE)
    assert [tp for tp, _ in await taken(consumer)] == [SOURCE, OTHER]


async def test_what_is_fetched_while_the_flow_stops_comes_again(
    consumer: BatchConsumer, kafka_here: Kafka
) -> None:
    kafka_here.fetched = {SOURCE: [fetched(0, 1, b"a")]}
    kafka_here.meanwhile = consumer.stop_flow
    assert await taken(consumer) == []
    assert kafka_here.sought == [{SOURCE: 0, OTHER: 0}]


async def test_partitions_that_have_gone_need_not_be_sought(
    consumer: BatchConsumer, kafka_here: Kafka
) -> None:
    kafka_here.fetched = {SOURCE: [fetched(0, 1, b"a")]}
    kafka_here.meanwhile = consumer.stop_flow
    kafka_here.answers = IllegalStateError("not assigned")
    assert await taken(consumer) == []


@pytest.mark.parametrize("event", ["flow", "generation"])
async def test_a_rebalance_that_begins_in_the_midst_of_a_fetch_cuts_it_short(
    consumer: BatchConsumer, kafka_here: Kafka, app: faust.App, event: str
) -> None:
    kafka_here.fetched = {SOURCE: [fetched(0, 1, b"a"), fetched(1, 2, b"b")], OTHER: [fetched(0, 1, b"c")]}
    got = []
    async for each in consumer.getmany(1.0):
        got.append(each)
        if event == "flow":
            consumer.stop_flow()
        else:
            app.consumer_generation_id += 1
    assert [(tp, one.offset) for tp, one in got] == [(SOURCE, 0)]
    assert kafka_here.sought == []


async def test_a_consumer_that_stops_hands_nothing_over(consumer: BatchConsumer, kafka_here: Kafka) -> None:
    kafka_here.fetched = {SOURCE: [fetched(0, 1, b"a")]}
    kafka_here.meanwhile = consumer._stopped.set
    assert await taken(consumer) == []
    assert kafka_here.sought == []


async def test_until_a_rebalance_is_over_only_changelogs_are_fetched(
    consumer: BatchConsumer, kafka_here: Kafka, app: faust.App
) -> None:
    app.rebalancing = True
    kafka_here.fetched = {STATE: [fetched(0, 1, b"a")]}
    consumer._set_active_tps({SOURCE, OTHER, STATE})
    assert [tp for tp, _ in await taken(consumer)] == [STATE]
    assert kafka_here.asked_for == [{STATE}]
    app.rebalancing = False
    await taken(consumer)
    assert kafka_here.asked_for[1] == {SOURCE, OTHER, STATE}


async def test_and_nothing_if_there_are_none(
    consumer: BatchConsumer, kafka_here: Kafka, app: faust.App, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(consumer, "sleep", sleep)
    app.rebalancing = True
    consumer._set_active_tps({SOURCE, OTHER})
    assert await taken(consumer) == []
    assert kafka_here.asked_for == [], "Kafka's client would take no partition for all"
    [pause] = pauses
    assert 0 < pause < 1, "it looks again soon, and lets others run meanwhile"


async def test_a_client_without_a_group_fetches_whatever_there_is(
    consumer: BatchConsumer, kafka_here: Kafka, app: faust.App
) -> None:
    app.client_only = app.rebalancing = True
    kafka_here.fetched = {PLAIN: []}
    assert await taken(consumer) == []
    assert kafka_here.asked_for == [None]


async def test_what_a_source_answers_in_the_midst_of_a_rebalance_comes_again(
    consumer: BatchConsumer, kafka_here: Kafka, app: faust.App
) -> None:
    kafka_here.fetched = {SOURCE: [fetched(0, 1, b"a")], STATE: [fetched(0, 1, b"b")]}
    kafka_here.meanwhile = lambda: setattr(app, "rebalancing", True)
    assert [tp for tp, _ in await taken(consumer)] == [STATE]
    assert kafka_here.sought == [{SOURCE: 0, OTHER: 0}]


async def test_a_changelog_that_is_recovered_makes_nobody_seek(
    consumer: BatchConsumer, kafka_here: Kafka
) -> None:
    kafka_here.fetched = {SOURCE: [fetched(0, 1, b"a")], STATE: [fetched(0, 1, b"b")]}
    assert len(await taken(consumer)) == 2
    assert kafka_here.sought == []


# Acknowledging.


async def test_a_fetch_that_is_acknowledged_is_committed_with_all_before_it(consumer: BatchConsumer) -> None:
    assert consumer.ack(message(SOURCE, 40)) is True
    assert consumer.ack(message(SOURCE, 20)) is True
    assert consumer._new_offset(SOURCE) == 41
    assert consumer._new_offset(SOURCE) is None, "nothing has come since"
    assert consumer.ack(message(SOURCE, 20)) is True
    assert consumer._new_offset(SOURCE) == 21, "also if it is acknowledged once more"


async def test_a_fetch_that_was_acknowledged_is_not_once_more(consumer: BatchConsumer) -> None:
    one = message(SOURCE, 40)
    assert consumer.ack(one) is True
    assert consumer.ack(one) is False


async def test_of_other_topics_only_what_has_no_hole_before_it_is_committed(consumer: BatchConsumer) -> None:
    for offset in (0, 1, 3):
        assert consumer.ack(message(PLAIN, offset)) is True
    assert consumer._new_offset(PLAIN) == 2
    await consumer._add_gap(PLAIN, 2, 2)
    assert consumer._gap[PLAIN]


async def test_a_hole_in_a_source_is_none(consumer: BatchConsumer) -> None:
    await consumer._add_gap(SOURCE, 2, 9)
    assert not consumer._gap[SOURCE]


@pytest.mark.parametrize("event", ["generation", "flow"])
async def test_what_a_stream_passes_over_in_a_rebalance_is_not_acknowledged(
    consumer: BatchConsumer, app: faust.App, kafka_here: Kafka, event: str
) -> None:
    one, plain = message(SOURCE, 40), message(PLAIN, 0)
    if event == "flow":
        app.flow_control.suspend()
    else:
        app.consumer_generation_id += 1
    kafka_here.ends[SOURCE] = 41
    assert consumer.ack(one) is False
    assert consumer._new_offset(SOURCE) is None
    assert not consumer.caught_up(SOURCE)
    assert consumer.ack(plain) is True, "of other topics it is, as ever"


async def test_a_busy_stream_stops_no_partition(consumer: BatchConsumer) -> None:
    consumer.on_buffer_full(SOURCE)
    assert SOURCE in consumer._active_partitions
    assert SOURCE not in consumer._buffered_partitions


# Partitions that go and come.


async def test_partitions_that_go_are_forgotten(
    consumer: BatchConsumer, kafka_here: Kafka, told: list[Any]
) -> None:
    kafka_here.committed[SOURCE], kafka_here.ends[SOURCE] = 3, 10
    await consumer.perform_seek()
    await consumer.committed_notes([SOURCE, OTHER])
    consumer.ack(message(SOURCE, 9))
    assert consumer.caught_up(SOURCE)

    await consumer.on_partitions_revoked({SOURCE, STATE})

    assert not consumer.caught_up(SOURCE)
    assert (consumer.begun_at(SOURCE), consumer.note_of(SOURCE)) == (None, None)
    assert (consumer.begun_at(OTHER), consumer.note_of(OTHER)) == (0, "")
    assert told == [("revoked", {SOURCE, STATE})]


async def test_before_a_recovery_it_is_asked_which_changelogs_are_to_be_read_whole(
    consumer: BatchConsumer, app: faust.App, reads: Reads, told: list[Any]
) -> None:
    one = TP(NOTIFIER_STATE.name, 1)
    recovered_to = app.tables.recovery.active_offsets
    recovered_to.update({STATE: 10, one: 20, OTHER: 30})
    reads.whole = {1}

    await consumer.on_partitions_assigned({OTHER, STATE, one}, 6)

    assert reads.expected == [frozenset({1})]
    assert dict(recovered_to) == {STATE: 10, OTHER: 30}
    assert told == [("assigned", {OTHER, STATE, one}, 6)]


async def test_a_member_without_partitions_expects_none(
    consumer: BatchConsumer, reads: Reads, told: list[Any]
) -> None:
    await consumer.on_partitions_assigned(set())
    assert reads.expected == [frozenset()]
    assert told == [("assigned", set(), 0)]


# What an agent has of an event.


async def test_an_event_has_the_fetch_and_no_key(app: faust.App) -> None:
    fetch = Fetch(SOURCE.topic, 0, fetched(0, 1, b"a"))
    one = Message(
        *(SOURCE.topic, 0, 0, 0.0, 1, None, None, cast("Any", fetch), None, 0, 0, SOURCE),
    )
    event = await Records().decode(app, one)
    assert (event.key, event.value) == (None, fetch)
