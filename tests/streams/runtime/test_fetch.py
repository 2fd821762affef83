"""The records of a fetch, and the batches that can't be read."""

from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from clients.kafka.fetched import Fetched
from schemas.batch_writer import batch_of
from schemas.record_batch import RecordBatch, split
from schemas.unpacking import MOST_BYTES
from streams.runtime.fetch import Fetch
from tests.schemas import batches


def fetch(*batches: RecordBatch, first: int, next_offset: int) -> Fetch:
    return Fetch("chat.in-memory", 3, Fetched(first, next_offset, batches))


def unreadable() -> float:
    labels = {"topic": "chat.in-memory"}
    return REGISTRY.get_sample_value("chatgauge_stream_unreadable_batches_total", labels) or 0.0


def test_a_fetch_begins_where_it_says_though_a_batch_begins_before() -> None:
    one = fetch(
        batch_of([b"a", b"b", b"c"], offset=10), batch_of([None], offset=13), first=11, next_offset=14
    )

    assert (one.first, one.next_offset) == (11, 14)
    assert [(record.offset, record.value) for record in one.records] == [(11, b"b"), (12, b"c"), (13, None)]


def test_a_batch_that_cannot_be_read_is_named_counted_and_stepped_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    good, bad = batch_of([b"a"], offset=10), batch_of([b"b", b"c"], offset=11)
    broken = replace(bad, damage="has a wrong checksum")
    one = fetch(good, broken, batch_of([b"d"], offset=13), first=10, next_offset=14)
    before = unreadable()

    assert [record.offset for record in one.records] == [10, 13]
    assert [record.offset for record in one.records] == [10, 13]
    assert unreadable() == before + 1, "it is read once"
    assert caplog.messages == ["chat.in-memory/3: the batch of offsets 11 to 12 has a wrong checksum"]


def test_a_batch_unpacks_to_so_much_at_most() -> None:
    [batch] = split(batches.batch([bytes(1_000)], codec=1))
    assert len(fetch(batch, first=0, next_offset=1).records) == 1
    assert fetch(first=0, next_offset=1).most_bytes == MOST_BYTES
    small = Fetch("chat.in-memory", 3, Fetched(0, 1, [batch]), most_bytes=500)
    before = unreadable()
    assert small.records == []
    assert unreadable() == before + 1


def test_a_fetch_shows_itself_without_what_came_beside_it() -> None:
    beside = [Fetched(77, 78, [])]
    assert "77" not in repr(Fetch("chat.in-memory", 3, Fetched(0, 1, []), beside))
    assert fetch(first=0, next_offset=1).beside == ()
