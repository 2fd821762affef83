"""Reading fetches of requests: what each partition holds, read by itself or with the others."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.contract import schema
from streams.requests import RequestReader
from streams.together import Part, parts
from tests.streams.windows.requests import NOON

CODEC = Codec(schema("RequestEvent"))
NAMES = ("event_id", "request_id", "service", "provider", "model")


def record(offset: int, kind: str = "good") -> Any:
    """A Kafka record that is good, unreadable, of the future, against a rule, or of a start."""
    fields: dict[str, Any] = dict.fromkeys(NAMES, f"r{offset}") | {"phase": "finished", "occurred_at": NOON}
    fields |= {"provider": "openai", "model": "gpt-4o", "prompt_tokens": offset, "completion_tokens": 1}
    fields |= {"future": {"occurred_at": 2 * NOON}, "invalid": {"prompt_tokens": -1}}.get(kind, {})
    value = CODEC.encode(fields | {"phase": "started" if kind == "started" else "finished"})
    return SimpleNamespace(
        value=value[:-3] if kind == "broken" else value, offset=offset, timestamp=NOON // 1000
    )


KINDS = st.sampled_from(["good", "good", "good", "started", "broken", "future", "invalid"])


@given(st.lists(st.lists(KINDS, min_size=1, max_size=6), min_size=2, max_size=4))
@settings(max_examples=60, deadline=None)
def test_partitions_that_are_read_together_hold_what_they_hold_when_read_apart(
    fetch: list[list[str]],
) -> None:
    records = [[record(offset, kind) for offset, kind in enumerate(kinds)] for kinds in fetch]
    reader = RequestReader()
    for part, alone in zip(parts(records), records, strict=True):
        assert isinstance(part, Part)
        together, apart = reader.read(part), RequestReader().read(alone)
        assert together.finished.equals(apart.finished)
        assert together.refused == apart.refused


def test_a_request_has_its_cost_and_only_finished_ones_are_counted() -> None:
    requests = RequestReader().read([record(1_000), record(1_001, "started")])
    assert requests.finished.select("_offset", "cost_nano_usd", "unpriced").rows() == [(1_000, 2_510_000, 0)]


@pytest.mark.parametrize("sizes", [[3], [3_000, 3_000]])
def test_a_partition_alone_and_large_fetches_are_read_by_the_partition(sizes: list[int]) -> None:
    fetch = [[None] * size for size in sizes]
    assert all(part is records for part, records in zip(parts(fetch), fetch, strict=True))
