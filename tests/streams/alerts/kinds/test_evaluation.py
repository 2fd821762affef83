"""A rule held against a window in columns: what violates, what holds, and what can't be told."""

from typing import Any

import polars as pl
import pytest

from streams.alerts.kinds.comparing import ComparingRule
from streams.alerts.kinds.comparison import Evaluated
from streams.alerts.kinds.evaluation import evaluate
from streams.alerts.window import Window
from tests.streams.alerts.closed_panes import minute, rows, rule


def window(groups: dict[Any, Any], grouping: str = "service", parts: int = 2, whole: bool = True) -> Window:
    return Window(minute(0), minute(1), pl.DataFrame(rows(grouping, groups)), parts, 2, whole)


def held(groups: dict[Any, Any], parts: int = 2, whole: bool = True, **fields: Any) -> Evaluated:
    one = rule(**{"grouping": "service"} | fields).rule
    assert isinstance(one, ComparingRule)
    return evaluate(one, window(groups, one.grouping, parts, whole))


def verdicts(evaluated: Evaluated) -> dict[Any, str]:
    words = {(True, False): "violates", (False, True): "holds", (False, False): "unknown"}
    both = zip(evaluated.violates.tolist(), evaluated.holds.tolist(), strict=True)
    return {evaluated.group(row)[0]: words[each] for row, each in enumerate(both)}


@pytest.mark.parametrize(
    ("operator", "violating"), [(">", {"c"}), (">=", {"b", "c"}), ("<", {"a"}), ("<=", {"a", "b"})]
)
def test_operators(operator: str, violating: set[str]) -> None:
    found = verdicts(
        held({"a": {"requests": 9}, "b": {"requests": 10}, "c": {"requests": 11}}, operator=operator)
    )
    assert {group for group, verdict in found.items() if verdict == "violates"} == violating
    assert "unknown" not in found.values()


@pytest.mark.parametrize(("parts", "whole"), [(1, True), (2, False)], ids=["a part", "not from its start"])
def test_of_a_part_of_the_traffic_only_too_much_is_known(parts: int, whole: bool) -> None:
    groups = {"a": {"requests": 5}, "b": {"requests": 50}}
    assert verdicts(held(groups, parts, whole)) == {"a": "unknown", "b": "violates"}
    assert verdicts(held(groups, parts, whole, operator="<")) == {"a": "unknown", "b": "unknown"}


def test_a_share_of_capacity_is_stated_as_such() -> None:
    found = held(
        {"a": {"requests": 6000}}, kind="capacity", metric="requests", aggregation="rate", window="1m",
        capacity="50/s", threshold="150 %",
    )  # fmt: skip
    assert found.values.tolist() == [2.0]
    assert found.extra["measured"].tolist() == [100.0]
    assert verdicts(found) == {"a": "violates"}


def test_costs_that_are_known_in_part_fire_for_too_much_and_never_for_too_little() -> None:
    groups = {
        "part": {"requests": 4, "unpriced": 1, "cost_nano_usd": 5 * 10**9},
        "none": {"requests": 4, "unpriced": 4},
        "all": {"requests": 4, "cost_nano_usd": 5 * 10**9},
    }
    cost = {"metric": "cost", "aggregation": "sum"}
    over = held(groups, **cost, threshold="3 USD")
    assert verdicts(over) == {"part": "violates", "none": "unknown", "all": "violates"}
    assert over.at_least.tolist() == [True, True, False]
    under = held(groups, **cost, threshold="9 USD", operator="<")
    assert verdicts(under) == {"part": "unknown", "none": "unknown", "all": "violates"}


def test_too_few_requests_and_no_data_are_told_apart() -> None:
    groups = {"few": {"requests": 2, "total_us": [9_000_000] * 2}, "none": {"requests": 50}}
    found = held(groups, metric="latency", aggregation="avg", threshold="5 s", minimum_requests=10)
    assert (found.too_few.tolist(), found.no_data.tolist()) == ([True, False], [False, True])
    assert set(verdicts(found).values()) == {"unknown"}


def test_rows_are_found_by_their_group() -> None:
    found = held({"a": {"requests": 1}, "b": {"requests": 2}})
    assert found.row_of == {("a",): 0, ("b",): 1}
    assert held({(): {"requests": 1}}, grouping="total").row_of == {(): 0}
    assert held({}, grouping="total").row_of == {}
