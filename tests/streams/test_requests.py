"""Reading fetches of requests: what each partition holds, read by itself or with the others."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.kafka.fetched import Fetched
from schemas.batch_writer import batch_of
from schemas.codec import Codec
from schemas.contract import schema
from schemas.raw import RawReader
from streams.requests import RequestReader
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


@pytest.mark.parametrize(("size", "at_once"), [(3, 2), (3_000, 1)])
def test_small_fetches_are_read_at_once_and_large_ones_by_the_partition(
    size: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    actual = RawReader.read

    def counting(self: RawReader, sources: Any, executor: Any = None) -> Any:
        read.append(len(sources))
        return actual(self, sources, executor)

    monkeypatch.setattr(RawReader, "read", counting)
    parts = [fetched(["good"] * size), fetched(["good"] * size)]
    RequestReader().read(Fetch("chat.requests", 0, parts[0], parts))
    assert read == [at_once]
