"""Values held against what they are usual to be, and what is not known of that."""

from typing import Any

import polars as pl
import pytest

from schemas.time import MINUTE, SECOND
from streams.alerts.judge import Judge
from streams.alerts.judged import Judged, RuleVersion
from streams.alerts.kinds.baseline import MOST_DEVIATIONS, BaselineRule
from streams.alerts.kinds.change import ChangeRule
from streams.alerts.references import AHEAD, References
from tests.streams.alerts.closed_panes import Topic, minute, rule, told


def unusual(**fields: Any) -> RuleVersion:
    base = {
        "kind": "baseline",
        "metric": "requests",
        "aggregation": "sum",
        "window": "1m",
        "minimum_samples": 5,
    }
    return rule(**base | fields)


def changed(**fields: Any) -> RuleVersion:
    base = {"kind": "change", "metric": "requests", "aggregation": "sum", "window": "1m", "against": "1d"}
    return rule(**base | {"threshold": "50 %"} | fields)


def reference(slots: range, mean: float, std: float | None, samples: int = 9, **keys: str) -> pl.DataFrame:
    """The same reference for each minute of a range of slots."""
    rows = [
        {**keys, "slot_start": minute(slot), "mean": mean, "std": std, "samples": samples} for slot in slots
    ]
    kinds = {"slot_start": pl.Int64, "mean": pl.Float64, "std": pl.Float64, "samples": pl.Int64}
    return pl.DataFrame(rows, schema=dict.fromkeys(keys, pl.String) | kinds)


def judged(one: RuleVersion, frame: pl.DataFrame | None, *requests: int, grouping: str = "total") -> Judged:
    topic = Topic()
    for n, count in enumerate(requests, 1):
        topic.close(minute(n), {"a" if grouping != "total" else (): {"requests": count}}, grouping=grouping)
    judge = Judge(0, 1, [one])
    judge.tick(minute(0))
    if frame is not None:
        judge.set_reference("r", minute(0), minute(30), frame)
    return judge.take(topic.records, minute(len(requests)))


def whats(judged: Judged) -> list[str]:
    return [decision["what"] for decision in judged.decisions]


def test_a_value_far_from_the_mean_fires_and_says_how_far() -> None:
    found = judged(unusual(), reference(range(0, 30, 5), 100, 10), 129, 131, 100)
    assert told(found.alerts) == [("firing", 1, 2), ("resolved", 2, 3)]
    first = found.alerts[0]
    assert (first["value"], first["unit"], first["threshold"]) == (pytest.approx(3.1), "deviations", 3)
    assert first["details"] == ["measured=131", "mean=100", "samples=9", "std=10"]


def test_too_low_is_unusual_too_for_a_rule_that_says_so() -> None:
    low = unusual(operator="<", threshold=-3)
    assert told(judged(low, reference(range(0, 30, 5), 100, 10), 71, 69, 131).alerts) == [
        ("firing", 1, 2),
        ("resolved", 2, 3),
    ]


def test_what_is_near_the_mean_is_not_unusual_however_little_it_varies() -> None:
    steady = reference(range(0, 30, 5), 100, 0.5)
    assert judged(unusual(minimum_change="10 %"), steady, 109).alerts == []
    assert judged(unusual(minimum_change="0 %", minimum_difference="8 requests"), steady, 107).alerts == []
    assert len(judged(unusual(minimum_change="10 %"), steady, 111).alerts) == 1


def test_where_nothing_ever_varied_any_difference_is_the_most_there_is() -> None:
    [alert] = judged(unusual(), reference(range(0, 30, 5), 100, 0.0), 200).alerts
    assert alert["value"] == MOST_DEVIATIONS
    assert judged(unusual(), reference(range(0, 30, 5), 100, 0.0), 100).alerts == []


@pytest.mark.parametrize(
    "frame",
    [
        None,
        reference(range(0), 0, 0),
        reference(range(0, 30, 5), 100, 10, samples=4),
        reference(range(0, 30, 5), 100, None),
    ],
    ids=["not answered", "no history", "too few samples", "no deviation"],
)
def test_without_a_baseline_nothing_is_judged(frame: pl.DataFrame | None) -> None:
    found = judged(unusual(), frame, 500)
    assert found.alerts == []
    assert whats(found) == ["no-baseline"]


def test_groups_have_baselines_of_their_own() -> None:
    frame = pl.concat(
        [
            reference(range(0, 30, 5), 10, 1, service="a"),
            reference(range(0, 30, 5), 1000, 1, service="b"),
        ]
    )
    found = judged(unusual(grouping="service"), frame, 100, grouping="service")
    assert told(found.alerts) == [("service=a", "firing", 1, 1)]


def test_a_change_is_a_share_of_the_value_before() -> None:
    found = judged(changed(), reference(range(30), 100, None, 100), 140, 160, 120)
    assert told(found.alerts) == [("firing", 1, 2), ("resolved", 2, 3)]
    assert (found.alerts[0]["value"], found.alerts[0]["unit"]) == (pytest.approx(0.6), "ratio")
    falls = changed(threshold="-50 %", operator="<")
    assert told(judged(falls, reference(range(30), 100, None, 100), 60, 40).alerts) == [("firing", 1, 2)]


@pytest.mark.parametrize(
    "frame",
    [None, reference(range(30), 0, None, 100), reference(range(30), 100, None, 9)],
    ids=["not answered", "nothing to divide by", "too few requests then"],
)
def test_a_change_against_nothing_is_not_judged(frame: pl.DataFrame | None) -> None:
    found = judged(changed(minimum_requests=10), frame, 500)
    assert found.alerts == []
    assert whats(found) == ["no-baseline"]


def test_an_open_alert_stays_while_there_is_no_baseline() -> None:
    frame = reference(range(2), 100, None, 100)
    assert told(judged(changed(), frame, 160, 160, 100, 100).alerts) == [("firing", 1, 1)]


def test_references_are_asked_for_ahead_and_only_as_long_as_they_are_missing() -> None:
    one = unusual()
    judge = Judge(0, 1, [one])
    topic = Topic()
    topic.close(minute(1), {(): {"requests": 5}})
    judge.take(topic.records, minute(1))
    [question] = judge.wanted(minute(1))
    assert (question.rule, question.what) == (one.rule, "reference")
    assert question.start == minute(0)
    assert question.until >= minute(1) + AHEAD - 5 * MINUTE
    judge.set_reference("r", question.start, question.until, reference(range(0, 15, 5), 5, 1))
    assert judge.wanted(minute(1)) == []
    topic.heartbeat(minute(6))
    judge.take(topic.records, minute(6))
    assert judge.wanted(minute(6))[0].start == question.until


def test_the_slot_of_a_window_is_the_one_in_which_it_ends() -> None:
    season, before = unusual().rule, changed().rule
    assert isinstance(season, BaselineRule)
    assert isinstance(before, ChangeRule)
    assert [season.slot_of(minute(n)) for n in (1, 5, 6)] == [minute(0), minute(0), minute(5)]
    assert [before.slot_of(minute(n)) for n in (1, 5, 6)] == [minute(0), minute(4), minute(5)]
    assert before.slot_of(minute(1) + SECOND) == minute(1)


def test_slots_that_are_over_are_let_go() -> None:
    one = changed().rule
    assert isinstance(one, ChangeRule)
    references = References()
    references.add(one.keys, one.slot, minute(0), minute(60), reference(range(60), 1, None))
    references.forget(minute(50))
    assert references.of(minute(30), one.slot) is None
    assert references.of(minute(40), one.slot) is not None
