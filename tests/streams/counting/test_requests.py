"""Reading fetches of requests: what each partition holds, read by itself or with the others."""

from typing import Any

import polars as pl
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.kafka.fetched import Fetched
from infra.ports import free_port
from schemas.batch_writer import batch_of
from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import Reason, RegistryUnavailableError
from schemas.raw import RawReader
from schemas.record_batch import split
from schemas.registry import SchemaRegistry
from streams.counting.requests import RequestReader, Requests
from streams.runtime.fetch import Fetch
from tests.streams.windows.requests import NOON

CODEC = Codec(schema("RequestEvent"))
NAMES = ("event_id", "request_id", "service", "provider", "model")


def value(offset: int, kind: str = "good") -> bytes:
    """An event that is good, unreadable, of the future, against a rule, or of a start."""
    fields: dict[str, Any] = dict.fromkeys(NAMES, f"r{offset}") | {"phase": "finished", "occurred_at": NOON}
    fields |= {"provider": "openai", "model": "gpt-4o", "prompt_tokens": offset, "completion_tokens": 1}
    fields |= {"future": {"occurred_at": 2 * NOON}, "invalid": {"prompt_tokens": -1}}.get(kind, {})
    encoded = CODEC.encode(fields | {"phase": "started" if kind == "started" else "finished"})
    return encoded[:-3] if kind == "broken" else encoded


def fetched(kinds: list[str], offset: int = 0) -> Fetched:
    batch = batch_of(
        [value(offset + i, kind) for i, kind in enumerate(kinds)], offset=offset, timestamp=NOON // 1000
    )
    return Fetched(offset, batch.next_offset, [batch])


KINDS = st.sampled_from(["good", "good", "good", "started", "broken", "future", "invalid"])


@given(st.lists(st.lists(KINDS, min_size=1, max_size=6), min_size=2, max_size=4))
@settings(max_examples=60, deadline=None)
@pytest.mark.slow
def test_partitions_that_are_read_together_hold_what_they_hold_when_read_apart(
    kinds: list[list[str]],
) -> None:
    parts = [fetched(each) for each in kinds]
    reader = RequestReader()
    for partition, part in enumerate(parts):
        together = reader.read(Fetch("chat.requests", partition, part, parts))
        apart = RequestReader().read(Fetch("chat.requests", partition, part, [part]))
        assert together.finished.equals(apart.finished)
        assert together.refused == apart.refused
        assert together.records == apart.records == len(kinds[partition])


def test_a_request_has_its_cost_and_only_finished_ones_are_counted() -> None:
    one = fetched(["good", "started"], offset=1_000)
    requests = RequestReader().read(Fetch("chat.requests", 0, one, [one]))
    assert requests.finished.select("_offset", "cost_nano_usd", "unpriced").rows() == [(1_000, 2_510_000, 0)]


def test_records_before_the_fetch_begins_are_not_counted_again() -> None:
    batch = fetched(["good"] * 4, offset=10).batches[0]
    part = Fetched(12, 14, [batch])
    assert RequestReader().read(Fetch("chat.requests", 0, part, [part])).finished["_offset"].to_list() == [
        12,
        13,
    ]


@pytest.mark.parametrize(("size", "read_at_once"), [(2_500, [2]), (2_501, [1, 1])])
def test_small_fetches_are_read_at_once_and_large_ones_by_the_partition(
    size: int, read_at_once: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    actual = RawReader.read

    def counting(self: RawReader, sources: Any, executor: Any = None) -> Any:
        read.append(len(sources))
        return actual(self, sources, executor)

    monkeypatch.setattr(RawReader, "read", counting)
    good = value(0)
    batches = [batch_of([good] * count, timestamp=NOON // 1000) for count in (size, 2_500)]
    parts = [Fetched(0, batch.next_offset, [batch]) for batch in batches]
    reader = RequestReader()
    for partition, part in enumerate(parts):
        requests = reader.read(Fetch("chat.requests", partition, part, parts))
        assert requests.records == requests.finished.height == part.count
    assert read == read_at_once


def rows(requests: Requests, *names: str) -> list[tuple[Any, ...]]:
    return requests.finished.select(*names).rows()


def test_what_is_counted_of_a_request_is_a_number_of_its_own() -> None:
    values = [
        encoded("a", error_type="timeout", cache_hit=True, cost_nano_usd=7),
        encoded("b", model="no-such-model", prompt_tokens=1, completion_tokens=1),
        encoded("c", error_type="rate_limited"),
    ]
    requests = read(values, offset=5)
    assert rows(requests, "_offset", "errors", "cache_hits", "unpriced", "cost_nano_usd") == [
        (5, 1, 1, 0, 7),
        (6, 0, 0, 1, None),
        (7, 1, 0, 0, 0),
    ]
    kinds = requests.finished.select("errors", "cache_hits", "unpriced", "cost_nano_usd", "_arrived").dtypes
    assert kinds == [pl.Int64] * 5
    assert requests.finished["_arrived"].to_list() == [NOON] * 3


@pytest.mark.parametrize(
    ("phases", "offsets"),
    [
        (["started"], []),
        (["started", "started"], []),
        (["finished", "started"], [0]),
        (["started", "finished", "started", "finished"], [1, 3]),
        (["finished", "finished"], [0, 1]),
        ([], []),
    ],
)
def test_finished_requests_are_counted_and_those_that_have_only_begun_are_records(
    phases: list[str], offsets: list[int]
) -> None:
    requests = read([encoded(f"r{n}", phase=phase) for n, phase in enumerate(phases)])
    assert requests.finished["_offset"].to_list() == offsets
    assert requests.finished["event_id"].to_list() == [f"r{offset}" for offset in offsets]
    assert (requests.records, requests.refused) == (len(phases), [])


def test_each_of_several_partitions_has_its_own_records_and_refusals() -> None:
    parts = [
        fetched(["good", "invalid", "started"], offset=10),
        fetched(["future"], offset=20),
        fetched(["started", "good", "broken", "good"], offset=30),
    ]
    reader = RequestReader()
    found = [reader.read(Fetch("chat.requests", number, part, parts)) for number, part in enumerate(parts)]
    assert [each.records for each in found] == [3, 1, 4]
    assert [each.finished["_offset"].to_list() for each in found] == [[10], [], [31, 33]]
    assert [[(refusal.offset, refusal.reason) for refusal in each.refused] for each in found] == [
        [(11, Reason.INVALID)],
        [(20, Reason.IN_THE_FUTURE)],
        [(32, Reason.MALFORMED)],
    ]
    assert [[refusal.index for refusal in each.refused] for each in found] == [[1], [0], [2]]
    assert found[0].finished is reader.read(Fetch("chat.requests", 0, parts[0], parts)).finished


def test_what_is_fetched_next_is_read_anew() -> None:
    reader = RequestReader()
    for offset in (10, 20):
        part = fetched(["good"], offset=offset)
        assert rows(reader.read(Fetch("chat.requests", 0, part, [part])), "_offset") == [(offset,)]


def test_a_schema_that_only_a_registry_knows_is_asked_for_there() -> None:
    unknown = b"\0" + (4711).to_bytes(4, "big") + b"body"
    assert [refusal.reason for refusal in read([unknown]).refused] == [Reason.UNKNOWN_SCHEMA]
    nobody = SchemaRegistry(f"http://127.0.0.1:{free_port()}", sleep=lambda seconds: None)
    with pytest.raises(RegistryUnavailableError):
        read([unknown], reader=RequestReader(nobody))


@pytest.mark.parametrize(("most_bytes", "finished"), [(2**20, 9), (100, 0)])
def test_a_batch_unpacks_to_so_many_bytes_at_most(most_bytes: int, finished: int) -> None:
    builder = DefaultRecordBatchBuilder(2, 1, 0, -1, -1, -1, 2**20)
    for number in range(9):
        builder.append(number, NOON // 1000, None, encoded(f"r{number}"), [])
    [batch] = split(bytes(builder.build()))
    one = Fetched(0, 9, [batch])
    requests = RequestReader(most_bytes=most_bytes).read(Fetch("chat.requests", 0, one, [one]))
    assert requests.finished.height == finished
    assert [refusal.reason for refusal in requests.refused] == [Reason.UNREADABLE_BATCH] * (finished == 0)


def encoded(name: str, **fields: Any) -> bytes:
    """A finished request, unless it is said otherwise."""
    return CODEC.encode(dict.fromkeys(NAMES, name) | {"phase": "finished", "occurred_at": NOON} | fields)


def read(values: list[bytes], offset: int = 0, reader: RequestReader | None = None) -> Requests:
    batches = [batch_of(values, offset=offset, timestamp=NOON // 1000)] if values else []
    one = Fetched(offset, offset + len(values), batches)
    return (reader or RequestReader()).read(Fetch("chat.requests", 0, one, [one]))
