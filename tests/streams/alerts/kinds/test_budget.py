"""Budgets: what was used in a period, each step told once, and the turn of the period."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from schemas.time import DAY, HOUR, MINUTE, SECOND, Micros
from streams.alerts.closed_share import ClosedShare
from streams.alerts.judge import Judge
from streams.alerts.judged import Judged, RuleVersion
from streams.alerts.kinds.budget import BudgetRule
from streams.alerts.kinds.budget.period import period_of
from streams.alerts.limits import Limits
from streams.catalogue.groupings import GROUPINGS
from streams.counting.announce import target
from streams.windows.block import pack_rows, row_schema
from tests.streams.alerts.closed_panes import Topic, minute, rule

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: tzinfo = BERLIN) -> Micros:
    """A moment by the zone's clock."""
    local = datetime.fromisoformat(text).replace(tzinfo=zone)
    return (local - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def budget(**fields: Any) -> RuleVersion:
    """80 % and 100 % of 1000 tokens a day, for each user."""
    base = {"kind": "budget", "metric": "tokens", "grouping": "user", "period": "day", "limit": "1000 tokens"}
    return rule(**base | {"steps": ["80 %", "100 %"]} | fields)


def spent(topic: Topic, end: Micros, **tokens: int) -> None:
    """A minute in which users used so many tokens."""
    groups = {user: {"requests": 1, "prompt_tokens": count} for user, count in tokens.items()}
    topic.close(end, groups, grouping="user")


def steps(judged: Judged) -> list[tuple[Any, ...]]:
    """User, state, number and step of each transition."""
    return [(a["group"][0][8:], a["state"], a["transition"], a["step"]) for a in judged.alerts]


def judge_of(one: RuleVersion, zone: tzinfo = BERLIN, limits: Limits | None = None) -> Judge:
    return Judge(0, 1, [one], limits, zone)


def again(entries: Mapping[bytes, bytes | None], one: RuleVersion, read_to: int) -> tuple[Judge, int]:
    judge = judge_of(one)
    judge.restore({key: entry for key, entry in entries.items() if entry is not None})
    judge.outbox()
    return judge, judge.reading_from(read_to)


def test_80_and_100_percent_are_two_transitions_of_one_alert_also_across_restarts() -> None:
    topic, told, judge, entries = Topic(), [], judge_of(budget()), {}
    noon = at("2026-05-04T12:00")
    for n in range(1, 21):
        spent(topic, noon + n * MINUTE, u=60, v=10)
        judge, start = (judge, 0) if n == 1 else again(entries, budget(), len(topic.records) - 2)
        judged = judge.take(topic.since(start), noon + n * MINUTE, committed=len(topic.records) - 2)
        entries |= judged.entries
        told += judged.alerts
    assert steps(Judged(told)) == [("u", "firing", 1, 0.8), ("u", "firing", 2, 1.0)]
    assert len({alert["alert_id"] for alert in told}) == 1
    assert [alert["value"] for alert in told] == [pytest.approx(0.84), pytest.approx(1.02)]


def test_who_reaches_several_steps_in_a_minute_is_told_of_each() -> None:
    topic = Topic()
    spent(topic, minute(1), u=5000)
    found = judge_of(budget(steps=["50 %", "80 %", "100 %", "120 %"])).take(topic.records, minute(1))
    assert [step for *_, step in steps(found)] == [0.5, 0.8, 1.0, 1.2]


def test_a_step_is_told_once_a_day_and_the_days_turn_in_the_zone_resets_it() -> None:
    topic, judge = Topic(), judge_of(budget())
    evening = at("2026-05-04T23:58")
    for n, tokens in enumerate([900, 200, 10, 850], 1):
        spent(topic, evening + n * MINUTE, u=tokens)
    found = judge.take(topic.records, evening + 4 * MINUTE)
    assert steps(found) == [
        ("u", "firing", 1, 0.8),
        ("u", "firing", 2, 1.0),
        ("u", "resolved", 3, 1.0),
        ("u", "firing", 1, 0.8),
    ]
    ids = [alert["alert_id"] for alert in found.alerts]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert found.alerts[2]["changed_at"] == at("2026-05-05T00:00")
    assert "reset=true" in found.alerts[2]["details"]


@pytest.mark.parametrize(
    ("period", "moment", "start", "end"),
    [
        ("day", "2026-05-04T00:00", "2026-05-04", "2026-05-05"),
        ("day", "2026-05-04T23:59:59", "2026-05-04", "2026-05-05"),
        ("day", "2026-03-29T01:59", "2026-03-29", "2026-03-30"),
        ("day", "2026-03-29T12:00", "2026-03-29", "2026-03-30"),
        ("day", "2026-10-25T23:30", "2026-10-25", "2026-10-26"),
        ("week", "2026-03-29T12:00", "2026-03-23", "2026-03-30"),
        ("week", "2026-03-30T00:00", "2026-03-30", "2026-04-06"),
        ("month", "2026-03-31T23:00", "2026-03-01", "2026-04-01"),
        ("month", "2026-12-31T23:00", "2026-12-01", "2027-01-01"),
    ],
)
def test_periods_follow_the_calendar_of_the_zone(period: str, moment: str, start: str, end: str) -> None:
    one = budget(period=period).rule
    assert isinstance(one, BudgetRule)
    assert period_of(one, at(moment), BERLIN) == (at(start), at(end))


def test_a_budget_may_go_by_the_calendar_of_a_zone_of_its_own() -> None:
    one = budget(period="day", timezone="Asia/Kolkata").rule
    assert isinstance(one, BudgetRule)

    # 22:00 in Berlin is 01:30 of the next day in Kolkata, whose day begins at 20:30 in Berlin.
    assert period_of(one, at("2026-05-04T22:00"), BERLIN) == (at("2026-05-04T20:30"), at("2026-05-05T20:30"))


def test_days_on_which_the_clock_is_put_have_23_and_25_hours() -> None:
    one = budget().rule
    assert isinstance(one, BudgetRule)
    for day, hours in [("2026-03-29", 23), ("2026-10-25", 25), ("2026-05-04", 24)]:
        start, end = period_of(one, at(f"{day}T12:00"), BERLIN)
        assert (end - start) // HOUR == hours


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_a_day_on_which_the_clock_is_put_turns_at_its_own_midnight(day: str) -> None:
    topic, late = Topic(), at(f"{day}T21:58")
    for n in range(1, 4):
        spent(topic, late + n * HOUR, u=450)
    found = judge_of(budget(), limits=Limits(too_late=DAY)).take(topic.records, late + 3 * HOUR)
    assert [(state, step) for _, state, _, step in steps(found)] == [("firing", 0.8), ("resolved", 0.8)]
    midnight = datetime.fromisoformat(day).replace(tzinfo=BERLIN) + timedelta(days=1)
    assert found.alerts[1]["changed_at"] == int(midnight.timestamp()) * SECOND


def test_an_alert_tells_the_burn_rate_and_when_the_limit_is_reached() -> None:
    topic, noon = Topic(), at("2026-05-04T12:00")
    for n in range(1, 81):
        spent(topic, noon + n * MINUTE, u=10)
    [alert] = judge_of(budget()).take(topic.records, noon + 80 * MINUTE).alerts
    details = dict(detail.split("=") for detail in alert["details"])
    assert (details["spent"], details["limit"]) == ("800", "1000")
    assert float(details["burn_per_hour"]) == pytest.approx(600)
    assert float(details["even_per_hour"]) == pytest.approx(1000 / 24, rel=1e-5)
    assert details["exhausted_at"] == "2026-05-04T11:40:00Z"
    assert "80 % reached; at this rate all of it by 2026-05-04T11:40:00Z" in alert["summary"]
    assert alert["requests"] == 80


def test_late_events_count_once_and_never_fire_into_the_past() -> None:
    topic, judge, noon = Topic(), judge_of(budget()), at("2026-05-04T12:00")
    spent(topic, noon + MINUTE, u=700)
    judge.take(topic.records, noon + MINUTE)
    for revision in (1, 2, 2):
        late = {"u": {"requests": 2, "prompt_tokens": 700 + 100 * revision}}
        topic.share(noon + MINUTE, late, grouping="user", revision=revision, offset=50)
        topic.heartbeat(noon + MINUTE, table="chat.usage")
    corrected = judge.take(topic.records, noon + MINUTE)
    assert corrected.alerts == []
    assert corrected.entries, "what was corrected is written"
    spent(topic, noon + 2 * MINUTE, u=1)
    [alert] = judge.take(topic.records, noon + 2 * MINUTE).alerts
    assert (alert["value"], alert["changed_at"]) == (pytest.approx(0.901), noon + 2 * MINUTE)


def history(topic: str = "user_id", **tokens: int) -> pl.DataFrame:
    """What ClickHouse says was used."""
    rows = [{topic: user, "at": 0, "requests": 3, "prompt_tokens": count} for user, count in tokens.items()]
    zeros = dict.fromkeys(GROUPINGS["user"].sums, 0)
    return pl.DataFrame([zeros | row for row in rows], schema_overrides={topic: pl.String})


def joined_late() -> tuple[Topic, Judge, Micros]:
    """A budget that is new at noon, in a system that has been running."""
    noon = at("2026-05-04T12:00")
    topic = Topic(begins_at=5000)
    topic.heartbeat(noon, table="chat.usage")
    judge = judge_of(budget())
    spent(topic, noon + MINUTE, u=300, v=900)
    return topic, judge, noon


def test_a_new_budget_asks_what_was_used_before_and_counts_nothing_twice() -> None:
    topic, judge, noon = joined_late()
    first = judge.take(topic.records, noon + MINUTE)
    assert steps(first) == [("v", "firing", 1, 0.8)], "what is counted is enough in any case"
    assert "history=missing" in first.alerts[0]["details"]
    assert "at least" in first.alerts[0]["summary"]
    assert [d["what"] for d in first.decisions] == ["incomplete", "firing"]
    [question] = judge.wanted(noon + MINUTE)
    assert (question.what, question.start, question.until) == ("spent", at("2026-05-04"), noon)

    judge.set_spent("r", question.start, question.until, history(u=600, w=950))
    assert judge.wanted(noon + MINUTE) == []
    judge.set_spent("r", question.start, question.until, history(u=600, w=950))
    spent(topic, noon + 2 * MINUTE, u=1)
    found = judge.take(topic.records, noon + 2 * MINUTE)
    assert sorted(steps(found)) == [("u", "firing", 1, 0.8), ("w", "firing", 1, 0.8)]
    assert sorted(a["value"] for a in found.alerts) == pytest.approx([0.901, 0.95])
    assert found.decisions[0]["what"] == "evaluated"


def test_what_was_answered_is_kept_across_a_restart_and_what_was_not_is_asked_again() -> None:
    topic, judge, noon = joined_late()
    entries = judge.take(topic.records, noon + MINUTE).entries
    fresh, _ = again(entries, budget(), 5003)
    fresh.tick(noon + MINUTE)
    assert [q.until for q in fresh.wanted(noon)] == [noon]
    fresh.set_spent("r", at("2026-05-04"), noon, history(u=600))
    spent(topic, noon + 2 * MINUTE, u=1)
    entries = fresh.take(topic.records, noon + 2 * MINUTE).entries
    last, _ = again(entries, budget(), 5005)
    last.tick(noon + 2 * MINUTE)
    assert last.wanted(noon) == []
    spent(topic, noon + 3 * MINUTE, u=100)
    [alert] = last.take(topic.records, noon + 3 * MINUTE).alerts
    assert (alert["transition"], alert["step"], alert["value"]) == (2, 1.0, pytest.approx(1.001))


def test_history_of_all_groups_is_cut_to_those_of_the_partition() -> None:
    noon = at("2026-05-04T12:00")
    topic = Topic(begins_at=5000)
    topic.heartbeat(noon, table="chat.usage")
    topic.heartbeat(noon + MINUTE, table="chat.usage")
    told = []
    for partition in range(4):
        judge = Judge(partition, 4, [budget()], zone=BERLIN)
        judge.take(topic.records, noon + MINUTE)
        judge.set_spent("r", at("2026-05-04"), noon, history(**{f"u{n}": 900 for n in range(20)}))
        judged = judge.take([ClosedShare(5002, "chat.usage", 0, 1, noon + 2 * MINUTE, 0)], noon + 2 * MINUTE)
        users = [a["group"][0][8:] for a in judged.alerts]
        assert {target("user", (user,), 4) for user in users} <= {partition}
        told += users
    assert sorted(told) == sorted(f"u{n}" for n in range(20))


def test_an_answer_to_another_question_is_left() -> None:
    topic, judge, noon = joined_late()
    judge.take(topic.records, noon + MINUTE)
    judge.set_spent("r", at("2026-05-04"), noon + MINUTE, history(u=600))
    judge.set_spent("other", at("2026-05-04"), noon, history(u=600))
    assert len(judge.wanted(noon)) == 1


def test_minutes_that_are_missed_are_asked_of_history() -> None:
    noon = at("2026-05-04T12:00")
    topic = Topic()
    spent(topic, noon + MINUTE, u=500)
    entries = judge_of(budget()).take(topic.records, noon + MINUTE).entries
    later = Topic(begins_at=9000)  # what was to be read again is gone
    later.heartbeat(noon + 180 * MINUTE, table="chat.usage")
    spent(later, noon + 181 * MINUTE, u=100)
    judge, start = again(entries, budget(), 9000)
    assert start < 9000
    assert judge.take(later.records, noon + 181 * MINUTE).alerts == []
    [question] = judge.wanted(noon)
    assert (question.start, question.until) == (at("2026-05-04"), noon + 180 * MINUTE)
    judge.set_spent("r", question.start, question.until, history(u=800))
    spent(later, noon + 182 * MINUTE, u=1)
    found = judge.take(later.records, noon + 182 * MINUTE)
    assert [a["value"] for a in found.alerts] == [pytest.approx(0.901)]


def test_panes_that_come_too_late_count_and_the_next_one_tells() -> None:
    topic, noon = Topic(), at("2026-05-04T12:00")
    spent(topic, noon + MINUTE, u=900)
    judge = judge_of(budget())
    found = judge.take(topic.records, noon + HOUR)
    assert found.alerts == []
    assert [d["what"] for d in found.decisions] == ["too-late"]
    spent(topic, noon + HOUR, u=1)
    assert steps(judge.take(topic.records, noon + HOUR)) == [("u", "firing", 1, 0.8)]


def test_a_rolling_budget_forgets_what_is_older_than_its_span() -> None:
    topic, noon = Topic(), at("2026-05-04T12:00")
    judge = judge_of(budget(period="1h"), limits=Limits(too_late=DAY))
    for quarter in range(8):
        spent(topic, noon + quarter * 15 * MINUTE + MINUTE, u=210 if quarter < 4 else 30)
    found = judge.take(topic.records, noon + 2 * HOUR)
    assert steps(found) == [("u", "firing", 1, 0.8), ("u", "resolved", 2, 0.8)]
    assert found.alerts[1]["value"] == pytest.approx(0.66), "well under the step: near it, it would flap"
    spent(topic, noon + 2 * HOUR, u=900)
    after = judge.take(topic.records, noon + 2 * HOUR)
    assert steps(after) == [("u", "firing", 1, 0.8), ("u", "firing", 2, 1.0)]
    assert after.alerts[0]["alert_id"] != found.alerts[0]["alert_id"]


def test_a_rolling_budget_takes_up_history_by_its_slots() -> None:
    topic, judge, noon = joined_late()
    judge = judge_of(budget(period="2h"))
    judge.take(topic.records, noon + MINUTE)
    [question] = judge.wanted(noon)
    assert (question.start, question.until, question.step) == (noon - 2 * HOUR, noon, 15 * MINUTE)
    before = history(u=600).with_columns(at=pl.lit(noon - HOUR))
    judge.set_spent("r", question.start, question.until, before)
    spent(topic, noon + 2 * MINUTE, u=1)
    [alert] = judge.take(topic.records, noon + 2 * MINUTE).alerts
    assert alert["value"] == pytest.approx(0.901)


def test_a_budget_of_costs_is_at_least_what_could_be_priced() -> None:
    topic = Topic()
    groups = {("openai", "m"): {"requests": 3, "unpriced": 1, "cost_nano_usd": 9 * 10**9}}
    topic.close(minute(1), groups, grouping="model")
    costs = budget(metric="cost", grouping="model", limit="10 USD", steps=["90 %"])
    [alert] = judge_of(costs).take(topic.records, minute(1)).alerts
    assert "unpriced=1" in alert["details"]
    assert "at least 9 USD of 10 USD used" in alert["summary"]


def test_a_new_limit_holds_at_once_and_another_metric_begins_anew() -> None:
    topic = Topic()
    spent(topic, minute(1), u=900)
    judge = judge_of(budget())
    judge.take(topic.records, minute(1))
    judge.set_rules([budget(limit="2000 tokens", revision=2)])
    assert steps(judge.tick(minute(1))) == [("u", "resolved", 2, 0.8)]
    spent(topic, minute(2), u=800)
    assert steps(judge.take(topic.records, minute(2))) == [("u", "firing", 3, 0.8)]
    judge.set_rules([budget(metric="completion_tokens", revision=3)])
    assert steps(judge.tick(minute(2))) == [("u", "resolved", 4, 0.8)]
    spent(topic, minute(3), u=5000)
    assert judge.take(topic.records, minute(3)).alerts == []


def test_alerts_of_a_budget_that_is_gone_resolve() -> None:
    topic = Topic()
    spent(topic, minute(1), u=900, v=1)
    judge = judge_of(budget())
    judge.take(topic.records, minute(1))
    judge.set_rules([])
    assert steps(judge.tick(minute(1) + SECOND)) == [("u", "resolved", 2, 0.8)]


def test_of_too_many_that_reach_a_step_at_once_the_rest_are_told_next() -> None:
    topic = Topic()
    spent(topic, minute(1), **{f"u{n}": 900 for n in range(7)})
    judge = judge_of(budget(), limits=Limits(most_groups=5))
    assert len(judge.take(topic.records, minute(1)).alerts) == 5
    spent(topic, minute(2), u0=1)
    assert len(judge.take(topic.records, minute(2)).alerts) == 2


@pytest.mark.slow
def test_a_hundred_thousand_users_are_counted_in_columns() -> None:
    users, judge = 100_000, judge_of(budget(limit="1M tokens"))
    chance = np.random.default_rng(5)
    kind = GROUPINGS["user"]
    took = []
    for n in (1, 2, 3):
        columns = {"user_id": pa.array([f"user-{each:06}" for each in range(users)])}
        columns |= {name: pa.array(chance.integers(0, 2000, users)) for name in kind.sums}
        rows = pack_rows(pa.table(columns, schema=row_schema(kind)))
        share = ClosedShare(
            2 * n, "chat.usage", 0, 1, minute(n), n, "1m", minute(n - 1), minute(n), "user", rows
        )
        began = time.process_time()
        judged = judge.take([share, ClosedShare(2 * n + 1, "chat.usage", 0, 1, minute(n), n)], minute(n))
        took.append(time.process_time() - began)
    assert judged.decisions[0]["groups"] == users
    assert sum(len(entry or b"") for entry in judged.entries.values()) < 4_000_000
    assert min(took) < 1
