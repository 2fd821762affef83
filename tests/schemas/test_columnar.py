"""A batch at a time: the good ones become rows, the bad ones are refused, and none harms another."""

import random
import resource
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import contract, wire
from schemas.block import Block
from schemas.codec import Codec
from schemas.columnar import Batch, ColumnarReader, refuse_future
from schemas.errors import Reason, RefusedError
from schemas.resolution import field_types
from schemas.scan import Scan
from tests.schemas.events import NOON_US, REQUEST, body, long, mutated, offsets, request, rows, value
from tests.schemas.test_codec import _values

HEADER = wire.single_object_header(REQUEST.fingerprint)
FIFTH = value(request(5))
FINISHED = b"\x02" + long(NOON_US + 5)
"""`phase` and `occurred_at` of the fifth request."""


def read(values: Sequence[bytes | None], columns: Sequence[str] | None = None) -> Batch:
    """Read, with what always holds checked."""
    reader = ColumnarReader(REQUEST, columns)
    batch = reader.read(values, offsets(values))
    assert batch.frame.schema == reader.frame_schema
    assert batch.frame["_offset"].to_list() == offsets(values)[batch.indices].tolist()
    assert all(refusal.offset == offsets(values)[refusal.index] for refusal in batch.refused)
    taken = sorted([*batch.indices.tolist(), *(refusal.index for refusal in batch.refused)])
    assert taken == list(range(len(values))), "every value is a row or a refusal"
    assert batch.indices.tolist() == sorted(batch.indices), "rows are in the order of the values"
    return batch


def reasons(batch: Batch) -> dict[int, Reason]:
    return {refusal.index: refusal.reason for refusal in batch.refused}


class TestGoodValues:
    def test_rows_are_the_records(self) -> None:
        records = [request(number) for number in range(500)]
        batch = read([value(record) for record in records])
        assert rows(batch.frame) == records
        assert batch.refused == []

    def test_nothing_gives_an_empty_frame(self) -> None:
        batch = read([])
        assert batch.frame.height == 0
        assert batch.refused == []

    def test_columns_are_those_asked_for_in_that_order(self) -> None:
        batch = read([value(request(number)) for number in range(3)], ["total_us", "phase", "attributes"])
        assert batch.frame.columns == ["total_us", "phase", "attributes", "_offset"]
        assert batch.frame["total_us"].to_list() == [1_500_000, 1_500_001, 1_500_002]

    def test_no_columns_at_all_still_tells_good_from_bad(self) -> None:
        batch = read([value(request(0)), value(request(1))[:-1], value(request(2))], [])
        assert batch.frame.columns == ["_offset"]
        assert reasons(batch) == {1: Reason.MALFORMED}

    def test_only_fields_can_be_asked_for_and_each_once(self) -> None:
        with pytest.raises(ValueError, match="prompt_text"):
            ColumnarReader(REQUEST, ["model", "prompt_text"])
        with pytest.raises(ValueError, match="each once"):
            ColumnarReader(REQUEST, ["model", "model"])

    def test_every_value_needs_an_offset(self) -> None:
        with pytest.raises(ValueError, match="2 values, but 1 offsets"):
            ColumnarReader(REQUEST).read([b"", b""], np.array([1]))

    @settings(deadline=None, max_examples=60)
    @given(st.data())
    def test_any_records_of_any_schema_come_back_as_they_were(self, data: st.DataObject) -> None:
        schema = contract.schema(data.draw(st.sampled_from(contract.names())))
        record = st.fixed_dictionaries({name: _values(kind) for name, kind in field_types(schema).items()})
        records = data.draw(st.lists(record, min_size=1, max_size=8))
        encoded = [Codec(schema).encode(record) for record in records]
        batch = ColumnarReader(schema).read(encoded, offsets(encoded))
        decoded = batch.frame.drop("_offset").to_dicts()
        assert decoded == [Codec(schema).decode(one) for one in encoded]
        assert decoded == records


BAD: list[tuple[str, bytes | None, Reason]] = [
    ("null", None, Reason.EMPTY),
    ("no bytes", b"", Reason.EMPTY),
    ("JSON", b'{"event_id": "1"}', Reason.UNKNOWN_FORMAT),
    ("half a marker", b"\xc3", Reason.UNKNOWN_FORMAT),
    ("half a header", HEADER[:7], Reason.MALFORMED),
    ("only a header", HEADER, Reason.MALFORMED),
    ("a stranger's fingerprint", b"\xc3\x01stranger" + b"\x00" * 50, Reason.UNKNOWN_SCHEMA),
    ("a registry id, without a registry", b"\x00\x00\x00\x00\x01" + b"\x00" * 50, Reason.UNKNOWN_SCHEMA),
    ("cut", FIFTH[:-9], Reason.MALFORMED),
    ("cut by one byte", FIFTH[:-1], Reason.MALFORMED),
    ("a byte more", FIFTH + b"\x00", Reason.LEFT_OVER_BYTES),
    ("twice", FIFTH + body(REQUEST, request(5)), Reason.LEFT_OVER_BYTES),
    ("a text of 2^60 bytes", HEADER + long(2**60) + b"abc", Reason.MALFORMED),
    ("a text of minus 5 bytes", HEADER + long(-5) + b"abcdefg", Reason.MALFORMED),
    ("a text that takes in its neighbours", HEADER + long(300) + b"abc", Reason.MALFORMED),
    ("a number without end", HEADER + b"\xff" * 40, Reason.MALFORMED),
    ("text that is not UTF-8", FIFTH.replace(b"event-", b"event\xff"), Reason.MALFORMED),
    ("half a surrogate pair", FIFTH.replace(b"event-", b"eve\xed\xa0\x80"), Reason.MALFORMED),
    ("2^60 attributes", FIFTH[:-1] + long(2**60), Reason.MALFORMED),
    ("-2^60 attributes", FIFTH[:-1] + long(-(2**60)) + long(3), Reason.MALFORMED),
    ("-2^63 attributes", FIFTH[:-1] + long(-(2**63)) + long(3), Reason.MALFORMED),
    (
        "an enum's index too large",
        FIFTH.replace(FINISHED, b"\x04" + FINISHED[1:]),
        Reason.MALFORMED,
    ),
    (
        "an enum's index below 0",
        FIFTH.replace(FINISHED, b"\x01" + FINISHED[1:]),
        Reason.MALFORMED,
    ),
    ("zeros", HEADER + bytes(100), Reason.LEFT_OVER_BYTES),
]


class TestBadValues:
    @pytest.mark.parametrize(("bad", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
    @pytest.mark.parametrize("place", [0, 3, 6], ids=["first", "between", "last"])
    def test_one_is_refused_and_its_neighbours_are_all_there(
        self, bad: bytes | None, reason: Reason, place: int
    ) -> None:
        values: list[bytes | None] = [value(request(number)) for number in range(6)]
        values.insert(place, bad)
        batch = read(values)
        assert reasons(batch) == {place: reason}
        assert batch.refused[0].detail
        assert rows(batch.frame) == [request(number) for number in range(6)]

    def test_all_of_them_together(self) -> None:
        batch = read([bad for _, bad, _ in BAD] * 30)
        assert batch.frame.height == 0
        assert reasons(batch) == dict(enumerate([reason for *_, reason in BAD] * 30))

    @pytest.mark.slow
    def test_a_large_batch_is_searched_for_its_few_bad_ones(self) -> None:
        values: list[bytes | None] = [value(request(number)) for number in range(20_000)]
        places = [0, 1, 777, 9_999, 10_000, 19_999]
        for place in places:
            values[place] = values[place][:-3]  # type: ignore[index]
        batch = read(values, ["event_id"])
        assert reasons(batch) == dict.fromkeys(places, Reason.MALFORMED)
        assert batch.frame["event_id"].to_list() == [
            f"event-{number:06d}" for number in range(20_000) if number not in places
        ]

    def test_lengths_that_lie_allocate_nothing(self) -> None:
        lies = [HEADER + long(size) + b"x" for size in (2**31, 2**40, 2**60, 2**62)]
        lies += [value(request(1))[:-1] + long(count) + b"\x00" * 20 for count in (2**31, 2**60, -(2**60))]
        good = [value(request(number)) for number in range(100)]
        read([*good, lies[0]])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert len(read([*good, *lies * 10]).refused) == 70
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown_kib < 64 * 1024

    def test_what_makes_polars_panic_is_refused(self) -> None:
        cut = value(request(1))[:-180]
        block = Block(HEADER, field_types(REQUEST), REQUEST.fields)
        container, _ = block._container([cut])
        with pytest.raises(pl.exceptions.PanicException):
            pl.read_avro(container)
        assert reasons(read([cut, value(request(2))])) == {0: Reason.MALFORMED}

    def test_forged_neighbours_are_seen_through(self) -> None:
        """A body that holds what the reader would put between two values, and a record of its own."""
        forged = value(request(1)) + HEADER + body(REQUEST, request(99))
        swallowing = value(request(1))[:-1] + long(1) + long(len(value(request(2))) + 1)
        for bad in (forged, swallowing):
            batch = read([value(request(0)), bad, value(request(2)), value(request(3))])
            assert rows(batch.frame) == [request(0), request(2), request(3)]


@pytest.mark.slow
class TestMutations:
    @pytest.mark.parametrize("columns", [None, ["occurred_at", "space_id", "total_us"]])
    def test_no_neighbour_is_harmed(self, columns: list[str] | None) -> None:
        chance = random.Random(20260115)
        good = [value(request(number)) for number in range(9)]
        expected = read(good, columns).frame.drop("_offset")
        reader = ColumnarReader(REQUEST, columns)
        refused = 0
        for _ in range(2_500):
            values = list(good)
            at = chance.randrange(9)
            values[at] = mutated(values[at], chance)
            batch = reader.read(values, offsets(values))
            others = batch.frame.filter(pl.Series(batch.indices != at)).drop("_offset")
            keep = [row for row in range(9) if row != at]
            assert others.equals(expected[keep])
            assert {refusal.index for refusal in batch.refused} <= {at}
            refused += len(batch.refused)
        assert 1_000 < refused < 2_500, "mutations are of both kinds"

    @pytest.mark.parametrize("columns", [None, ["occurred_at", "space_id", "total_us"]])
    def test_whether_a_value_is_taken_does_not_depend_on_its_batch(self, columns: list[str] | None) -> None:
        """The scan, which looks for the bad ones, judges exactly as the columnar decoder does."""
        chance = random.Random(1)
        types = field_types(REQUEST)
        decoded = frozenset(types if columns is None else columns)
        block, scan = Block(HEADER, types, decoded), Scan(types, decoded)
        for number in range(4_000):
            mutant = mutated(value(request(number % 100)), chance)
            try:
                scan.check(mutant[len(HEADER) :])
                passed = True
            except RefusedError:
                passed = False
            assert passed == (block.decode([mutant]) is not None), mutant.hex()


class TestTheFuture:
    def test_events_over_five_minutes_ahead_of_their_arrival_are_refused(self) -> None:
        arrived_at = NOON_US + np.array([0, 0, 0, 0])
        ahead = (-(10**12), 300_000_000, 300_000_001)
        values = [None, *(value(request(0, occurred_at=NOON_US + lead)) for lead in ahead)]
        batch = refuse_future(read(values, ["occurred_at"]), arrived_at)
        assert reasons(batch) == {0: Reason.EMPTY, 3: Reason.IN_THE_FUTURE}
        assert batch.indices.tolist() == [1, 2]
        assert "300.0 s after" in batch.refused[1].detail

    def test_the_largest_instant_does_not_wrap_around(self) -> None:
        batch = read([value(request(0, occurred_at=2**63 - 1)), value(request(1))])
        assert reasons(refuse_future(batch, np.array([NOON_US] * 2))) == {0: Reason.IN_THE_FUTURE}
