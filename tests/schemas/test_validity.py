"""Events that decode, but say what can't be."""

from typing import Any

import pytest

from schemas import contract
from schemas.codec import Codec
from schemas.columnar import Batch, ColumnarReader
from schemas.errors import Reason
from schemas.validity import refuse_invalid, rules
from tests.schemas.events import NOON_US, REQUEST, offsets, request, value

SAMPLE = {"event_id": "e", "occurred_at": NOON_US, "service": "s", "instance": "i", "name": "n", "value": 1.0}


def read(*changes: dict[str, Any], columns: list[str] | None = None) -> Batch:
    """A request for each, so changed, read and judged."""
    values = [value(request(number, **change)) for number, change in enumerate(changes)]
    return refuse_invalid(ColumnarReader(REQUEST, columns).read(values, offsets(values)), "RequestEvent")


@pytest.mark.parametrize(
    "change",
    [
        {"prompt_tokens": -1},
        {"prompt_tokens": 99, "cached_tokens": 100},
        {"prompt_tokens": 99, "cached_tokens": 0, "cache_write_tokens": 100},
        {"cache_write_tokens": 60, "cache_write_1h_tokens": 61},
        {"prompt_tokens": 999, "prompt_audio_tokens": 1_000},
        {"completion_tokens": 5, "reasoning_tokens": 6},
        {"completion_tokens": 5, "completion_audio_tokens": 6},
        {"cache_write_1h_tokens": -1},
        {"completion_tokens": 10**12 + 1},
        {"cost_nano_usd": -1},
        {"cost_nano_usd": 2**62},
        {"total_us": -1},
        {"total_us": 2**62},
        {"first_token_us": -5},
        {"last_token_us": 30 * 86_400 * 10**6 + 1},
        {"output_chunks": -1},
        {"output_chunks": 10**9 + 1},
        {"retries": -1},
        {"retries": 10**9 + 1},
        {"region": ""},
        {"operation": ""},
        {"conversation_id": "c" * 257},
        {"finish_reason": ""},
        {"experiment": ""},
        {"variant": "v" * 257},
        {"occurred_at": -1},
        {"event_id": ""},
        {"service": ""},
        {"space_id": ""},
        {"error_type": ""},
        {"model": "m" * 257},
        {"user_id": "é" * 257},
        {"attributes": [f"key{number}=x" for number in range(17)]},
        {"attributes": ["region=eu", "no equals sign"]},
        {"attributes": ["=no key"]},
        {"attributes": ["k" * 65 + "=x"]},
        {"attributes": ["k=" + "x" * 257]},
    ],
)
def test_what_cannot_be_is_refused_and_named(change: dict[str, Any]) -> None:
    batch = read({}, change, {})
    assert [(refusal.index, refusal.reason) for refusal in batch.refused] == [(1, Reason.INVALID)]
    assert list(change)[-1] in batch.refused[0].detail
    assert batch.frame["event_id"].to_list() == ["event-000000", "event-000002"]
    assert batch.indices.tolist() == [0, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"prompt_tokens": 100, "cached_tokens": 100},
        {"prompt_tokens": None, "cached_tokens": 100},
        {"prompt_tokens": 100, "cached_tokens": 100, "cache_write_tokens": 100, "prompt_audio_tokens": 100},
        {"cache_write_tokens": None, "cache_write_1h_tokens": 20},
        {"completion_tokens": 5, "reasoning_tokens": 5, "completion_audio_tokens": 5},
        {"first_token_us": 900, "last_token_us": 800, "output_chunks": 10**9, "retries": 10**9},
        {"total_us": 1000, "context_us": 700, "model_us": 900, "first_token_us": 1001},
        {
            "total_us": 0,
            "prompt_tokens": 0,
            "cached_tokens": 0,
            "cost_nano_usd": 0,
            "cache_write_tokens": None,
        },
        {"occurred_at": 0},
        {"model": "m" * 256, "user_id": "é" * 256},
        {"attributes": [f"key{number}=a=b\nc" for number in range(16)]},
        {"attributes": ["k" * 64 + "=" + "é" * 256, "empty="]},
    ],
)
def test_what_can_be_is_taken(change: dict[str, Any]) -> None:
    assert read({}, change).refused == []


def test_rules_are_held_of_the_columns_that_were_read() -> None:
    batch = read({"prompt_tokens": -1, "total_us": -1}, {"total_us": -1}, columns=["model", "prompt_tokens"])
    assert [refusal.detail for refusal in batch.refused] == ["prompt_tokens is negative"]
    assert batch.frame.height == 1


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"value": float("nan")}, "value is not a finite number"),
        ({"value": float("inf")}, "value is not a finite number"),
        ({"name": ""}, "name is empty"),
    ],
)
def test_samples_have_rules_too(change: dict[str, Any], detail: str) -> None:
    schema = contract.schema("Sample")
    values = [Codec(schema).encode(SAMPLE), Codec(schema).encode(SAMPLE | change)]
    batch = refuse_invalid(ColumnarReader(schema).read(values, offsets(values)), "Sample")
    assert [refusal.detail for refusal in batch.refused] == [detail]


SPAN = {"event_id": "e", "trace_id": "t", "span_id": "s", "phase": "finished", "kind": "model"} | {
    "name": "n",
    "occurred_at": NOON_US,
    "service": "s",
}


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"depends_on": [""]}, "depends_on has an item that is not a text of 1 to 256 characters"),
        ({"links": ["t/s", "l" * 257]}, "links has an item that is not a text of 1 to 256 characters"),
        ({"depends_on": ["s"] * 65}, "depends_on has more than 64 items"),
        ({"prompt_tokens": 5, "cache_write_tokens": 6}, "cache_write_tokens is larger than prompt_tokens"),
        ({"cost_nano_usd": -1}, "cost_nano_usd is negative"),
        ({"model": ""}, "model is empty; what is unknown must be null"),
        ({"attributes": ["no equals sign"]}, "attributes has an item that is not key=value"),
        (
            {"links": ["l" * 256] * 64, "depends_on": ["é" * 256], "prompt_tokens": 5, "cached_tokens": 5},
            None,
        ),
    ],
)
def test_spans_have_rules_too(change: dict[str, Any], detail: str | None) -> None:
    schema = contract.schema("SpanEvent")
    values = [Codec(schema).encode(SPAN), Codec(schema).encode(SPAN | change)]
    batch = refuse_invalid(ColumnarReader(schema).read(values, offsets(values)), "SpanEvent")
    refused = [refusal.detail.partition(" with a key")[0] for refusal in batch.refused]
    assert refused == ([] if detail is None else [detail])


@pytest.mark.parametrize("record", ["RequestEvent", "SpanEvent", "Sample"])
def test_every_field_of_an_event_that_has_a_bound_has_its_rule(record: str) -> None:
    ruled = {name for rule in rules(record) for name in rule.needs}
    free = set(contract.schema(record).fields) - ruled
    assert free <= {"phase", "kind", "imported", "cache_hit", "streamed"}


def test_an_empty_batch_and_other_records_are_left_alone() -> None:
    assert read().frame.height == 0
    assert rules("WindowBlock") == ()
