"""What is read of record batches as they were fetched is what aiokafka reads record by record, of the same
topics on a real broker."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from clients.kafka.consumers import consuming
from clients.kafka.fetched import Budget, Fetched, joined, leave_packed
from infra import topics
from schemas.batch import Batch, refuse_future
from schemas.columnar import ColumnarReader
from schemas.raw import RawReader, Source
from schemas.record_batch import CODECS
from schemas.topics import REQUESTS, Topic
from schemas.validity import refuse_invalid
from sinks import events
from sinks.dlq_limit import DlqLimit
from sinks.writer import Assignment
from sinks.writer import Fetch as SinkFetch
from streams.counting.pricing import PriceList
from streams.runtime.fetch import Fetch
from tests.schemas.events import NOON_US, REQUEST, request, value
from tests.schemas.test_columnar import BAD

pytestmark = pytest.mark.timeout(300)

PATIENCE_S: Final = 120.0
KEYS: Final = (b"space-1", None, b"", b"\x00\xff\x80", b"k" * 300)
HEADERS: Final = ([], [("h", b"1")], [("a", b""), ("b", None), ("ä", b"\xff")])
GARBAGE: Final[Sequence[bytes | None]] = (None, b"", *(bad for _, bad, _ in BAD))
WAYS: Final = {
    "a fetch": {},
    "from inside a batch": {"position": 17},
    "from behind a batch": {"position": 30},
    "in fetches that are cut off": {"max_partition_fetch_bytes": 700},
    "batch by batch": {"most_records": 1},
    "within a budget": {"budget": 25},
}


@dataclass(frozen=True)
class Place:
    """One partition."""

    bootstrap: str
    topic: str

    @property
    def tp(self) -> TopicPartition:
        return TopicPartition(self.topic, 0)

    async def send(self, values: Sequence[bytes | None], codec: str = "none") -> None:
        """A batch of them, with keys and headers of every kind."""
        async with self.producer(codec) as producer:
            await self.sent(producer, values)

    def producer(self, codec: str = "none", **settings: Any) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            compression_type=None if codec == "none" else codec,
            linger_ms=50,
            max_batch_size=2**20,
            **settings,
        )

    async def sent(self, producer: AIOKafkaProducer, values: Sequence[bytes | None]) -> None:
        futures = [
            await producer.send(
                self.topic,
                value,
                # aiokafka sends no record of neither key nor value.
                key=KEYS[number % len(KEYS)] if value is not None else b"" if number % 2 else b"k",
                headers=HEADERS[number % len(HEADERS)],
                partition=0,
            )
            for number, value in enumerate(values)
        ]
        await asyncio.gather(*futures)


def place(bootstrap: str, name: str, **config: str) -> Place:
    asyncio.run(topics.create(bootstrap, partitions=1, topics=[Topic(name, "RequestEvent", config)]))
    return Place(bootstrap, name)


@dataclass
class Read:
    """What there was from a position on."""

    records: list[Any]
    parts: list[Fetched]
    position: int


async def read(place: Place, *, packed: bool, position: int = 0, **how: Any) -> Read:
    """Everything that can be read now."""
    most, allowed = how.pop("most_records", 2**31), how.pop("budget", None)
    budget = None if allowed is None else Budget()
    found: list[Any] = []
    async with consuming(place.bootstrap, **how) as consumer:
        consumer.assign([place.tp])
        consumer.seek(place.tp, position)
        if packed:
            leave_packed(consumer, most_records=most, budget=budget)
        end = (await consumer.end_offsets([place.tp]))[place.tp]
        async with asyncio.timeout(PATIENCE_S):
            while (at := await consumer.position(place.tp)) < end:
                if budget is not None:
                    budget.fill(allowed, 2**31)
                for parts in (await consumer.getmany(timeout_ms=200)).values():
                    found += parts
    return Read([], found, at) if packed else Read(found, [], at)


def values_of(records: Sequence[Any]) -> tuple[Batch, Any]:
    """As they are read one by one, with their times of arrival."""
    offsets = np.array([record.offset for record in records], np.int64)
    arrived = np.array([record.timestamp * 1_000 for record in records], np.int64)
    return ColumnarReader(REQUEST).read([record.value for record in records], offsets), arrived


def letters(batch: Batch, records: Sequence[Any], arrived: Any) -> list[dict[str, Any]]:
    by_offset = {record.offset: record for record in records}
    checked = refuse_invalid(refuse_future(batch, arrived), "RequestEvent")
    return [
        {
            "topic": REQUESTS.name,
            "partition": 0,
            "offset": refusal.offset,
            "arrived_at": by_offset[refusal.offset].timestamp * 1_000,
            "refused_at": NOON_US,
            "refused_by": "sink",
            "reason": refusal.reason.value,
            "detail": refusal.detail,
            "key": by_offset[refusal.offset].key,
            "value": by_offset[refusal.offset].value,
        }
        for refusal in checked.refused
    ]


def seen(record: Any) -> tuple[Any, ...]:
    return record.offset, record.timestamp, record.key, record.value, list(record.headers)


async def compare(place: Place, **how: Any) -> Read:
    """Read both ways, and compare all that comes of it; what aiokafka reads."""
    others = {name: it for name, it in how.items() if name not in ("most_records", "budget")}
    theirs = await read(place, packed=False, **others)
    ours = await read(place, packed=True, **how)

    assert ours.position == theirs.position
    assert [part.first for part in ours.parts[:1]] == [how.get("position", 0)] * bool(ours.parts)
    assert all(one.next_offset == following.first for one, following in pairwise(ours.parts))
    if not ours.parts:
        assert theirs.records == []
        return theirs
    whole = joined(ours.parts)
    assert whole.next_offset == theirs.position

    one_by_one = [record for part in ours.parts for record in Fetch(place.topic, 0, part).records]
    assert list(map(seen, one_by_one)) == list(map(seen, theirs.records))

    batch, arrived = values_of(theirs.records)
    for few in (0, 2_000):
        rows = RawReader(REQUEST, few=few).read([Source(part.batches, part.first) for part in ours.parts])
        assert rows.offsets.tolist() == [record.offset for record in theirs.records]
        assert rows.arrived_us.tolist() == arrived.tolist()
        assert rows.batch.frame.equals(batch.frame)
        assert rows.batch.indices.tolist() == batch.indices.tolist()
        assert rows.batch.refused == batch.refused

    writer = events.writer(lambda: NOON_US, PriceList(), limit=DlqLimit(share=1))
    assignment = Assignment(0, 1)
    step = writer.take([SinkFetch(assignment, whole)], frozenset([assignment]), 0.0)
    assert list(step.letters) == letters(batch, theirs.records, arrived)
    assert step.positions == {assignment: theirs.position}
    return theirs


def requests(first: int, count: int) -> list[bytes]:
    return [value(request(number)) for number in range(first, first + count)]


def mixture(first: int) -> list[bytes | None]:
    """Good values with garbage between them."""
    good = iter(requests(first, len(GARBAGE) + 3))
    return [next(good), *(one for bad in GARBAGE for one in (bad, next(good))), next(good)]


@pytest.fixture(scope="module", params=["CreateTime", "LogAppendTime"])
def mixed(kafka: str, request: pytest.FixtureRequest) -> Place:
    """Every codec, and all that can lie in a partition, one after the other."""

    async def fill() -> None:
        number = 0
        for turn in range(2):
            for codec in CODECS:
                await made.send(mixture(number), codec)
                await made.send(requests(number + 100, 1 + 40 * turn), codec)
                number += 200
        for codec in ("gzip", "none"):
            async with (
                made.producer(codec, transactional_id=f"{made.topic}-{codec}-a") as one,
                made.producer(codec, transactional_id=f"{made.topic}-{codec}-b") as other,
            ):
                await one.begin_transaction()
                await other.begin_transaction()
                await made.sent(one, mixture(10_000))
                await made.sent(other, mixture(20_000))
                await made.send(requests(30_000, 3), "lz4")
                await made.sent(one, requests(40_000, 5))
                await other.abort_transaction()
                await one.commit_transaction()
                await one.begin_transaction()
                await made.sent(one, requests(50_000, 2))
                await one.abort_transaction()

    made = place(kafka, f"contract-mixed-{request.param}", **{"message.timestamp.type": request.param})
    asyncio.run(fill())
    return made


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.replace(" ", "-"))
async def test_every_codec_with_aborted_and_committed_transactions_and_garbage(
    mixed: Place, way: str
) -> None:
    theirs = await compare(mixed, **WAYS[way])
    read = {record.value for record in theirs.records}
    assert value(request(30_001)) in read
    assert value(request(40_001)) in read
    assert not read & {value(request(number)) for number in (20_000, 50_000, 50_001)}
    # The partition ends with the marker of a transaction, and two records of it that nobody sees.
    assert theirs.position >= theirs.records[-1].offset + 4


async def test_an_open_transaction_holds_back_what_follows_it(kafka: str, topic_prefix: str) -> None:
    open_place = await asyncio.to_thread(place, kafka, f"{topic_prefix}-open")
    await open_place.send(mixture(0), "zstd")
    async with open_place.producer(transactional_id=open_place.topic) as producer:
        await producer.begin_transaction()
        await open_place.sent(producer, requests(100, 3))
        await open_place.send(requests(200, 2), "gzip")
        held = await compare(open_place)
        assert held.position == len(mixture(0))
        await producer.commit_transaction()

    released = await compare(open_place)
    assert len(released.records) == len(held.records) + 5
    assert released.position == held.position + 6


@pytest.mark.parametrize("codec", ["uncompressed", "gzip", "snappy", "lz4", "zstd"])
async def test_a_topic_with_a_compression_of_its_own(kafka: str, topic_prefix: str, codec: str) -> None:
    own = await asyncio.to_thread(place, kafka, f"{topic_prefix}-own", **{"compression.type": codec})
    for sent in ("none", "gzip", "zstd"):
        await own.send(mixture(0), sent)
    await compare(own)
    (batch,) = {batch.codec for part in (await read(own, packed=True)).parts for batch in part.batches}
    assert CODECS[batch] == codec.replace("uncompressed", "none")


async def test_gaps_that_compaction_leaves(kafka: str, topic_prefix: str) -> None:
    compacted = {
        "cleanup.policy": "compact",
        "segment.ms": "1000",
        "min.cleanable.dirty.ratio": "0.01",
        "min.compaction.lag.ms": "0",
    }
    gappy = await asyncio.to_thread(place, kafka, f"{topic_prefix}-gaps", **compacted)
    async with gappy.producer("gzip") as producer:
        for turn in range(6):
            # Of the first 19 keys the last is kept, the others stay; each batch begins a segment.
            sent = [
                await producer.send(
                    gappy.topic,
                    value(request(100 * turn + number)),
                    key=f"{number if number % 3 else (turn, number)}".encode(),
                    partition=0,
                    timestamp_ms=1_768_478_400_000 + 10_000 * turn,
                )
                for number in range(20)
            ]
            await asyncio.gather(*sent)

    async with asyncio.timeout(PATIENCE_S):
        while len((theirs := await read(gappy, packed=False)).records) == 120:  # noqa: ASYNC110 - Kafka has no such event
            await asyncio.sleep(0.5)

    offsets = [record.offset for record in theirs.records]
    assert max(later - earlier for earlier, later in pairwise(offsets)) > 1
    for how in ({}, {"position": offsets[3] - 1}, {"max_partition_fetch_bytes": 300}, {"most_records": 1}):
        await compare(gappy, **how)


async def test_a_partition_that_ends_in_aborted_records_alone(kafka: str, topic_prefix: str) -> None:
    nothing = await asyncio.to_thread(place, kafka, f"{topic_prefix}-aborted")
    async with nothing.producer("snappy", transactional_id=nothing.topic) as producer:
        for _ in range(3):
            await producer.begin_transaction()
            await nothing.sent(producer, requests(0, 10))
            await producer.abort_transaction()

    theirs = await compare(nothing)
    assert (theirs.records, theirs.position) == ([], 33)
