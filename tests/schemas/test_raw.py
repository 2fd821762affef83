"""Fetches into columns: the same rows, refusals and offsets as record by record, whatever they hold."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import contract, wire
from schemas.batch import refuse_future
from schemas.columnar import ColumnarReader
from schemas.contract import Schema
from schemas.errors import Reason, RegistryRejectedError, RegistryUnavailableError
from schemas.raw import RawReader, Source
from schemas.record_batch import committed, split
from schemas.records import Record
from schemas.validity import refuse_invalid
from tests.schemas.batches import LOG_APPEND_TIME, PACK, TIME_MS, Sent, batch, section, wrap
from tests.schemas.events import NOON_US, REQUEST, body, long, mutated, request, value
from tests.schemas.test_columnar import BAD

WAYS = [
    pytest.param({"few": 10**9}, id="one by one"),
    pytest.param({"few": 0}, id="at once"),
    pytest.param({"few": 0, "at_once": 300}, id="in portions"),
]
VERSIONS = contract.history("RequestEvent")


class Registry:
    """Knows every version of a request by its number."""

    def schema(self, schema_id: int) -> Schema:
        if schema_id == 99:
            raise RegistryUnavailableError("away")
        if not 0 < schema_id <= len(VERSIONS):
            raise RegistryRejectedError("no such schema")
        return VERSIONS[schema_id - 1]


def confluent(number: int, version: int = len(VERSIONS)) -> bytes:
    return wire.confluent_header(version) + body(VERSIONS[version - 1], request(number))


def source(*batches: bytes, position: int = 0) -> Source:
    return Source(list(committed(split(b"".join(batches)))), position)


def reader(**way: int) -> RawReader:
    return RawReader(REQUEST, registry=Registry(), **way)  # type: ignore[arg-type]


@dataclass
class Read:
    """What comes out of a partition, to be compared."""

    frame: pl.DataFrame
    refused: list[tuple[int, Reason, str]]
    offsets: list[int]
    arrived_us: list[int]


def raw(
    sources: Sequence[Source], way: dict[str, int], executor: ThreadPoolExecutor | None = None
) -> list[Read]:
    """Read, with what always holds checked."""
    rows = reader(**way).read(sources, executor)
    found, begin = [], 0
    for number, (end, part) in enumerate(zip(rows.ends, rows.apart(rows.batch), strict=True)):
        offsets = rows.offsets[begin:end]
        assert part.frame["_offset"].to_list() == offsets[part.indices].tolist()
        assert all(refusal.offset == offsets[refusal.index] for refusal in part.refused)
        taken = sorted([*part.indices.tolist(), *(refusal.index for refusal in part.refused)])
        assert taken == list(range(end - begin)), "every record is a row or a refusal"
        assert (np.diff(offsets) > 0).all()
        for at in range(begin, end):
            assert rows.record(number, int(rows.offsets[at])).offset == rows.offsets[at]
        refused = [(refusal.offset, refusal.reason, refusal.detail) for refusal in part.refused]
        found.append(Read(part.frame, refused, offsets.tolist(), rows.arrived_us[begin:end].tolist()))
        begin = end
    return found


def one_by_one(octets: bytes, position: int) -> Read:
    """With aiokafka, and the reader of values."""
    theirs = MemoryRecords(octets)
    records = []
    while theirs.has_next():
        records += [record for record in theirs.next_batch() if record.offset >= position]
    offsets = np.array([record.offset for record in records], np.int64)
    values = [record.value for record in records]
    read = ColumnarReader(REQUEST, registry=Registry()).read(values, offsets)  # type: ignore[arg-type]
    refused = [(refusal.offset, refusal.reason, refusal.detail) for refusal in read.refused]
    return Read(read.frame, refused, offsets.tolist(), [record.timestamp * 1_000 for record in records])


def same(one: Read, other: Read) -> None:
    assert one.frame.equals(other.frame)
    assert (one.refused, one.offsets, one.arrived_us) == (other.refused, other.offsets, other.arrived_us)


GOOD = [value(request(number)) for number in range(12)]
BAD_VALUES = [bad for _, bad, _ in BAD]
values = (
    st.sampled_from(GOOD)
    | st.builds(confluent, st.integers(0, 9), st.integers(1, len(VERSIONS)))
    | st.builds(
        lambda number, schema: value(request(number), schema), st.integers(0, 9), st.sampled_from(VERSIONS)
    )
    | st.sampled_from(BAD_VALUES)
    | st.builds(lambda seed: mutated(GOOD[3], random.Random(seed)), st.integers(0, 10**6))
)
sents = st.builds(
    Sent,
    value=values,
    key=st.none() | st.binary(max_size=3) | st.binary(min_size=60, max_size=140),
    headers=st.just(()) | st.lists(st.tuples(st.just(b"k"), st.none() | st.binary(max_size=9)), max_size=3),
)


@st.composite
def partitions(draw: st.DrawFn) -> tuple[bytes, int]:
    """The octets of a fetch, and the position that it is read from."""
    offset, parts = draw(st.integers(0, 50)), []
    first = offset
    for _ in range(draw(st.integers(0, 4))):
        sent = draw(st.lists(sents, min_size=1, max_size=6))
        steps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 70]), min_size=len(sent), max_size=len(sent)))
        deltas = np.cumsum(steps) - steps[0]
        records = [
            Sent(one.value, one.key, one.headers, int(delta)) for one, delta in zip(sent, deltas, strict=True)
        ]
        flags = draw(st.sampled_from([0, 0, LOG_APPEND_TIME]))
        parts.append(batch(records, offset, codec=draw(st.integers(0, 4)), flags=flags))
        offset += int(deltas[-1]) + 1 + draw(st.integers(0, 2))
    return b"".join(parts), draw(st.integers(first, offset + 1))


@pytest.mark.parametrize("way", WAYS)
class TestAnyFetch:
    @settings(deadline=None, max_examples=120)
    @given(fetches=st.lists(partitions(), max_size=3))
    def test_it_is_read_as_record_by_record(
        self, way: dict[str, int], fetches: list[tuple[bytes, int]]
    ) -> None:
        read = raw([source(octets, position=position) for octets, position in fetches], way)
        for one, (octets, position) in zip(read, fetches, strict=True):
            same(one, one_by_one(octets, position))

    @pytest.mark.parametrize(("bad", "reason"), [one[1:] for one in BAD], ids=[one[0] for one in BAD])
    def test_a_bad_value_is_refused_and_can_be_had_for_its_dead_letter(
        self, way: dict[str, int], bad: bytes | None, reason: Reason
    ) -> None:
        octets = batch([*GOOD[:2], Sent(bad, b"its key", time=7), *GOOD[2:]], 100, codec=4)
        rows = RawReader(REQUEST, **way).read([source(batch(GOOD)), source(octets)])  # type: ignore[arg-type]
        assert [(one.offset, one.reason) for one in rows.batch.refused] == [(102, reason)]
        assert rows.record(1, 102) == Record(102, TIME_MS + 7, b"its key", bad)
        assert rows.batch.frame["event_id"].to_list() == 2 * [f"event-{at:06d}" for at in range(12)]

    def test_rows_that_are_refused_later_can_be_had_too(self, way: dict[str, int]) -> None:
        late = NOON_US + 400_000_000
        events = [request(0), request(1, occurred_at=late), request(2, model=""), request(3)]
        sources = [
            source(batch(GOOD[:2], codec=1)),
            source(batch([value(one) for one in events], 7, codec=3)),
        ]
        rows = reader(**way).read(sources)
        left = refuse_invalid(refuse_future(rows.batch, rows.arrived_us), "RequestEvent")
        first, second = rows.apart(left)
        assert (first.frame.height, first.refused) == (2, [])
        assert second.frame["event_id"].to_list() == ["event-000000", "event-000003"]
        assert [(one.index, one.offset, one.reason) for one in second.refused] == [
            (1, 8, Reason.IN_THE_FUTURE),
            (2, 9, Reason.INVALID),
        ]
        assert [rows.record(1, one.offset).value for one in second.refused] == [
            value(events[1]),
            value(events[2]),
        ]

    def test_a_registry_that_is_away_is_said(self, way: dict[str, int]) -> None:
        with pytest.raises(RegistryUnavailableError):
            reader(**way).read([source(batch([wire.confluent_header(99) + b"x"]))])

    def test_nothing_gives_nothing(self, way: dict[str, int]) -> None:
        for sources in ([], [source()], [source(batch(GOOD), position=50), source()]):
            rows = reader(**way).read(sources)
            assert (rows.batch.frame.height, rows.batch.refused) == (0, [])
            assert rows.ends == [0] * len(sources)
            assert rows.batch.frame.schema == reader().frame_schema


def bomb() -> bytes:
    return wrap(PACK[4](bytes(2**20)), 100, count=50, codec=4)


UNREADABLE = [
    ("a bomb", bomb(), "the batch unpacks to more than 100000 bytes"),
    ("no stream", wrap(b"garbage", 100, count=50, codec=1), "the batch can't be unpacked as gzip: "),
    ("no codec", wrap(b"garbage", 100, count=50, codec=6), "the batch is compressed with codec 6"),
    ("a bit", batch(GOOD[:1], 100, last=149, count=50, crc=7), "the batch has a wrong checksum (CRC-32C)"),
    ("zeros", wrap(bytes(99), 100, count=50), "record 1 of 50 has a length of 0"),
]


@pytest.mark.parametrize("way", WAYS)
class TestUnreadable:
    @pytest.mark.parametrize(
        ("bad", "why"), [one[1:] for one in UNREADABLE], ids=[one[0] for one in UNREADABLE]
    )
    @pytest.mark.parametrize("place", range(3))
    def test_a_batch_is_refused_once_by_its_offsets(
        self, way: dict[str, int], bad: bytes, why: str, place: int
    ) -> None:
        good = [batch(GOOD, 0), batch(GOOD, 150), batch(GOOD, 300)]
        parts = {0: [bad, good[1], good[2]], 1: [good[0], bad, good[1]], 2: [good[0], bad]}[place]
        rows = reader(**way, limit=100_000).read([source(batch(GOOD)), source(*parts), source(batch(GOOD))])
        (refusal,) = rows.batch.refused
        assert (refusal.offset, refusal.reason) == (100, Reason.UNREADABLE_BATCH)
        assert refusal.detail.startswith(f"offsets 100 to 149 can't be read: {why}")
        assert refusal.detail.endswith("(from offset 100 on, 50 records)")
        assert rows.record(1, 100) == Record(100, int(rows.arrived_us[refusal.index]) // 1_000, None, None)
        assert rows.batch.frame["event_id"].to_list() == (1 + len(parts)) * [
            f"event-{at:06d}" for at in range(12)
        ]

    def test_the_beginning_of_a_garbled_batch_is_read(self, way: dict[str, int]) -> None:
        garbled = section([Sent(one) for one in GOOD[:5]]) + long(9_999) + bytes(50)
        sources = [source(batch(GOOD), wrap(garbled, 100, count=12), batch(GOOD, 200))]
        (one,) = raw(sources, way)
        assert one.offsets == [*range(12), *range(100, 106), *range(200, 212)]
        assert [(offset, reason) for offset, reason, _ in one.refused] == [(105, Reason.UNREADABLE_BATCH)]
        assert one.refused[0][2].startswith(
            "offsets 105 to 111 can't be read: record 6 of 12 has a length of 9999"
        )

    def test_from_a_position_inside_it_is_refused_from_there(self, way: dict[str, int]) -> None:
        rows = reader(**way).read([source(UNREADABLE[1][1], batch(GOOD, 200), position=149)])
        assert [one.offset for one in rows.batch.refused] == [149]
        assert rows.batch.refused[0].detail.startswith("offset 149 can't be read: ")


class TestThreads:
    def test_threads_read_the_same(self) -> None:
        chance = random.Random(11)
        parts = []
        for number in range(40):
            ones = [mutated(one, chance) if chance.random() < 0.01 else one for one in GOOD * 5]
            parts.append(batch(ones, 100 * number, codec=number % 5))
        octets = b"".join(parts)
        with ThreadPoolExecutor(3) as executor:
            for at_once in (500, 20_000):
                way = {"few": 0, "at_once": at_once}
                sources = [source(octets), source(octets, position=1_234)]
                for one, position in zip(raw(sources, way, executor), (0, 1_234), strict=True):
                    same(one, one_by_one(octets, position))


class TestForgery:
    """Who writes a value knows what lies around it in Kafka, but not what is read."""

    def test_a_body_that_skips_to_the_next_record_itself_is_refused(self) -> None:
        """Behind a record that ends early, as much to skip as leads to the next body."""
        for skipped in range(200):
            forged = GOOD[1] + bytes(8) + long(skipped) + bytes(40)
            (one,) = raw([source(batch([GOOD[0], forged, GOOD[2]]))], {"few": 0})
            assert [(offset, reason) for offset, reason, _ in one.refused] == [(1, Reason.LEFT_OVER_BYTES)]
            assert one.frame["event_id"].to_list() == ["event-000000", "event-000002"]

    @pytest.mark.slow
    def test_a_body_that_takes_in_its_neighbours_is_refused(self) -> None:
        for size in range(150, 600):
            forged = GOOD[1][:10] + long(size) + GOOD[1][11:]
            (one,) = raw([source(batch([GOOD[0], forged, GOOD[2], GOOD[3]]))], {"few": 0})
            assert [offset for offset, _, _ in one.refused] == [1]
            assert one.frame["event_id"].to_list() == ["event-000000", "event-000002", "event-000003"]


def test_only_what_was_read_can_be_looked_up() -> None:
    rows = reader().read([source(batch(GOOD[:2]), position=1), source(batch(GOOD[:3]))])
    assert rows.record(0, 1).value == GOOD[1]
    for number, offset in ((0, 0), (0, 2), (1, 3)):
        with pytest.raises(KeyError):
            rows.record(number, offset)
