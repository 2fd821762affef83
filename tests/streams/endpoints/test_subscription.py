"""Which events an endpoint is told of."""

import time
from typing import Any

import pytest
from pydantic import ValidationError

from streams.endpoints.subscription import PropertyFilter, Subscription, matches

ALERT = {
    "severity": "error",
    "rule_id": "error-rate",
    "labels": {"team": "search", "tier": "1"},
    "value": 0.12,
    "group": ["space_id=docs"],
}


def _wants(type_: str, data: dict[str, Any], **subscription: Any) -> bool:
    return Subscription.model_validate(subscription).wants(type_, data)


@pytest.mark.parametrize(
    ("types", "type_", "wanted"),
    [
        (["alert.firing"], "alert.firing", True),
        (["alert.firing"], "alert.resolved", False),
        (["alert.*"], "alert.reminder", True),
        (["*"], "endpoint.failing", True),
        (["span.ended", "request.failed"], "request.failed", True),
    ],
)
def test_a_subscription_is_to_types(types: list[str], type_: str, wanted: bool) -> None:
    assert _wants(type_, ALERT, types=types) is wanted


@pytest.mark.parametrize(
    ("narrowed", "wanted"),
    [
        ({"severities": ["error", "critical"]}, True),
        ({"severities": ["critical"]}, False),
        ({"rules": ["error-*"]}, True),
        ({"rules": ["latency"]}, False),
        ({"labels": {"team": "search"}}, True),
        ({"labels": {"team": ["se*", "ads"]}}, True),
        ({"labels": {"team": ["search"], "tier": ["2"]}}, False),
        ({"labels": {"absent": "*"}}, False),
        ({"filters": [{"property": "value", "operator": ">", "value": 0.1}]}, True),
        ({"filters": [{"property": "value", "operator": ">", "value": 0.2}]}, False),
        ({"filters": [{"property": "labels.tier", "values": ["1", "2"]}]}, True),
        ({"filters": [{"property": "group", "value": "space_id=*"}]}, True),
        ({"filters": [{"property": "value", "operator": "absent"}]}, False),
        ({"filters": [{"property": "other", "operator": "!=", "value": "x"}]}, True),
        ({"filters": [{"property": "other", "value": "*"}]}, False),
    ],
)
def test_alerts_are_narrowed_by_what_they_say(narrowed: dict[str, Any], wanted: bool) -> None:
    assert _wants("alert.firing", ALERT, types=["alert.*"], **narrowed) is wanted


def test_spans_are_narrowed_by_kind_and_windows_by_grouping_and_pane() -> None:
    assert _wants("span.ended", {"kind": "tool"}, types=["span.ended"], kinds=["tool"])
    assert not _wants("span.ended", {"kind": "model"}, types=["span.ended"], kinds=["tool"])
    window = {"grouping": "space", "pane": "1m"}
    assert _wants("window.closed", window, types=["window.closed"], groupings=["space"])
    assert not _wants("window.closed", window, types=["window.closed"], groupings=["total"])
    assert not _wants("window.closed", window | {"pane": "1s"}, types=["window.closed"])


def test_what_narrows_alerts_says_nothing_about_other_types() -> None:
    assert _wants("endpoint.failing", {}, types=["*"], severities=["critical"], kinds=["tool"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"types": ["alarm"]}, "alert.firing"),
        ({"types": []}, "at least 1"),
        ({"types": ["*"], "severities": ["fatal"]}, "critical"),
        ({"types": ["*"], "filters": [{"property": "a", "operator": ">", "value": "much"}]}, "one number"),
        ({"types": ["*"], "filters": [{"property": "a"}]}, "needs a value"),
        ({"types": ["*"], "filters": [{"property": "a", "operator": "absent", "value": 1}]}, "no values"),
        ({"types": ["*"], "severity": "error"}, "not permitted"),
    ],
)
def test_a_wrong_subscription_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Subscription.model_validate(wrong)


def test_no_pattern_takes_long() -> None:
    began = time.process_time()
    assert not matches("*a" * 60 + "b", "a" * 5000)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("pattern", "text", "wanted"),
    [
        ("a*c", "abc", True),
        ("a*c", "abcd", False),
        ("*", "", True),
        ("a.c", "abc", False),
        ("*b*b", "b", False),
    ],
)
def test_a_star_stands_for_any_characters_and_nothing_else_is_special(
    pattern: str, text: str, wanted: bool
) -> None:
    assert matches(pattern, text) is wanted


def test_a_filter_compares_truth_values_as_they_are_written() -> None:
    held = PropertyFilter.model_validate({"property": "cache_hit", "value": True})
    assert held.holds({"cache_hit": True})
    assert not held.holds({"cache_hit": False})
