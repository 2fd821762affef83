"""What is refused as dead letters that fit, and batches that can't be read."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import InvalidTopicError
from prometheus_client import CollectorRegistry

from clients.kafka.fetched import Fetched
from clients.kafka.publisher import Publisher
from schemas.batch_writer import batch_of
from schemas.codec import Codec
from schemas.contract import schema
from schemas.record_batch import RecordBatch, split
from schemas.topics import Topic
from sinks import events
from sinks.dead_letter_producer import DeadLetterProducer
from sinks.dlq_limit import DlqLimit
from sinks.errors import LetterRefusedError
from sinks.metrics import SinkMetrics
from sinks.refused import fitted
from sinks.writer import Fetch, Step
from streams.counting.pricing import PriceList
from tests.end_to_end.log import Log, Record
from tests.schemas.batches import batch
from tests.sinks.at_work import Place, sink, stored, until_committed
from tests.sinks.making import HELD, NOON, encoded, request

LETTER = {
    "topic": "chat.requests",
    "partition": 0,
    "offset": 7,
    "arrived_at": NOON,
    "refused_at": NOON,
    "refused_by": "sink",
    "reason": "malformed",
    "detail": "torn",
    "key": b"k",
    "value": b"v",
}


def take(batches: Sequence[RecordBatch], limit: DlqLimit | None = None, most_bytes: int = 2**20) -> Step:
    writer = events.writer(lambda: NOON, PriceList(), limit=limit, most_bytes=most_bytes)
    fetched = Fetched(batches[0].base_offset, batches[-1].next_offset, batches)
    return writer.take([Fetch(HELD, fetched)], frozenset({HELD}), 0.0)


def good(offset: int, count: int = 1) -> RecordBatch:
    values = [encoded(request(offset + n)) for n in range(count)]
    return batch_of(values, offset=offset, timestamp=NOON // 1_000)


def zeros(offset: int, count: int = 1, size: int = 2**20) -> RecordBatch:
    """A batch that unpacks to more than may be."""
    [made] = split(batch([bytes(size)] * count, offset, codec=4))
    return made


# --- batches that can't be read


def test_a_batch_that_cannot_be_read_is_one_dead_letter_and_its_neighbours_are_rows() -> None:
    step = take([good(0, 3), zeros(3, 4), good(7, 2)])
    (insert,) = step.inserts
    assert insert.rows["_offset"].to_pylist() == [0, 1, 2, 7, 8]
    (letter,) = step.letters
    assert (letter["offset"], letter["reason"], letter["key"], letter["value"]) == (
        3,
        "unreadable_batch",
        None,
        None,
    )
    assert letter["detail"] == (
        "offsets 3 to 6 can't be read: the batch unpacks to more than 1 MiB (from offset 3 on, 4 records)"
    )
    assert step.positions == {HELD: 9}


def test_a_fetch_without_records_moves_the_position_alone() -> None:
    writer = events.writer(lambda: NOON, PriceList())
    step = writer.take([Fetch(HELD, Fetched(5, 9, []))], frozenset({HELD}), 0.0)
    assert (list(step.letters), step.inserts, step.positions) == ([], [], {HELD: 9})


def test_a_batch_that_cannot_be_read_counts_as_its_records() -> None:
    limit = DlqLimit(share=0.5, window=100)
    assert not take([good(0, 60), zeros(60, 50)], limit).halts
    halted = take([good(0, 40), zeros(40, 51)], limit)
    (halt,) = halted.halts.values()
    assert (halt.refused, halt.seen, halt.reasons) == (41, 81, (("unreadable_batch", 51),))
    assert (list(halted.letters), halted.inserts, halted.positions) == ([], [], {})


def test_one_large_record_halts_nothing() -> None:
    assert not take([good(0, 5), *(zeros(5 + n) for n in range(9))], DlqLimit(share=0.5, window=150)).halts


def test_of_a_garbled_batch_the_records_that_are_lost_count() -> None:
    limit = DlqLimit(share=0.5, window=100)
    whole = good(0, 30)
    shorter = replace(whole, wire=whole.wire[: len(whole.wire) - 40])
    step = take([shorter], limit)
    assert not step.halts  # 29 of its 30 records are read
    assert [letter["offset"] for letter in step.letters] == [29]


# --- letters that fit


def test_what_fits_is_kept_whole() -> None:
    assert fitted(LETTER, 1, 1) == LETTER
    assert fitted({**LETTER, "key": None, "value": None}, 0, 0)["detail"] == "torn"


def test_of_what_does_not_fit_the_beginning_is_kept_with_length_and_hash_of_all_of_it() -> None:
    value = bytes(range(256)) * 5_000
    cut = fitted({**LETTER, "value": value}, 2**20, 64 * 1024)
    assert cut["value"] == value[: 64 * 1024]
    assert cut["detail"] == (
        f"torn; the value has 1280000 bytes, SHA-256 {hashlib.sha256(value).hexdigest()}, "
        "of which the first 64 KiB are kept"
    )
    assert cut["key"] == b"k"
    assert "the key has 1280000 bytes" in fitted({**LETTER, "key": value}, 2**20, 64 * 1024)["detail"]


async def limited(place: Place, nbytes: int) -> Topic:
    """A topic of dead letters that takes no larger records, from its beginning on."""
    topic = replace(place.letters, name=f"{place.letters.name}-{nbytes}")
    admin = AIOKafkaAdminClient(bootstrap_servers=place.bootstrap)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(topic.name, 1, 1, topic_configs={"max.message.bytes": str(nbytes)})]
        )
    finally:
        await admin.close()
    return topic


async def test_what_kafka_finds_too_large_is_cut_further_and_sent(place: Place) -> None:
    topic = await limited(place, 20_000)
    box = DeadLetterProducer(place.bootstrap, SinkMetrics(CollectorRegistry()), topic)
    noise = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(2_000))
    try:
        await box.send([{**LETTER, "value": noise}, LETTER], lambda: True)
    finally:
        await box.stop()

    codec = Codec(schema("DeadLetter"))
    sent = [codec.decode(record.value) for record in await _records(place, topic)]
    assert {len(letter["value"]) for letter in sent} == {1, 1024}
    assert any("of which the first 1 KiB are kept" in letter["detail"] for letter in sent)


async def test_what_kafka_never_takes_ends_the_sink_and_says_so(place: Place) -> None:
    topic = await limited(place, 200)
    box = DeadLetterProducer(place.bootstrap, SinkMetrics(CollectorRegistry()), topic)
    noise = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(100))
    try:
        with pytest.raises(LetterRefusedError, match="chatgauge topics"):
            await box.send([{**LETTER, "value": noise}], lambda: True)
    finally:
        await box.stop()


async def test_what_cannot_succeed_is_asked_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def refuse(_: Publisher, messages: Sequence[object]) -> None:
        asked.append(messages)
        raise InvalidTopicError

    monkeypatch.setattr(Publisher, "publish", refuse)
    box = DeadLetterProducer(place.bootstrap, SinkMetrics(CollectorRegistry()), place.letters)
    with pytest.raises(LetterRefusedError, match="InvalidTopicError"):
        await box.send([LETTER], lambda: True)
    assert len(asked) == 1


async def _records(place: Place, topic: Topic) -> Sequence[Record]:
    return await asyncio.to_thread(Log(place.bootstrap).records, topic.name)


# --- positions


async def test_the_position_is_committed_behind_what_nobody_sees(place: Place) -> None:
    await place.send(place.requests, [encoded(request(n)) for n in range(3)])
    async with sink(place, place.requests) as running:
        await until_committed(place, place.requests, 3)
        await place.send_in_transaction(place.requests, [encoded(request(9))] * 4, commits=False)
        await until_committed(place, place.requests, 8)
        await place.send_in_transaction(place.requests, [encoded(request(3))], commits=True)
        await until_committed(place, place.requests, 10)
        labels = {"topic": place.requests.name, "partition": "0"}
        await running.until(lambda: running.metric("chatgauge_sink_lag_records", **labels) == 0)
        assert running.metric("chatgauge_sink_missed_records_total", topic=place.requests.name) == 0
    assert stored(place) == [0, 1, 2, 8]
