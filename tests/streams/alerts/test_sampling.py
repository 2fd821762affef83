"""Rules about sampled states: judged at every sample, wherever the log is cut, whoever takes it up again."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.time import DAY, HOUR, MINUTE, SECOND, Micros
from streams.alerts.judged import Judged, RuleVersion
from streams.alerts.limits import Limits
from streams.alerts.sampling import Sampling
from tests.streams.alerts.closed_panes import minute, rule, told

Sample = tuple[float, str, float]
"""In which minute, which instance, and its value."""


def breaker(**fields: Any) -> RuleVersion:
    """The circuit breaker is open."""
    base = {
        "metric": "sample:breaker",
        "aggregation": "last",
        "window": "5m",
        "operator": ">=",
        "threshold": 2,
    }
    return rule(**base | {"grouping": "sample"} | fields)


def silent(**fields: Any) -> RuleVersion:
    """An instance samples no breaker any more."""
    return rule(kind="absence", metric="sample:breaker", grouping="sample", **{"window": "2m"} | fields)


def frame(
    samples: Sequence[Sample], begins_at: int = 0, name: str = "breaker", **fields: Any
) -> pl.DataFrame:
    """Samples as they are read from the topic."""
    rows = [
        {
            "service": "chat", "instance": instance, "name": name, "value": float(value),
            "occurred_at": minute(at), "imported": False, "_offset": begins_at + place, **fields,
        }
        for place, (at, instance, value) in enumerate(samples)
    ]  # fmt: skip
    kinds = {
        "service": pl.String, "instance": pl.String, "name": pl.String, "value": pl.Float64,
        "occurred_at": pl.Int64, "imported": pl.Boolean, "_offset": pl.Int64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=kinds).with_columns(pl.col("occurred_at").cast(pl.Datetime("us", "UTC")))


def run(samples: Sequence[Sample], *rules: RuleVersion, now: Micros | None = None) -> Judged:
    last = minute(max(at for at, _, _ in samples))
    return Sampling(0, rules).take(frame(samples), last if now is None else now)


def instances(judged: Judged) -> list[tuple[Any, ...]]:
    return [(group[9:], *rest) for _, group, *rest in told(judged.alerts)]


def test_the_latest_value_of_each_instance_decides() -> None:
    found = run([(1, "a", 0), (1, "b", 2), (2, "a", 1), (3, "a", 2), (3, "b", 2), (4, "b", 0)], breaker())
    assert instances(found) == [("b", "firing", 1, 1), ("a", "firing", 1, 3), ("b", "resolved", 2, 4)]
    first = found.alerts[0]
    assert (first["value"], first["grouping"], first["group"]) == (
        2,
        "sample",
        ["service=chat", "instance=b"],
    )
    assert first["sources"] == ["chat.samples/0/1-1"]


def test_what_is_another_state_imported_or_filtered_out_is_not_judged() -> None:
    sampling = Sampling(0, [breaker(filter={"instance": "a*"})])
    others = [
        frame([(1, "a", 2)], 0, "queue_depth"),
        frame([(1, "a", 2)], 1, imported=True),
        frame([(1, "b", 2)], 2),
    ]
    assert sampling.take(pl.concat(others), minute(1)).alerts == []
    assert len(sampling.take(frame([(1, "a1", 2)], 3), minute(1)).alerts) == 1


def test_consecutive_samples_and_those_that_come_late() -> None:
    found = run([(1, "a", 2), (2, "a", 2), (1.5, "a", 0), (2, "a", 0), (3, "a", 2)], breaker(consecutive=3))
    assert instances(found) == [("a", "pending", 1, 1), ("a", "firing", 2, 3)]


def test_averages_and_maxima_are_of_the_window() -> None:
    depth = {"metric": "sample:breaker", "window": "2m", "operator": ">"}
    samples = [(1, "a", 10), (1.5, "a", 20), (2, "a", 60), (2.5, "a", 40), (4, "a", 0), (4.6, "a", 0)]
    average = run(samples, breaker(**depth, aggregation="avg", threshold=30))
    assert instances(average) == [("a", "firing", 1, 2.5), ("a", "resolved", 2, 4)]
    assert average.alerts[0]["value"] == pytest.approx(32.5)
    greatest = run(samples, breaker(**depth, aggregation="max", threshold=30))
    assert instances(greatest) == [("a", "firing", 1, 2), ("a", "resolved", 2, 4.6)]


def test_a_share_of_capacity() -> None:
    full = breaker(kind="capacity", capacity=100, threshold="80 %", metric="sample:breaker")
    assert [a["value"] for a in run([(1, "a", 70), (2, "a", 90)], full).alerts] == [0.9]


@pytest.mark.parametrize(
    ("no_data", "expected"),
    [
        ("keep", [("b", "firing", 1, 1)]),
        ("ok", [("b", "firing", 1, 1), ("b", "resolved", 2, 6)]),
        ("alert", [("b", "firing", 1, 1), ("c", "firing", 1, 6)]),
    ],
)
def test_an_instance_that_falls_silent_while_others_go_on(no_data: str, expected: list[Any]) -> None:
    samples = [(1, "b", 2), (1, "c", 0), *((float(n), "a", 0) for n in range(2, 8))]
    assert instances(run(samples, breaker(no_data=no_data))) == expected


def test_when_nothing_comes_at_all_the_clock_tells_after_some_patience() -> None:
    sampling = Sampling(0, [silent()])
    sampling.take(frame([(1, "a", 0)]), minute(1))
    assert sampling.tick(minute(2.9)).alerts == []
    assert instances(sampling.tick(minute(3.5))) == [("a", "firing", 1, 3)]
    assert instances(sampling.take(frame([(9, "a", 0)], 1), minute(9))) == [("a", "resolved", 2, 9)]


def test_who_has_just_begun_doesnt_take_what_is_still_unread_for_silence() -> None:
    absence = silent()
    entries = Sampling(0, [absence]).take(frame([(1, "a", 0)]), minute(1)).entries
    again = restored(entries, absence)
    assert again.tick(minute(30)).alerts == []
    assert again.take(frame([(29.5, "a", 0)], 1), minute(30) + 30 * SECOND).alerts == []
    assert again.tick(minute(31)).alerts == []


def test_an_instance_that_has_been_gone_for_long_is_given_up() -> None:
    gone = silent()
    sampling = Sampling(0, [gone], Limits(forget_after=HOUR))
    sampling.take(frame([(1, "a", 0)]), minute(1))
    assert instances(sampling.tick(minute(5))) == [("a", "firing", 1, 3)]
    assert [a["state"] for a in sampling.tick(minute(62)).alerts] == ["resolved"]
    assert sampling.tick(minute(90)).alerts == []


def test_samples_that_come_too_late_fire_nothing() -> None:
    found = run([(1, "a", 2), (2, "a", 2), (12, "a", 2)], breaker(), now=minute(13))
    assert instances(found) == [("a", "firing", 1, 12)]


def test_a_baseline_of_a_sampled_state() -> None:
    usual = breaker(kind="baseline", metric="sample:breaker", threshold=3, operator=">", minimum_samples=2)
    sampling = Sampling(0, [usual])
    sampling.tick(minute(1))
    [question] = sampling.wanted(minute(1))
    keys = {"service": "chat", "instance": "a"}
    slots = range(question.start, question.until, 5 * MINUTE)
    rows = [keys | {"slot_start": slot, "mean": 10.0, "std": 1.0, "samples": 9} for slot in slots]
    sampling.set_reference("r", question.start, question.until, pl.DataFrame(rows))
    assert sampling.wanted(minute(1)) == []
    found = sampling.take(frame([(1, "a", 12), (2, "a", 14), (2, "b", 99)]), minute(2))
    assert instances(found) == [("a", "firing", 1, 2)]
    assert found.alerts[0]["value"] == 4


def test_what_was_evaluated_is_said_once_a_minute() -> None:
    found = run([(n / 4, instance, 2) for n in range(1, 13) for instance in "ab"], breaker())
    said = [d for d in found.decisions if d["what"] == "evaluated"]
    assert [(d["groups"], d["violating"]) for d in said] == [(2, 2)] * 3


def restored(entries: Mapping[bytes, bytes | None], *rules: RuleVersion) -> Sampling:
    sampling = Sampling(0, rules)
    sampling.restore({key: entry for key, entry in entries.items() if entry is not None})
    return sampling


def test_alerts_of_a_rule_that_is_gone_resolve_and_its_state_goes_after_it() -> None:
    sampling = Sampling(0, [breaker()])
    entries = sampling.take(frame([(1, "a", 2)]), minute(1)).entries
    for other in (sampling, restored(entries)):
        other.outbox()
        other.set_rules([])
        gone = other.tick(minute(2))
        assert [a["state"] for a in gone.alerts] == ["resolved"]
        assert other.tick(minute(3)).entries == {b"r": None}
        assert not other.tick(minute(4))


def test_a_rule_that_changes_goes_on_with_its_alerts() -> None:
    sampling = Sampling(0, [breaker()])
    fired = sampling.take(frame([(1, "a", 2), (1, "b", 2)]), minute(1))
    sampling.set_rules([breaker(threshold=3, filter={"instance": "a"}, revision=2)])
    assert instances(sampling.tick(minute(1))) == [("b", "resolved", 2, 1)]
    [alert] = sampling.take(frame([(2, "a", 2)], 2), minute(2)).alerts
    assert (alert["state"], alert["alert_id"]) == ("resolved", fired.alerts[0]["alert_id"])


def test_many_instances_that_are_well_cost_little_state() -> None:
    sampling = Sampling(0, [breaker()])
    samples = [(minute_ / 6, f"i{n:03}", 0.0) for minute_ in range(1, 7) for n in range(500)]
    written = sampling.take(frame(samples), minute(1))
    assert sum(len(entry or b"") for entry in written.entries.values()) < 30_000
    assert sampling.take(frame([(1.1, "i000", 0)], 3000), minute(1.1)).entries == {}, "not at every step"


RULES = [
    breaker(id="last"),
    breaker(id="three", consecutive=3, no_data="alert", window="2m"),
    breaker(id="ok", no_data="ok", window="1m"),
    breaker(id="mean", aggregation="avg", window="2m", threshold=1),
    silent(id="gone", window="1m"),
]
LIMITS = Limits(patience=DAY, too_late=DAY)
SAMPLES = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.25, 0.5, 2.0, -0.25]), st.sampled_from("ab"), st.sampled_from([0.0, 1.0, 2.0])
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    SAMPLES,
    st.lists(st.tuples(st.integers(1, 8), st.sampled_from(["", "lost", "unsent", "again"])), max_size=12),
)
def test_however_the_log_is_read_the_same_is_told(
    steps: list[Sample], fetches: list[tuple[int, str]]
) -> None:
    at, log = 0.0, []
    for ahead, instance, value in steps:
        at = at + ahead
        log.append((max(at, 0.0), instance, value))
    now = minute(120)
    whole = Sampling(0, RULES, LIMITS).take(frame(log), now).alerts

    entries: dict[bytes, bytes | None] = {}
    sent: list[Mapping[str, Any]] = []
    sampling, place, committed = Sampling(0, RULES, LIMITS), 0, 0
    for count, fate in [*fetches, (len(log), "")]:
        fetch = frame(log[place : place + count], place)
        judged = sampling.take(fetch, now, committed, place + count - 1)
        place = min(place + count, len(log))
        if fate != "lost":
            entries |= judged.entries
        if fate in ("", "again"):
            sent += judged.alerts
            committed = max(committed, place)
        if fate:
            sampling = Sampling(0, RULES, LIMITS)
            sampling.restore({key: entry for key, entry in entries.items() if entry is not None})
            sent += sampling.outbox().alerts
            place = sampling.reading_from(committed)
    if place < len(log):
        sent += sampling.take(frame(log[place:], place), now, committed).alerts

    said = {(a["alert_id"], a["transition"]): a["state"] for a in sent}
    assert said == {(a["alert_id"], a["transition"]): a["state"] for a in whole}
    assert len({(a["alert_id"], a["transition"]) for a in whole}) == len(whole)
