"""A fetch is cut into its batches, whatever is in it; aborted ones and markers go."""

import struct
from itertools import pairwise

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.record_batch import HEADER, RecordBatch, committed, split
from tests.schemas.batches import LOG_APPEND_TIME, TIME_MS, TRANSACTIONAL, Sent, batch, marker, wrap

FIRST = batch([b"a", b"b", b"c"], 100)
SECOND = batch([b"d"], 103, codec=1)
THIRD = batch([b"e", b"f"], 104)


def spans(batches: list[RecordBatch]) -> list[tuple[int, int, bool]]:
    return [(one.base_offset, one.next_offset, one.damage is not None) for one in batches]


class TestSplit:
    def test_a_batch_says_what_its_header_says(self) -> None:
        octets = batch([b"a", b"b"], 7, codec=4, flags=TRANSACTIONAL, producer=55, last=9, newest=TIME_MS + 3)
        (one,) = split(octets)
        assert bytes(one.wire) == octets
        assert bytes(one.packed) == octets[HEADER.size :]
        assert (one.base_offset, one.last_offset, one.next_offset, one.count) == (7, 9, 10, 2)
        assert (one.codec, one.is_transactional, one.is_control, one.producer_id) == (4, True, False, 55)
        assert (one.append_time, one.base_timestamp, one.max_timestamp) == (None, TIME_MS, TIME_MS + 3)
        assert one.damage is None

    def test_the_brokers_time_is_the_newest(self) -> None:
        (one,) = split(batch([b"a"], flags=LOG_APPEND_TIME, newest=TIME_MS + 99))
        assert one.append_time == TIME_MS + 99

    def test_wherever_the_fetch_is_cut_off_whole_batches_come(self) -> None:
        whole = FIRST + SECOND + THIRD
        ends = [len(FIRST), len(FIRST) + len(SECOND), len(whole)]
        for size in range(len(whole) + 1):
            found = list(split(whole[:size]))
            assert len(found) == sum(end <= size for end in ends)
            assert all(one.damage is None for one in found)

    def test_a_batch_without_records_still_has_its_offsets(self) -> None:
        assert spans(list(split(wrap(b"", 100, count=0, last=109) + batch([b"a"], 110)))) == [
            (100, 110, False),
            (110, 111, False),
        ]

    @pytest.mark.parametrize("at", [0, 1, 2])
    def test_a_wrong_checksum_is_said_of_its_batch_alone(self, at: int) -> None:
        parts = [FIRST, SECOND, THIRD]
        parts[at] = parts[at][:-1] + bytes([parts[at][-1] ^ 1])
        found = list(split(b"".join(parts)))
        assert spans(found) == [(100, 103, at == 0), (103, 104, at == 1), (104, 106, at == 2)]
        assert found[at].damage == "has a wrong checksum (CRC-32C)"

    def test_damaged_offsets_end_before_the_next_batch(self) -> None:
        lying = wrap(b"", 100, count=3, last=10_000, crc=1)
        assert spans(list(split(lying + SECOND))) == [(100, 103, True), (103, 104, False)]

    @pytest.mark.parametrize("magic", [0, 1])
    def test_formats_before_kafka_011_are_named(self, magic: int) -> None:
        body = struct.pack(">Ibb", 0, magic, 0) + bytes(20)
        octets = struct.pack(">qi", 100, len(body)) + body
        found = list(split(octets + SECOND))
        assert spans(found) == [(100, 103, True), (103, 104, False)]
        assert f"format {magic}, older than Kafka 0.11" in str(found[0].damage)

    @pytest.mark.parametrize(
        ("octets", "why"),
        [
            (wrap(b"", 100, count=1, magic=3), "unknown format, 3"),
            (wrap(b"", 100, count=-1), "counts -1 records"),
            (wrap(b"", 100, count=9, last=102), "counts 9 records"),
            (struct.pack(">qiib", 100, 20, 0, 2) + bytes(15), "ends inside its header: 32 bytes"),
        ],
    )
    def test_a_header_that_contradicts_itself_is_stepped_over(self, octets: bytes, why: str) -> None:
        found = list(split(octets + SECOND))
        assert len(found) == 2
        assert why in str(found[0].damage)
        assert spans(found)[1] == (103, 104, False)

    def test_offsets_never_go_back(self) -> None:
        assert spans(list(split(SECOND + FIRST + THIRD))) == [(103, 104, False), (104, 106, False)]
        found = list(split(SECOND + FIRST))
        assert spans(found) == [(103, 104, False), (104, 105, True)]
        assert found[1].damage == "begins at offset 100, not behind the batch before it"

    def test_a_batch_ends_where_the_next_one_begins_whatever_it_says(self) -> None:
        lying = batch([b"a", b"b"], 100, last=10_000)
        assert spans(list(split(lying + SECOND))) == [(100, 103, False), (103, 104, False)]

    @pytest.mark.parametrize("length", [4, 0, -1, -13, -(2**31)])
    def test_a_length_that_leads_nowhere_ends_the_fetch(self, length: int) -> None:
        stuck = SECOND[:8] + struct.pack(">i", length) + SECOND[12:]
        found = list(split(FIRST + stuck + THIRD))
        assert spans(found)[0] == (100, 103, False)
        assert len(found) == 2
        assert f"has a length of {length} bytes" in str(found[1].damage)
        assert found[1].base_offset >= 103

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_nothing_makes_it_raise_or_go_back(self, data: st.DataObject) -> None:
        octets = bytearray(FIRST + SECOND + THIRD)
        for _ in range(data.draw(st.integers(1, 6))):
            at = data.draw(st.integers(0, len(octets) - 1))
            octets[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        found = list(split(bytes(octets)))
        assert all(one.base_offset < one.next_offset for one in found)
        assert all(a.next_offset <= b.base_offset for a, b in pairwise(found))


class TestCommitted:
    def fetch(self) -> bytes:
        """Transactions of two producers, interleaved: 7 aborts, commits, 8 commits; 9 aborts at the end."""
        txn = TRANSACTIONAL
        return b"".join(
            [
                batch([b"7 aborted"], 10, flags=txn, producer=7),
                batch([b"8 committed"], 11, flags=txn, producer=8),
                batch([b"plain"], 12),
                batch([b"7 aborted too"], 13, flags=txn, producer=7),
                marker(14, 7, commits=False),
                batch([b"7 committed"], 15, flags=txn, producer=7),
                marker(16, 8, commits=True),
                marker(17, 7, commits=True),
                batch([b"9 aborted", b"9 aborted"], 18, flags=txn, producer=9),
                batch([b"plain of 9"], 20, producer=9),
                marker(21, 9, commits=False),
            ]
        )

    ABORTED = ((9, 18), (7, 10))

    def test_only_committed_records_are_left(self) -> None:
        found = committed(split(self.fetch()), self.ABORTED)
        assert [one.base_offset for one in found] == [11, 12, 15, 20]

    def test_without_aborted_transactions_only_markers_go(self) -> None:
        assert [one.base_offset for one in committed(split(self.fetch()))] == [10, 11, 12, 13, 15, 18, 20]

    def test_a_damaged_batch_stays_to_be_refused(self) -> None:
        octets = bytearray(batch([b"7 aborted"], 10, flags=TRANSACTIONAL, producer=7))
        octets[-1] ^= 1
        (one,) = committed(split(bytes(octets)), [(7, 10)])
        assert one.damage

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_it_agrees_with_aiokafka(self, data: st.DataObject) -> None:
        parts, offset, aborted, open_since = [], 0, [], dict[int, int]()
        for _ in range(data.draw(st.integers(1, 14))):
            producer = data.draw(st.integers(1, 3))
            match data.draw(st.sampled_from(["plain", "transaction", "commit", "abort"])):
                case "plain":
                    parts.append(batch([b"x", b"y"], offset))
                    offset += 2
                case "transaction":
                    open_since.setdefault(producer, offset)
                    parts.append(batch([Sent(b"t")], offset, flags=TRANSACTIONAL, producer=producer))
                    offset += 1
                case ending:
                    began = open_since.pop(producer, None)
                    if ending == "abort" and began is not None:
                        aborted.append((producer, began))
                    parts.append(marker(offset, producer, commits=ending == "commit"))
                    offset += 1
        octets = b"".join(parts)
        theirs = PartitionRecords(
            None, MemoryRecords(octets), list(aborted), 0, None, None, True, READ_COMMITTED
        )
        theirs._consumer_record = lambda tp, record: record.offset
        mine = [
            offset
            for one in committed(split(octets), aborted)
            for offset in range(one.base_offset, one.next_offset)
        ]
        assert mine == list(theirs)
