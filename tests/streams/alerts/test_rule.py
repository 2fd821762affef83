"""A rule is read as it is written, says the same again as JSON, and is refused with place and remedy."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.time import DAY, HOUR, MINUTE, SECOND
from streams.alerts.durations import write_duration
from streams.alerts.errors import RuleError
from streams.alerts.kinds.absence import AbsenceRule
from streams.alerts.kinds.baseline import BaselineRule
from streams.alerts.kinds.budget import BudgetRule
from streams.alerts.kinds.capacity import CapacityRule
from streams.alerts.kinds.change import ChangeRule
from streams.alerts.kinds.threshold import ThresholdRule
from streams.alerts.kinds.watchdog import WatchdogRule
from streams.alerts.measures import GROUPING_KEYS, MEASURES, measure
from streams.alerts.rule import KINDS, RULE, dumped, parse_rule
from tests.streams.alerts.rules import (
    ABSENCE,
    BASELINE,
    BUDGET,
    CAPACITY,
    CHANGE,
    EVERY_KIND,
    THRESHOLD,
    WATCHDOG,
    Written,
)


def faults(written: object, **changed: Any) -> dict[str, str]:
    """What a rule is refused for, by place."""
    with pytest.raises(RuleError) as refused:
        parse_rule(written | changed if isinstance(written, dict) else written)
    return {fault.where: f"{fault.message}; {fault.right}" for fault in refused.value.faults}


def test_a_threshold_is_held_in_the_metrics_unit() -> None:
    rule = parse_rule(THRESHOLD | {"threshold": "12.5 %", "window": "5 min", "operator": "at least"})
    assert isinstance(rule, ThresholdRule)
    assert (rule.threshold, rule.window, rule.operator) == (0.125, 5 * MINUTE, ">=")
    assert (rule.aggregation, rule.threshold_unit.symbol) == ("ratio", "ratio")
    assert (rule.keys, rule.panes, rule.seconds) == (("service",), 5, 300.0)
    slow = parse_rule(THRESHOLD | {"metric": "latency", "aggregation": "avg", "threshold": "5 s"})
    assert isinstance(slow, ThresholdRule)
    assert (slow.threshold, slow.threshold_unit.symbol) == (5000.0, "ms")


def test_a_rule_that_says_little_keeps_to_the_defaults() -> None:
    rule = parse_rule(THRESHOLD)
    assert isinstance(rule, ThresholdRule)
    assert rule.enabled
    assert (rule.operator, rule.consecutive, rule.minimum_requests) == (">", 1, 0)
    assert (rule.pane, rule.no_data, rule.repeat_interval) == ("1m", "keep", 4 * HOUR)
    assert (rule.labels, rule.filter, rule.quiet_hours, rule.inhibits) == ({}, {}, (), ())


def test_a_budget_has_a_period_by_the_calendar_or_a_rolling_one() -> None:
    rule = parse_rule(BUDGET)
    assert isinstance(rule, BudgetRule)
    assert (rule.limit, rule.period, rule.steps) == (2e6, "day", (0.5, 0.8, 1.0, 1.2))
    rolling = parse_rule(BUDGET | {"period": "30d", "metric": "cost", "limit": "$50", "steps": ["100 %"]})
    assert isinstance(rolling, BudgetRule)
    assert (rolling.limit, rolling.period, rolling.steps) == (50.0, 30 * DAY, (1.0,))


def test_the_other_kinds_hold_what_they_need() -> None:
    baseline, change, capacity = map(parse_rule, (BASELINE, CHANGE, CAPACITY))
    assert isinstance(baseline, BaselineRule)
    assert (baseline.threshold, baseline.minimum_difference, baseline.season) == (3.0, 100.0, "week")
    assert baseline.threshold_unit.symbol == "deviations"
    assert isinstance(change, ChangeRule)
    assert (change.threshold, change.against) == (-0.5, DAY)
    assert isinstance(capacity, CapacityRule)
    assert (capacity.capacity, capacity.threshold, capacity.aggregation) == (100.0, 1.5, "rate")
    absence, watchdog = parse_rule(ABSENCE), parse_rule(WATCHDOG)
    assert isinstance(absence, AbsenceRule)
    assert (absence.metric, absence.window, absence.minimum_requests) == ("requests", 15 * MINUTE, 100)
    assert isinstance(watchdog, WatchdogRule)
    assert (watchdog.severity, watchdog.repeat_interval) == ("info", 5 * MINUTE)


def test_a_sampled_state_is_of_an_instance() -> None:
    rule = parse_rule(THRESHOLD | {"grouping": "sample", "metric": "sample:queue_depth", "threshold": 40})
    assert isinstance(rule, ThresholdRule)
    assert (rule.keys, rule.aggregation, rule.threshold) == (("service", "instance"), "last", 40.0)
    unsaid = {name: value for name, value in THRESHOLD.items() if name != "grouping"}
    assert parse_rule(unsaid | {"metric": "sample:queue_depth", "threshold": 40}).grouping == "sample"


@pytest.mark.parametrize("written", EVERY_KIND, ids=lambda written: written["kind"])
def test_a_rule_as_json_is_the_same_rule(written: Written) -> None:
    rule = parse_rule(written)
    said = json.loads(json.dumps(dumped(rule)))
    assert parse_rule(said) == rule
    assert dumped(parse_rule(said)) == said
    assert all(said[name] is not None for name in written)


def test_json_says_figures_as_people_write_them() -> None:
    said = dumped(parse_rule(CHANGE | {"quiet_hours": [{"start": "22:00", "end": "07:00"}]}))
    assert (said["window"], said["against"], said["threshold"]) == ("1h", "1d", "-50 %")
    assert said["quiet_hours"][0]["days"] == ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    assert dumped(parse_rule(BUDGET))["limit"] == "2000000 tokens"
    assert dumped(parse_rule(BUDGET))["steps"] == ["50 %", "80 %", "100 %", "120 %"]


@st.composite
def thresholds(draw: st.DrawFn) -> Written:
    """Sound rules of any metric, aggregation, grouping, window and figure."""
    name = draw(st.sampled_from([*MEASURES, "sample:queue_depth"]))
    one = measure(name)
    aggregation = draw(st.sampled_from(one.aggregations))
    grouping = draw(st.sampled_from(one.groupings))
    if (name, aggregation, grouping) == ("errors", "ratio", "error"):
        grouping = "total"
    keys = GROUPING_KEYS[grouping]
    seconds = draw(st.booleans()) and grouping in ("total", "service")
    window = draw(st.integers(1, 600)) * SECOND if seconds else draw(st.integers(1, 100)) * MINUTE
    most = 1.0 if aggregation == "ratio" else 1e12
    words = st.text("abcXYZ0189-_./*", min_size=1, max_size=20)
    return THRESHOLD | {
        "metric": name,
        "aggregation": aggregation,
        "grouping": grouping,
        "filter": draw(st.dictionaries(st.sampled_from(keys), st.lists(words, min_size=1, max_size=3)))
        if keys
        else {},
        "pane": "1s" if seconds else "1m",
        "window": write_duration(window),
        "threshold": one.unit(aggregation).write(draw(st.floats(0, most))),
        "operator": draw(st.sampled_from([">", ">=", "<", "<=", "above", "at most"])),
        "consecutive": draw(st.integers(1, 10)),
        "no_data": draw(st.sampled_from(["keep", "ok", "alert"])),
        "labels": draw(st.dictionaries(st.sampled_from(["team", "env"]), words)),
        "enabled": draw(st.booleans()),
    }


@settings(max_examples=60, deadline=None)
@given(thresholds())
def test_whatever_is_said_soundly_is_said_again_the_same(written: Written) -> None:
    rule = parse_rule(written)
    assert parse_rule(json.loads(json.dumps(dumped(rule)))) == rule


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_values = st.recursive(
    _scalars | st.sampled_from(["5m", "10 %", "total", "errors"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(EVERY_KIND), st.data())
def test_nonsense_in_any_field_is_refused_and_never_breaks(written: Written, data: st.DataObject) -> None:
    names = st.sampled_from([*KINDS[written["kind"]].model_fields, "unheard_of"])
    nonsense = data.draw(st.dictionaries(names, _values, min_size=1, max_size=3))
    try:
        rule = parse_rule(written | nonsense, ("rules", 3))
    except RuleError as error:
        found = error.faults
    else:
        assert parse_rule(json.loads(json.dumps(dumped(rule)))) == rule
        return
    assert found
    for fault in found:
        assert fault.message
        assert fault.where.startswith("rules[3]")


@pytest.mark.parametrize("nonsense", [None, [], "rule", 5])
def test_what_is_no_mapping_is_no_rule(nonsense: object) -> None:
    assert faults(nonsense) == {"": "this is no rule; write its fields as a mapping"}


@pytest.mark.parametrize(
    ("written", "changed", "where", "told"),
    [
        (THRESHOLD, {"kind": "treshold"}, "kind", "there is no kind 'treshold'; did you mean threshold?"),
        (
            THRESHOLD,
            {"metric": "latencies"},
            "metric",
            "there is no metric 'latencies'; did you mean latency?",
        ),
        (THRESHOLD, {"metric": "zzz"}, "metric", "there is no metric 'zzz'; there are requests, errors, "),
        (THRESHOLD, {"metric": "sample:a b"}, "metric", "'sample:a b' names no sampled state"),
        (
            THRESHOLD,
            {"grouping": "services"},
            "grouping",
            "there is no grouping 'services'; did you mean service?",
        ),
        (
            THRESHOLD,
            {"aggregation": "p95"},
            "aggregation",
            "errors has no p95; choose one of ratio, sum, rate",
        ),
        (THRESHOLD, {"aggregation": "mean"}, "aggregation", "'mean' is none of its values; "),
        (
            THRESHOLD,
            {"metric": "latency", "grouping": "user", "threshold": "5 s"},
            "grouping",
            "latency isn't measured by user; choose one of total, service, model, space, workflow, region, "
            "error",
        ),
        (
            THRESHOLD,
            {"grouping": "sample"},
            "grouping",
            "errors isn't measured by sample; choose one of total, ",
        ),
        (THRESHOLD, {"grouping": "error"}, "aggregation", "the ratio is always 100 %; choose sum or rate"),
        (THRESHOLD, {"threshold": "10"}, "threshold", "'10' has no unit; write it as in 10 %"),
        (THRESHOLD, {"threshold": "5 s"}, "threshold", "'s' is no unit of this figure; write it as in 10 %"),
        (THRESHOLD, {"threshold": "110 %"}, "threshold", "no share of requests is over 100 %"),
        (THRESHOLD, {"threshold": "-1 %"}, "threshold", "errors is never under 0; write it as in 10 %"),
        (THRESHOLD, {"window": "5"}, "window", "'5' has no unit; write a duration with its unit, such as "),
        (THRESHOLD, {"window": 300}, "window", "300 has no unit"),
        (
            THRESHOLD,
            {"window": "0s"},
            "window",
            "0s is no whole number of panes of 1m; write a multiple of 1m",
        ),
        (THRESHOLD, {"window": "90s"}, "window", "write a multiple of 1m, or choose pane 1s"),
        (THRESHOLD, {"window": "2h"}, "window", "2h is too long for panes of 1m; at most 1h40m"),
        (
            THRESHOLD,
            {"window": "11m", "pane": "1s"},
            "window",
            "11m is too long for panes of 1s; at most 10m",
        ),
        (
            THRESHOLD,
            {"grouping": "model", "pane": "1s"},
            "pane",
            "the grouping model has no panes of 1s; choose 1m, or group by service",
        ),
        (THRESHOLD, {"pane": "1h"}, "pane", "'1h' is none of its values; there are 1s, 1m"),
        (
            THRESHOLD,
            {"filter": {"model": "x"}},
            "filter.model",
            "the grouping service has service; group by model",
        ),
        (THRESHOLD, {"filter": {"servic": "x"}}, "filter.servic", "did you mean service?"),
        (THRESHOLD, {"filter": {"service": []}}, "filter.service", "0 values are given; give 1 to 100"),
        (THRESHOLD, {"filter": {"service": [1]}}, "filter.service[0]", "should be a valid string"),
        (
            THRESHOLD,
            {"grouping": "total", "filter": {"service": "x"}},
            "filter.service",
            "the grouping total has no keys; group by service or sample",
        ),
        (THRESHOLD, {"operator": "=="}, "operator", "'==' is none of its values; there are >, >=, <, <="),
        (THRESHOLD, {"operator": ""}, "operator", "there is no operator here; in YAML > and < need quotes"),
        (THRESHOLD, {"consecutive": 0}, "consecutive", "should be greater than or equal to 1"),
        (
            THRESHOLD,
            {"consecutive": "2"},
            "consecutive",
            "should be a valid integer; How many windows in a row",
        ),
        (THRESHOLD, {"consecutive": True}, "consecutive", "should be a valid integer"),
        (THRESHOLD, {"enabled": "no"}, "enabled", "should be a valid boolean"),
        (
            THRESHOLD,
            {"no_data": "zero"},
            "no_data",
            "'zero' is none of its values; there are keep, ok, alert",
        ),
        (THRESHOLD, {"severity": "eror"}, "severity", "'eror' is none of its values; did you mean error?"),
        (THRESHOLD, {"threshhold": "5 %"}, "threshhold", "there is no such field; did you mean threshold?"),
        (
            THRESHOLD,
            {"id": "Error Rate"},
            "id",
            "'Error Rate' is no id; write small letters, digits, - and _",
        ),
        (THRESHOLD, {"name": " "}, "name", "String should have at least 1 character"),
        (THRESHOLD, {"labels": {"a b": "c"}}, "labels", "'a b' is no label; write letters, digits and _"),
        (
            THRESHOLD,
            {"labels": {"severity": "c"}},
            "labels.severity",
            "every alert has a severity of its own",
        ),
        (
            THRESHOLD,
            {"labels": {"service": "c"}},
            "labels.service",
            "gives every alert a service; choose another",
        ),
        (THRESHOLD, {"labels": {"a": ""}}, "labels.a", "a label's value has 1 to 256 characters"),
        (
            THRESHOLD,
            {"labels": {f"a{n}": "b" for n in range(17)}},
            "labels",
            "these are 17 labels; at most 16",
        ),
        (THRESHOLD, {"repeat_interval": "10s"}, "repeat_interval", "10s is out of bounds; write 1m to 30d"),
        (THRESHOLD, {"inhibits": ["A"]}, "inhibits[0]", "'A' is no id"),
        (
            THRESHOLD,
            {"quiet_hours": [{"start": "22:00", "end": "7:00"}]},
            "quiet_hours[0].end",
            "'7:00' is no time of day; write it as in 07:30",
        ),
        (
            THRESHOLD,
            {"quiet_hours": [{"start": "22:00", "end": "07:00", "timezone": "Berlin"}]},
            "quiet_hours[0].timezone",
            "there is no time zone 'Berlin'; write one as in Europe/Berlin",
        ),
        (
            THRESHOLD,
            {"quiet_hours": [{"start": "22:00", "end": "07:00", "days": ["Sun"]}]},
            "quiet_hours[0].days[0]",
            "'Sun' is none of its values; did you mean sun?",
        ),
        (
            THRESHOLD,
            {"grouping": "sample", "metric": "sample:queue", "threshold": "5 s"},
            "threshold",
            "'s' is no unit of this figure",
        ),
        (
            THRESHOLD,
            {"grouping": "sample", "metric": "sample:queue", "threshold": 5, "minimum_requests": 5},
            "minimum_requests",
            "sampled states have no requests; leave it out",
        ),
        (
            CHANGE,
            {"threshold": "50 %"},
            "threshold",
            "50 % doesn't go with <; write 50 % with > for a rise, -50 %",
        ),
        (CHANGE, {"operator": ">"}, "threshold", "-50 % doesn't go with >"),
        (CHANGE, {"threshold": 0}, "threshold", "0 % doesn't go with <"),
        (
            CHANGE,
            {"threshold": "-100 %"},
            "threshold",
            "nothing falls by 100 % or more; write less, as in -80 %",
        ),
        (CHANGE, {"against": "30m"}, "against", "the two windows overlap; write 1h or more"),
        (CHANGE, {"against": "3601s"}, "against", "1h1s are no whole minutes"),
        (CHANGE, {"against": "500d"}, "against", "500d is out of bounds; write 1m to 400d"),
        (BASELINE, {"threshold": -3}, "threshold", "-3 sd doesn't go with >"),
        (BASELINE, {"threshold": "3 %"}, "threshold", "'%' is no unit of this figure; write it as in 3"),
        (BASELINE, {"minimum_difference": "5 %"}, "minimum_difference", "write it as in 200 ms or 5 s"),
        (BASELINE, {"minimum_difference": "-5 s"}, "minimum_difference", "a distance is never under 0"),
        (BASELINE, {"minimum_change": "-5 %"}, "minimum_change", "a distance is never under 0"),
        (BASELINE, {"around": "10h"}, "around", "10h is out of bounds; write 1m to 6h"),
        (BASELINE, {"season": "month"}, "season", "'month' is none of its values; there are day, week"),
        (CAPACITY, {"capacity": "100"}, "capacity", "'100' has no unit; write it as in 100/s or 3000/min"),
        (CAPACITY, {"capacity": 0}, "capacity", "this must be over 0; write it as in 100/s"),
        (CAPACITY, {"threshold": 1.5}, "threshold", "1.5 has no unit; write it as in 10 %"),
        (CAPACITY, {"threshold": "0 %"}, "threshold", "a share of capacity is over 0; write it as in 80 %"),
        (
            CAPACITY,
            {"metric": "errors", "capacity": "5 %"},
            "aggregation",
            "there is no capacity of errors as ratio; take a rate, a sum or a sampled state",
        ),
        (CAPACITY, {"metric": "latency"}, "aggregation", "there is no capacity of latency as p95"),
        (BUDGET, {"metric": "latency"}, "metric", "there is no budget of latency; choose tokens, cost, or "),
        (BUDGET, {"metric": "errors"}, "metric", "there is no budget of errors"),
        (BUDGET, {"limit": "50 USD"}, "limit", "'USD' is no unit of this figure; write it as in 500k tokens"),
        (BUDGET, {"metric": "cost"}, "limit", "costs are in US dollars: write it as in 3 USD"),
        (BUDGET, {"metric": "cost", "limit": 50}, "limit", "50 has no unit"),
        (BUDGET, {"limit": 0}, "limit", "this must be over 0"),
        (
            BUDGET,
            {"period": "monthly"},
            "period",
            "write day, week or month, or a rolling span in hours or days",
        ),
        (BUDGET, {"period": "90m"}, "period", "1h30m are no whole hours; write hours or days"),
        (BUDGET, {"period": "90d"}, "period", "90d is out of bounds; write 1h to 35d"),
        (BUDGET, {"steps": ["80 %", "50 %"]}, "steps", "the steps don't ascend; write shares of the limit"),
        (BUDGET, {"steps": ["80 %", "80 %"]}, "steps", "the steps don't ascend"),
        (BUDGET, {"steps": []}, "steps", "these are 0 steps"),
        (BUDGET, {"steps": ["0 %"]}, "steps", "a step is over 0 % and at most 1000 %"),
        (BUDGET, {"steps": [0.8]}, "steps[0]", "0.8 has no unit; write it as in 10 %"),
        (BUDGET, {"window": "5m"}, "window", "there is no such field"),
        (
            ABSENCE,
            {"metric": "errors"},
            "metric",
            "errors is counted from requests; write requests, or a sampled",
        ),
        (ABSENCE, {"window": "30s"}, "window", "30s is no whole number of panes of 1m"),
        (ABSENCE, {"metric": "sample:x"}, "minimum_requests", "sampled states have no requests"),
        (WATCHDOG, {"metric": "errors"}, "metric", "there is no such field"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_would_be_right(
    written: Written, changed: Written, where: str, told: str
) -> None:
    found = faults(written, **changed)
    assert where in found
    assert told in found[where]


@pytest.mark.parametrize("written", EVERY_KIND, ids=lambda written: written["kind"])
def test_what_is_missing_is_named(written: Written) -> None:
    model = KINDS[written["kind"]]
    for name, field in model.model_fields.items():
        if field.is_required():
            told = faults({key: value for key, value in written.items() if key != name})[name]
            assert told.startswith("is missing; ")
            assert name == "kind" or field.description in told


def test_all_mistakes_are_told_at_once_and_where_they_are() -> None:
    wrong = THRESHOLD | {"window": "5", "threshold": "5 s", "filter": {"model": "x"}, "severity": "bad"}
    with pytest.raises(RuleError) as refused:
        parse_rule(wrong, ("rules", 3))
    assert {fault.where for fault in refused.value.faults} == {
        "rules[3].window",
        "rules[3].threshold",
        "rules[3].filter.model",
        "rules[3].severity",
    }
    assert "rules[3].window: '5' has no unit; write a duration" in str(refused.value)


def test_a_mistake_in_one_field_is_not_told_of_others() -> None:
    assert set(faults(THRESHOLD, metric="erors")) == {"metric"}
    assert set(faults(THRESHOLD, grouping="servic")) == {"grouping"}
    assert set(faults(BUDGET, metric="tokns")) == {"metric"}
    assert set(faults(BASELINE, aggregation="mean")) == {"aggregation"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described(kind: str) -> None:
    definitions = RULE.json_schema()["$defs"]
    properties = definitions[KINDS[kind].__name__]["properties"]
    undescribed = {name for name, field in properties.items() if not field.get("description")}
    assert undescribed <= {"kind"}
    assert all(field.get("description") for field in definitions["QuietHours"]["properties"].values())


def test_the_schema_takes_what_rules_say_as_json() -> None:
    definitions = RULE.json_schema()["$defs"]
    for written in EVERY_KIND:
        properties = definitions[KINDS[written["kind"]].__name__]["properties"]
        said = dumped(parse_rule(written))
        assert said.keys() == properties.keys()
        for name in ("window", "against", "capacity", "limit", "period"):
            if name in said:
                assert isinstance(said[name], str)
                types = {one.get("type") for one in properties[name].get("anyOf", [properties[name]])}
                assert "string" in types
