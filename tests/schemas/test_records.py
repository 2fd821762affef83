"""Records one by one, as aiokafka reads them; of a batch that is garbled, those before the garbage."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import GarbledRecordsError
from schemas.placing import Places, place
from schemas.record_batch import RecordBatch, split
from schemas.records import KafkaRecord, records, walk
from schemas.unpacking import unpack
from tests.schemas.batches import LOG_APPEND_TIME, PACK, TIME_MS, Sent, batch, record, section, wrap
from tests.schemas.events import long

Row = tuple[int, int, bytes | None, bytes | None]

keys = st.none() | st.binary(max_size=3) | st.binary(min_size=60, max_size=140)
headers = st.lists(st.tuples(st.binary(max_size=4), st.none() | st.binary(max_size=70)), max_size=3)
sents = st.builds(
    Sent,
    value=st.none() | st.binary(max_size=300),
    key=keys,
    headers=headers,
    time=st.none() | st.integers(-(2**40), 2**40),
)


@st.composite
def batches(draw: st.DrawFn) -> bytes:
    """A batch of any records, whose offsets may have gaps."""
    sent = draw(st.lists(sents, max_size=12))
    deltas = sorted(draw(st.sets(st.integers(0, 300), min_size=len(sent), max_size=len(sent))))
    base = draw(st.sampled_from([0, 5, 2**40]))
    return batch(
        [replace(one, delta=delta) for one, delta in zip(sent, deltas, strict=True)],
        base,
        last=base + max([0, *deltas]) + draw(st.integers(0, 3)),
        codec=draw(st.integers(0, 4 if sent else 0)),  # aiokafka can't unpack nothing from snappy
        flags=draw(st.sampled_from([0, LOG_APPEND_TIME])),
        newest=TIME_MS + 77,
    )


def only(octets: bytes) -> RecordBatch:
    (one,) = split(octets)
    assert one.damage is None
    return one


def rows(found: Sequence[KafkaRecord]) -> list[Row]:
    return [(one.offset, one.timestamp, one.key, one.value) for one in found]


def placed(places: Places) -> list[Row]:
    return rows([places.record(at) for at in range(len(places.offset))])


def read(one: RecordBatch) -> tuple[list[Row], str]:
    """As the product does."""
    try:
        return rows(records(one)), "None"
    except GarbledRecordsError as error:
        return rows(error.read), str(error)


def walked(one: RecordBatch, unpacked: bytes) -> tuple[list[Row], str]:
    """Record by record, without what is compiled."""
    found, error = walk(one, unpacked)
    cut = [
        (
            at.offset,
            at.timestamp,
            unpacked[slice(*at.key)] if at.key[1] >= at.key[0] else None,
            unpacked[slice(*at.value)] if at.value[1] >= at.value[0] else None,
        )
        for at in found
    ]
    return cut, str(error)


class TestGoodBatches:
    @settings(max_examples=150, deadline=None)
    @given(batches())
    def test_all_ways_agree_with_aiokafka(self, octets: bytes) -> None:
        one = only(octets)
        try:
            theirs = rows(list(DefaultRecordBatch(octets)))
        except UnicodeDecodeError:  # of a header's name, which is not looked at here
            theirs = rows(records(one))
        assert rows(records(one)) == theirs
        unpacked = bytes(unpack(one))
        assert walked(one, unpacked) == (theirs, "None")
        places, errors = place([one], [unpacked])
        assert (placed(places), errors) == (theirs, {})

    def test_several_batches_are_placed_as_each_alone(self) -> None:
        ones = [only(batch([b"v" * n, None, b""], 100 * n, codec=n % 5)) for n in range(1, 12)]
        unpacked = [bytes(unpack(one)) for one in ones]
        places, _ = place(ones, unpacked)
        alone = [placed(place([one], [octets])[0]) for one, octets in zip(ones, unpacked, strict=True)]
        assert placed(places) == [row for rows_of_one in alone for row in rows_of_one]
        assert places.batch.tolist() == [number for number in range(11) for _ in range(3)]

    def test_nothing_is_placed_nowhere(self) -> None:
        places, errors = place([], [])
        assert (placed(places), errors) == ([], {})
        places, errors = place([only(wrap(b"", 5, count=0, last=7))], [b""])
        assert (placed(places), errors) == ([], {})


GOOD = [Sent(bytes([65 + at]) * 5, time=at) for at in range(6)]
FOURTH = record(GOOD[3], 3)
WHOLE = section(GOOD)
GARBAGE = [
    ("a length that runs over", FOURTH, long(5_000) + FOURTH[1:], "has a length of 5000"),
    ("a negative length", FOURTH, long(-4) + FOURTH[1:], "has a length of -4"),
    ("too short a length", FOURTH, long(9) + FOURTH[1:], "not that of what it holds"),
    ("too long a length", FOURTH, long(len(FOURTH) + 2) + FOURTH[1:], "not that of what it holds"),
    ("a number without end", FOURTH, b"\xff" * 12 + FOURTH[12:], "more than 64 bits"),
    ("headers that aren't there", FOURTH, FOURTH[:-1] + long(2), "not that of what it holds"),
    ("a negative number of headers", FOURTH, FOURTH[:-1] + long(-1), "has -1 headers"),
    ("the offset before it", FOURTH, record(replace(GOOD[3], delta=2), 3), "at offset 102"),
    ("an offset below the batch", FOURTH, record(replace(GOOD[3], delta=-9), 3), "at offset 91"),
    ("an offset behind the batch", FOURTH, record(replace(GOOD[3], delta=6), 3), "at offset 106"),
    ("nothing more", WHOLE[WHOLE.index(FOURTH) :], b"", "record 4 of 6 is cut off"),
    ("half a record", WHOLE[WHOLE.index(FOURTH) :], FOURTH[:7], "record 4 of 6 has a length of"),
]


@pytest.mark.parametrize(("old", "new", "why"), [one[1:] for one in GARBAGE], ids=[one[0] for one in GARBAGE])
@pytest.mark.parametrize("codec", range(5))
class TestGarbledBatches:
    def test_what_comes_before_is_read(self, old: bytes, new: bytes, why: str, codec: int) -> None:
        octets = WHOLE.replace(old, new)
        one = only(wrap(PACK[codec](octets), 100, count=6, codec=codec))
        with pytest.raises(GarbledRecordsError, match=why) as raised:
            records(one)
        assert raised.value.offset == 103
        before = [(100 + at, TIME_MS + at, b"space-1", bytes([65 + at]) * 5) for at in range(3)]
        assert rows(raised.value.read) == before
        places, errors = place([one], [octets])
        assert placed(places) == before
        assert (errors[0].offset, str(errors[0])) == (103, str(raised.value))

    def test_other_batches_are_placed_all_the_same(
        self, old: bytes, new: bytes, why: str, codec: int
    ) -> None:
        octets = WHOLE.replace(old, new)
        ones = [only(batch(GOOD, 0)), only(wrap(octets, 100, count=6)), only(batch(GOOD, 200))]
        places, errors = place(ones, [WHOLE, octets, WHOLE])
        assert list(errors) == [1]
        assert why in str(errors[1])
        assert places.offset.tolist() == [*range(6), 100, 101, 102, *range(200, 206)]


@pytest.mark.parametrize("count", [5, 7])
def test_a_wrong_count_costs_the_last_record(count: int) -> None:
    """Whose the bytes are that are left can't be told, nor which offset the record has that is missing."""
    one = only(wrap(WHOLE, 100, count=count, last=106 if count == 7 else 104))
    with pytest.raises(GarbledRecordsError) as raised:
        records(one)
    assert raised.value.offset == (106 if count == 7 else 104)
    assert len(raised.value.read) == (6 if count == 7 else 4)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_whatever_is_mutated_all_ways_agree(data: st.DataObject) -> None:
    octets = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(octets)))
        octets[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    one = only(wrap(bytes(octets), 100, count=data.draw(st.sampled_from([6, 6, 6, 0, 5, 2**30])), last=2**31))
    found, why = walked(one, bytes(octets))
    assert read(one) == (found, why)
    places, errors = place([one], [bytes(octets)])
    assert placed(places) == found
    assert str(errors.get(0)) == why
