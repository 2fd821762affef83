"""What rules come to when panes close: when an alert fires, when it doesn't, and what is said about it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from schemas.codec import Codec
from schemas.contract import schema
from schemas.time import DAY, HOUR, MINUTE, SECOND, Micros
from streams.alerts.judge import Judge
from streams.alerts.judged import Judged, RuleVersion
from streams.alerts.limits import Limits
from streams.counting.announce import target
from tests.streams.alerts.closed_panes import NOON, Topic, minute, rule, told


def judge_of(*rules: RuleVersion, limits: Limits | None = None) -> Judge:
    return Judge(0, 1, rules, limits)


def whats(judged: Judged) -> list[str]:
    return [decision["what"] for decision in judged.decisions]


def run(topic: Topic, *rules: RuleVersion, now: Micros | None = None) -> Judged:
    """All of the topic in one fetch, a moment after its last pane."""
    last = max(record.watermark for record in topic.records)
    return judge_of(*rules).take(topic.records, last + SECOND if now is None else now)


def minutes(*requests: int, partitions: int = 1, **fields: Any) -> Topic:
    """Minutes of the total with so many requests; none for 0."""
    topic = Topic(partitions=partitions)
    for n, count in enumerate(requests, 1):
        topic.close(minute(n), {(): {"requests": count} | fields} if count else {})
    return topic


# Firing and resolving


def test_an_alert_fires_with_the_first_pane_over_the_threshold_and_resolves_with_the_first_that_is_not() -> (
    None
):
    assert told(run(minutes(5, 20, 30, 5), rule()).alerts) == [("firing", 1, 2), ("resolved", 2, 4)]


def test_an_alert_says_what_it_rests_on() -> None:
    topic = Topic(partitions=2)
    topic.share(minute(1), {"a": {"requests": 20, "errors": 5}}, grouping="service", since=3, offset=60)
    topic.share(minute(1), {"a": {"requests": 5}}, grouping="service", partition=1, since=9, offset=12)
    for partition in (0, 1):
        topic.heartbeat(minute(1), partition)
    errors = rule(
        id="errors", name="Errors", metric="errors", aggregation="ratio", threshold="10 %",
        grouping="service", labels={"team": "chat"}, revision=4,
    )  # fmt: skip
    [alert] = run(topic, errors).alerts
    shown = ["rule_revision", "labels", "group", "unit", "value", "threshold", "requests", "parts"]
    assert [alert[name] for name in shown] == [4, ["team=chat"], ["service=a"], "ratio", 0.2, 0.1, 25, 2]
    assert alert["sources"] == ["chat.requests/0/3-60", "chat.requests/1/9-12"]
    assert (alert["window_start"], alert["window_end"]) == (minute(0), minute(1))
    assert alert["summary"] == "Errors, service=a: errors (ratio) 20 % in 1m (alert when over 10 %)"


def test_what_is_said_are_records_of_the_contract() -> None:
    judged = run(minutes(20, 0, 5), rule())
    for record, name in [
        *((a, "Alert") for a in judged.alerts),
        *((d, "Decision") for d in judged.decisions),
    ]:
        codec = Codec(schema(name))
        assert codec.decode(codec.encode(record)).keys() >= record.keys()


def test_every_pane_is_a_decision_with_the_figure() -> None:
    judged = run(minutes(5, 20, 0), rule())
    assert whats(judged) == ["evaluated", "evaluated", "firing", "no-data"]
    assert [d["value"] for d in judged.decisions] == [5, 20, 20, None]
    assert len({d["decision_id"] for d in judged.decisions}) == 4


def test_windows_of_several_panes_slide() -> None:
    judged = run(minutes(5, 5, 5, 5, 1, 1), rule(window="3m", threshold=14))
    assert told(judged.alerts) == [("firing", 1, 3), ("resolved", 2, 5)]


def test_panes_of_a_second_are_judged_each_second() -> None:
    topic = Topic()
    for second in range(1, 8):
        topic.close(NOON + second * SECOND, {(): {"requests": 4 if second > 3 else 1}}, pane="1s")
    judged = run(topic, rule(pane="1s", window="2s", threshold=7))
    assert [a["changed_at"] - NOON for a in judged.alerts] == [5 * SECOND]


def test_groups_have_alerts_of_their_own_and_the_filter_says_which() -> None:
    topic = Topic()
    topic.close(
        minute(1), {"a1": {"requests": 20}, "a2": {"requests": 5}, "b": {"requests": 30}}, grouping="space"
    )
    judged = run(topic, rule(grouping="space", filter={"space_id": ["a*"]}))
    assert told(judged.alerts) == [("space_id=a1", "firing", 1, 1)]
    assert (judged.decisions[0]["groups"], judged.decisions[0]["violating"]) == (2, 1)


def test_the_total_is_judged_by_the_one_partition_where_its_shares_meet() -> None:
    topic = minutes(20)
    fired = [len(Judge(p, 8, [rule()]).take(topic.records, minute(1)).alerts) for p in range(8)]
    assert fired == [int(p == target("total", (), 8)) for p in range(8)]


def test_a_thousand_groups_at_once_are_a_thousand_alerts() -> None:
    topic = Topic()
    topic.close(minute(1), {f"s{n:04}": {"requests": 20} for n in range(1000)}, grouping="space")
    topic.close(minute(2), {f"s{n:04}": {"requests": 1} for n in range(1000)}, grouping="space")
    judged = run(topic, rule(grouping="space"))
    assert len({a["alert_id"] for a in judged.alerts}) == 1000
    assert [a["state"] for a in judged.alerts] == ["firing"] * 1000 + ["resolved"] * 1000
    assert sum(len(entry or b"") for entry in judged.entries.values()) < 500_000


def test_more_groups_than_are_kept_are_counted_and_said() -> None:
    topic = Topic()
    topic.close(minute(1), {f"s{n}": {"requests": 20} for n in range(9)}, grouping="space")
    judge = judge_of(rule(grouping="space"), limits=Limits(most_groups=5))
    judged = judge.take(topic.records, minute(1))
    assert len(judged.alerts) == 5
    assert judge.forgotten == 4
    assert "4 of them make no alert" in judged.decisions[0]["reason"]


def test_too_few_requests_leave_the_alert_as_it_is() -> None:
    busy = rule(metric="errors", aggregation="ratio", threshold="10 %", minimum_requests=10)
    topic = Topic()
    for n, (requests, errors) in enumerate([(9, 9), (20, 9), (5, 0), (20, 0)], 1):
        topic.close(minute(n), {(): {"requests": requests, "errors": errors}})
    judged = run(topic, busy)
    assert told(judged.alerts) == [("firing", 1, 2), ("resolved", 2, 4)]
    assert whats(judged).count("too-few-requests") == 2


# No data


@pytest.mark.parametrize(
    ("no_data", "expected"),
    [
        ("keep", [("firing", 1, 2), ("resolved", 2, 6)]),
        ("ok", [("firing", 1, 2), ("resolved", 2, 3)]),
        ("alert", [("firing", 1, 2), ("resolved", 2, 6), ("firing", 1, 7)]),
    ],
)
def test_what_no_data_means_is_the_rules_to_say(no_data: str, expected: list[Any]) -> None:
    judged = run(minutes(5, 20, 0, 0, 20, 5, 0), rule(no_data=no_data))
    kept = [("firing", 1, 5)] if no_data == "ok" else []
    resolved = [("resolved", 2, 6)] if no_data == "ok" else []
    assert told(judged.alerts) == expected + kept + resolved


def test_an_empty_pane_is_no_zero() -> None:
    judged = run(minutes(50, 0, 0), rule(operator="<", threshold=10))
    assert judged.alerts == []
    assert whats(judged) == ["evaluated", "no-data", "no-data"]


def test_a_latency_that_nobody_reports_is_no_data() -> None:
    slow = rule(metric="latency", aggregation="p95", threshold="5 s")
    topic = Topic()
    topic.close(minute(1), {(): {"requests": 3, "total_us": [6_000_000] * 3}})
    topic.close(minute(2), {(): {"requests": 3}})
    judged = run(topic, slow)
    assert told(judged.alerts) == [("firing", 1, 1)]
    assert judged.alerts[0]["value"] == pytest.approx(6_000, rel=0.01)
    assert whats(judged)[-1] == "no-data"


def test_absence_fires_for_groups_that_had_data_and_were_busy_enough() -> None:
    topic = Topic()
    for n in range(1, 7):
        busy = (
            {"a": {"requests": 9}, "b": {"requests": 1}}
            if n < 3
            else {"a": {"requests": 9}}
            if n == 6
            else {}
        )
        topic.close(minute(n), busy, grouping="service")
    judged = run(topic, rule(kind="absence", grouping="service", window="2m", minimum_requests=10))
    assert told(judged.alerts) == [("service=a", "firing", 1, 4), ("service=a", "resolved", 2, 6)]


def test_nothing_is_missed_that_was_never_there() -> None:
    assert (
        run(minutes(0, 0, 0), rule(kind="absence", window="1m"), rule(id="n", no_data="alert")).alerts == []
    )


def test_a_group_that_has_been_gone_for_a_day_is_given_up() -> None:
    judge = judge_of(rule(kind="absence", window="1m"), limits=Limits(forget_after=HOUR, too_late=DAY))
    topic = minutes(5)
    topic.heartbeat(minute(200))
    judged = judge.take(topic.records, minute(200))
    assert told(judged.alerts) == [("firing", 1, 2), ("resolved", 2, 62)]


def test_a_watchdog_is_told_again_as_long_as_panes_are_judged() -> None:
    topic = minutes(*[1] * 12)
    watchdog = rule(id="w", kind="watchdog", repeat_interval="5m")
    judged = run(topic, watchdog, now=minute(10))
    assert told(judged.alerts) == [("firing", 1, 1), ("firing", 2, 6), ("firing", 3, 11)]
    assert len({a["alert_id"] for a in judged.alerts}) == 1
    judge = judge_of(watchdog)
    judge.take(topic.records, minute(12))
    assert judge.tick(minute(30)).alerts == [], "no pane closes any more"


# Coverage


def behind(*requests: int) -> Topic:
    """Two partitions, of which the second closes only the first minute."""
    topic = Topic(partitions=2)
    for n, count in enumerate(requests, 1):
        if count:
            topic.share(minute(n), {(): {"requests": count}})
        topic.heartbeat(minute(n), 0)
        if n == 1:
            topic.heartbeat(minute(n), 1)
    return topic


def patient(topic: Topic, *rules: RuleVersion) -> tuple[Judge, Judged]:
    judge = judge_of(*rules)
    judge.take(topic.records, minute(5))
    return judge, judge.tick(minute(5) + 59 * SECOND)


def test_a_pane_waits_for_all_partitions_but_not_for_ever() -> None:
    judge, judged = patient(behind(5, 20), rule())
    assert not judged
    [alert] = judge.tick(minute(6)).alerts
    assert (alert["state"], alert["parts"], alert["parts_expected"]) == ("firing", 1, 2)
    assert "1 of 2 partitions are missing" in alert["summary"]


def test_a_part_of_the_traffic_never_resolves_and_never_fires_for_too_little() -> None:
    rules = [
        rule(id="over"),
        rule(id="under", operator="<", threshold=3),
        rule(id="none", no_data="alert", threshold=100),
        rule(id="gone", kind="absence", window="1m"),
        rule(id="watchdog", kind="watchdog"),
    ]
    judge, judged = patient(behind(20, 1, 0), *rules)
    late = judge.tick(minute(6))
    assert judged.alerts == []
    assert late.alerts == []
    assert set(whats(late)) == {"incomplete"}
    assert {d["parts"] for d in late.decisions} == {1}


def test_when_the_partition_catches_up_the_alert_is_corrected_and_judging_goes_on() -> None:
    topic = behind(5, 20)
    judge, _ = patient(topic, rule())
    judge.tick(minute(6))
    before = len(topic.records)
    topic.share(minute(2), {(): {"requests": 9}}, partition=1)
    topic.heartbeat(minute(2), 1)
    [alert] = judge.take(topic.since(before), minute(6)).alerts
    assert (alert["transition"], alert["revision"], alert["value"], alert["parts"]) == (1, 1, 29, 2)
    topic.close(minute(3), {(): {"requests": 1}})
    assert told(judge.take(topic.records, minute(6)).alerts) == [("resolved", 2, 3)]


def test_who_joins_late_fires_for_too_much_but_not_for_what_may_be_missing() -> None:
    topic = Topic(begins_at=1000)
    topic.heartbeat(minute(0))
    for n in range(1, 8):
        topic.close(minute(n), {(): {"requests": 5}})
    judged = run(
        topic, rule(id="under", window="5m", operator="<", threshold=24), rule(window="5m", threshold=14)
    )
    assert told(judged.alerts) == [("firing", 1, 3)]
    said = [d["what"] for d in judged.decisions if d["rule_id"] == "under"]
    assert said == ["incomplete"] * 5 + ["evaluated"] * 3


# Time


def test_panes_that_come_too_late_fire_nothing() -> None:
    topic = minutes(5, 20, 20, 20)
    judged = run(topic, rule(), now=minute(13) + SECOND)
    assert told(judged.alerts) == [("firing", 1, 4)]
    assert whats(judged)[0] == "too-late"


def test_what_was_pending_before_an_outage_is_pending_no_more_and_what_fired_fires_on() -> None:
    topic = minutes(20)
    judge = judge_of(rule(), rule(id="slow", consecutive=2))
    judge.take(topic.records, minute(1))
    topic.close(minute(2), {(): {"requests": 1}})
    topic.heartbeat(minute(39))
    judged = judge.take(topic.records, minute(40))
    assert [(a["rule_id"], a["state"]) for a in judged.alerts] == [("slow", "resolved")]
    topic.close(minute(40), {(): {"requests": 20}})
    assert [(a["rule_id"], a["state"]) for a in judge.take(topic.records, minute(40)).alerts] == [
        ("slow", "pending")
    ]


def test_late_events_correct_the_record_of_an_alert_and_never_fire_into_the_past() -> None:
    topic = minutes(20, 5)
    judge = judge_of(rule())
    first = judge.take(topic.records, minute(2)).alerts
    before = len(topic.records)
    topic.share(minute(1), {(): {"requests": 25}}, revision=1, since=0)
    topic.share(minute(2), {(): {"requests": 50}}, revision=1)
    topic.heartbeat(minute(2))
    judged = judge.take(topic.since(before), minute(2))
    corrected = [
        (a["alert_id"], a["transition"], a["revision"], a["state"], a["value"]) for a in judged.alerts
    ]
    name = first[0]["alert_id"]
    assert corrected == [(name, 2, 1, "resolved", 50)], "its latest transition, which stays one"
    assert whats(judged) == ["corrected"]
    assert "corrected by late events" in judged.alerts[0]["summary"]
    assert not judge.take(topic.records, minute(2)), "the same again corrects nothing"


def test_what_an_open_alert_says_is_corrected_too_and_kept() -> None:
    topic = minutes(20)
    judge = judge_of(rule())
    first = judge.take(topic.records, minute(1))
    topic.share(minute(1), {(): {"requests": 25}}, revision=1)
    topic.heartbeat(minute(1))
    judged = judge.take(topic.records, minute(1))
    assert [(a["revision"], a["value"]) for a in judged.alerts] == [(1, 25)]
    again = restored(judged.entries, rule())
    assert again.outbox().alerts == judged.alerts
    topic.share(minute(1), {(): {"requests": 30}}, revision=2)
    topic.heartbeat(minute(1))
    again.reading_from(len(topic.records))
    assert [(a["revision"], a["value"]) for a in again.take(topic.records, minute(1)).alerts] == [(2, 30)]
    assert first.alerts[0]["revision"] == 0


def test_a_correction_that_comes_when_all_is_forgotten_is_counted() -> None:
    topic = minutes(20, *[5] * 29)
    judge = judge_of(rule(), limits=Limits(too_late=DAY))
    judge.take(topic.records, minute(30))
    topic.share(minute(1), {(): {"requests": 25}}, revision=1)
    topic.heartbeat(minute(30))
    assert not judge.take(topic.records, minute(30))
    assert judge.forgotten == 1


# Rules that come, change and go


def restored(entries: Mapping[bytes, bytes | None], *rules: RuleVersion) -> Judge:
    judge = judge_of(*rules)
    judge.restore({key: entry for key, entry in entries.items() if entry is not None})
    return judge


@pytest.mark.parametrize("after", [[], [rule(enabled=False)]], ids=["deleted", "disabled"])
def test_alerts_of_a_rule_that_is_gone_resolve_and_its_state_goes_after_it(
    after: Sequence[RuleVersion],
) -> None:
    judge = judge_of(rule())
    judge.take(minutes(20).records, minute(1))
    judge.set_rules(after)
    judged = judge.tick(minute(1) + SECOND)
    assert told(judged.alerts) == [("resolved", 2, 1)]
    assert "the rule is gone" in judged.alerts[0]["summary"]
    assert judged.entries[b"r"] is not None
    assert judge.tick(minute(1) + 2 * SECOND).entries == {b"r": None}
    assert not judge.tick(minute(1) + 3 * SECOND)


def test_a_rule_that_went_while_nobody_judged_resolves_as_well() -> None:
    fired = judge_of(rule()).take(minutes(20).records, minute(1))
    judge = restored(fired.entries)
    assert [a["state"] for a in judge.outbox().alerts] == ["firing"]
    judged = judge.tick(minute(5))
    assert told(judged.alerts) == [("resolved", 2, 1)]
    ended = restored(judged.entries)
    assert ended.outbox().alerts == judged.alerts
    assert ended.tick(minute(6)).entries == {b"r": None}


def test_an_open_alert_goes_on_with_the_rules_new_version() -> None:
    topic = minutes(20)
    judge = judge_of(rule())
    first = judge.take(topic.records, minute(1)).alerts[0]
    judge.set_rules([rule(threshold=100, revision=2)])
    topic.close(minute(2), {(): {"requests": 20}})
    [alert] = judge.take(topic.records, minute(2)).alerts
    assert (alert["alert_id"], alert["state"]) == (first["alert_id"], "resolved")
    assert (alert["rule_revision"], alert["threshold"]) == (2, 100)


@pytest.mark.parametrize("change", [{"grouping": "service"}, {"kind": "absence", "window": "1m"}])
def test_a_rule_that_judges_something_else_now_begins_anew(change: dict[str, Any]) -> None:
    judge = judge_of(rule())
    judge.take(minutes(20).records, minute(1))
    fields = change if "kind" in change else {"threshold": 1} | change
    judge.set_rules([rule(revision=2, **fields)])
    assert told(judge.tick(minute(1)).alerts) == [("resolved", 2, 1)]


def test_groups_that_a_rule_is_not_about_any_more_resolve() -> None:
    topic = Topic()
    topic.close(minute(1), {"a": {"requests": 20}, "b": {"requests": 20}}, grouping="space")
    judge = judge_of(rule(grouping="space"))
    judge.take(topic.records, minute(1))
    judge.set_rules([rule(grouping="space", filter={"space_id": "a"}, revision=2)])
    assert told(judge.tick(minute(1)).alerts) == [("space_id=b", "resolved", 2, 1)]


def test_a_new_rule_judges_what_closes_from_now_on() -> None:
    topic = minutes(20, 20)
    judge = judge_of()
    judge.take(topic.records, minute(2))
    judge.set_rules([rule()])
    topic.share(minute(3), {(): {"requests": 20}})
    judge.tick(minute(2))
    topic.heartbeat(minute(3))
    judged = judge.take(topic.records, minute(3))
    assert told(judged.alerts) == [("firing", 1, 3)]


def test_a_new_rule_is_remembered_before_it_has_judged_anything() -> None:
    topic, entries = minutes(5, 5, 5), {}
    rules = [rule(id="old", window="3m", threshold=100), rule()]
    judge = judge_of(rules[0])
    entries |= judge.take(topic.records, minute(3)).entries
    judge.set_rules(rules)
    entries |= judge.tick(minute(3)).entries
    topic.share(minute(4), {(): {"requests": 20}})
    entries |= judge.take(topic.records, minute(4)).entries
    acknowledged = len(topic.records)
    again = restored(entries, *rules)
    again.outbox()
    start = again.reading_from(acknowledged)
    topic.heartbeat(minute(4))
    assert told(again.take(topic.since(start), minute(4), acknowledged).alerts) == [("firing", 1, 4)]


def test_a_rule_with_a_longer_window_doesnt_disturb_the_others() -> None:
    topic = minutes(20, 20, 20)
    judge = judge_of(rule(window="2m", threshold=30))
    judge.take(topic.records, minute(3))
    slow = rule(id="slow", window="10m", metric="latency", aggregation="p99", threshold="5 s")
    judge.set_rules([rule(window="2m", threshold=30), slow])
    topic.close(minute(4), {(): {"requests": 1}})
    topic.close(minute(5), {(): {"requests": 1}})
    assert told(judge.take(topic.records, minute(5)).alerts) == [("resolved", 2, 4)]


# What is read, and from where


def test_state_is_found_again_from_its_entry_and_what_is_read_again() -> None:
    topic = minutes(*[5] * 30, 20, 20)
    rules = [rule(id="window", window="5m", threshold=50), rule(id="two", consecutive=2)]
    judge = judge_of(*rules)
    half = len(topic.records) - 2
    entries = judge.take(topic.records[:half], minute(31)).entries
    again = restored(entries, *rules)
    assert told(again.outbox().alerts) == [("pending", 1, 31)]
    start = again.reading_from(half)
    assert 0 < start < half, "not all of it, and not nothing"
    judged = again.take(topic.since(start), minute(32), committed=half)
    expected = judge.take(topic.records, minute(32))
    assert judged.alerts == expected.alerts
    assert told(judged.alerts) == [("firing", 1, 32), ("firing", 2, 32)]


def test_rows_that_cant_be_read_are_counted_and_judging_goes_on() -> None:
    topic = minutes(20)
    topic.records[0] = replace(topic.records[0], rows=b"nonsense")
    topic.close(minute(2), {(): {"requests": 20}})
    judged = run(topic, rule())
    assert judged.refused == 1
    assert told(judged.alerts) == [("firing", 1, 2)]


def test_rules_that_are_about_nothing_here_cost_no_entry_and_no_decision() -> None:
    judge = judge_of()
    assert not judge.take(minutes(20, 20).records, minute(2))
    assert not judge.tick(minute(3))


def test_memory_holds_what_the_longest_window_and_corrections_need() -> None:
    judge = judge_of(rule(window="5m"), limits=Limits(corrections=3 * MINUTE, too_late=DAY))
    topic = minutes(*[5] * 60)
    judge.take(topic.records, minute(60))
    entry = judge.take([], minute(60)).entries
    assert entry == {}
    topic.close(minute(61), {(): {"requests": 5}})
    again = restored(judge.take(topic.records, minute(61)).entries, rule(window="5m"))
    assert len(topic.records) - again.reading_from(len(topic.records)) <= 2 * 9
