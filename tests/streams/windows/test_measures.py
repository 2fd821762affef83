"""What is counted: by which keys, and which figures, as the schema of WindowBlock names them."""

import pytest

from streams.catalogue.groupings import GROUPINGS
from streams.catalogue.measures import LATENCIES, SUMS
from streams.windows.block import row_schema
from tests.streams.windows.expected import KEYS, MEASURED

COUNTED = (
    *("requests", "errors", "cache_hits", "prompt_tokens", "cached_tokens", "completion_tokens"),
    *("reasoning_tokens", "cost_nano_usd", "unpriced"),
)


def test_each_grouping_has_its_keys_and_is_found_by_its_name() -> None:
    assert {name: grouping.keys for name, grouping in GROUPINGS.items()} == KEYS
    assert [grouping.name for grouping in GROUPINGS.values()] == list(GROUPINGS)


def test_all_figures_are_kept_of_each_but_no_latencies_of_users() -> None:
    assert (SUMS, LATENCIES) == (COUNTED, MEASURED)
    for grouping in GROUPINGS.values():
        assert grouping.sums == COUNTED
        assert grouping.latencies == (() if grouping.name == "user" else MEASURED)


def test_users_are_many_and_spread_over_64_blocks_all_others_are_in_one() -> None:
    assert {name: grouping.buckets for name, grouping in GROUPINGS.items()} == {
        **dict.fromkeys(KEYS, 1),
        "user": 64,
    }


@pytest.mark.parametrize("name", GROUPINGS)
def test_a_row_has_a_column_of_each_key_and_figure(name: str) -> None:
    """In the words of the schema: utf8 keys, int64 sums, and of each latency six columns."""
    expected = [(key, "string", False) for key in KEYS[name]]
    expected += [(figure, "int64", False) for figure in COUNTED]
    for latency in () if name == "user" else MEASURED:
        expected += [(f"{latency}_count", "int64", False), (f"{latency}_sum", "int64", False)]
        expected += [(f"{latency}_min", "int64", True), (f"{latency}_max", "int64", True)]
        expected += [(f"{latency}_keys", "list<item: int32>", True)]
        expected += [(f"{latency}_counts", "list<item: int64>", True)]
    schema = row_schema(GROUPINGS[name])
    assert [(field.name, str(field.type), field.nullable) for field in schema] == expected
