"""What ClickHouse tells of a rule's past, against plain Python over the requests."""

import asyncio
import random
import statistics
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from clickhouse_connect.driver.client import Client

from clients.clickhouse.connection import connect
from infra.settings import ClickHouseSettings
from schemas.time import DAY, HOUR, MINUTE, SECOND
from sinks.tables import prepare
from streams.alerts.history_client import Answer, HistoryClient, read
from streams.alerts.judged import Question
from streams.alerts.kinds.baseline import BaselineRule
from streams.alerts.kinds.budget import BudgetRule
from streams.alerts.kinds.change import ChangeRule
from streams.alerts.kinds.referenced import earlier
from streams.alerts.rule import parse_rule
from streams.windows.measures import GROUPINGS
from streams.windows.sketch import keys_of, quantile
from tests.sinks.conftest import FOREVER
from tests.sinks.making import HELD, block, block_record, fetch_of, rows_of
from tests.sinks.storing import store, window_writer

VIENNA = ZoneInfo("Europe/Vienna")
NOW = int(datetime(2026, 3, 30, 10, 0, tzinfo=VIENNA).timestamp()) * SECOND
"""A Monday: on the day before, the clock was put forward."""

Made = dict[str, Any]


def at_ten(day: int) -> int:
    """Ten o'clock in Vienna, so many days before."""
    local = datetime(2026, 3, 30, 10, tzinfo=VIENNA) - timedelta(days=day)
    return int(local.timestamp()) * SECOND


def made_requests() -> list[Made]:
    """Half an hour before ten and half an hour after it, today and on Mondays before; and some on the hour
    that is ten o'clock by UTC, which nobody should take for it."""
    chance = random.Random(3)
    spans = [(at_ten(7 * week) - 30 * MINUTE, at_ten(7 * week) + 30 * MINUTE) for week in range(4)]
    spans.append((NOW - 7 * DAY - 2 * HOUR, NOW - 7 * DAY - HOUR))
    found = []
    for start, end in spans:
        for minute in range(start, end, MINUTE):
            for _ in range(chance.randrange(9)):
                failed = chance.random() < 0.2
                unpriced = chance.random() < 0.3
                total = int(chance.lognormvariate(14, 0.7))
                found.append(
                    {
                        "minute": minute,
                        "partition": chance.randrange(2),
                        "imported": chance.random() < 0.1,
                        "service": chance.choice(["chat", "search", "chat-old"]),
                        "user_id": f"user-{chance.randrange(4)}",
                        "errors": int(failed),
                        "prompt_tokens": chance.randrange(900),
                        "completion_tokens": chance.randrange(300),
                        "cost_nano_usd": 0
                        if (unpriced := chance.random() < 0.3)
                        else chance.randrange(10**9),
                        "unpriced": int(unpriced),
                        "total_us": total,
                    }
                )
    return found


def sums(members: Iterable[Made]) -> dict[str, int]:
    """The sums of a group of requests."""
    members = list(members)
    names = ("errors", "prompt_tokens", "completion_tokens", "cost_nano_usd", "unpriced")
    return {"requests": len(members), **{name: sum(one[name] for one in members) for name in names}}


@pytest.fixture(scope="module")
def requests() -> list[Made]:
    return made_requests()


@pytest.fixture(scope="module")
def tables(clickhouse: ClickHouseSettings, requests: list[Made]) -> Iterator[Client]:
    """A database with the minutes of these requests, by service and by user."""
    settings = clickhouse.model_copy(update={"database": f"past_{uuid.uuid4().hex[:12]}"})
    prepare(settings, FOREVER)
    writer = window_writer(lambda: NOW, VIENNA)
    blocks = defaultdict(lambda: defaultdict(list))  # type: ignore[var-annotated]
    for one in requests:
        for grouping in ("service", "user"):
            key = tuple(one[name] for name in GROUPINGS[grouping].keys)
            blocks[one["minute"], one["partition"], one["imported"], grouping][key].append(one)
    records = []
    for number, ((minute, partition, imported, grouping), groups) in enumerate(blocks.items()):
        latency = {"total_us"} & set(GROUPINGS[grouping].latencies)
        rows = {
            key: {**sums(members), **{name: [one[name] for one in members] for name in latency}}
            for key, members in groups.items()
        }
        made = block(
            rows_of(grouping, rows),
            start=minute,
            partition=partition,
            imported=imported,
            grouping=grouping,
            closed=True,
        )
        records.append(block_record(number, made))
    with connect(settings) as client:
        store(client, writer.take([fetch_of(records)], frozenset({HELD}), 0.0))
        yield client
        client.command(f"DROP DATABASE {settings.database}")


def rule(**fields: Any) -> Any:
    return parse_rule({"id": "r", "name": "R", "severity": "error", "grouping": "service", **fields})


VALUES: dict[tuple[str, str], Callable[[list[Made], float], float | None]] = {
    ("errors", "ratio"): lambda made, _: sum(one["errors"] for one in made) / len(made),
    ("requests", "rate"): lambda made, seconds: len(made) / seconds,
    ("tokens", "avg"): lambda made, _: (
        sum(one["prompt_tokens"] + one["completion_tokens"] for one in made) / len(made)
    ),
    ("cost", "sum"): lambda made, _: (
        None
        if all(one["unpriced"] for one in made) or not (nano := sum(one["cost_nano_usd"] for one in made))
        else nano / 1e9
    ),
    ("latency", "max"): lambda made, _: max(one["total_us"] for one in made) / 1_000,
    ("latency", "avg"): lambda made, _: sum(one["total_us"] for one in made) / len(made) / 1_000,
    ("latency", "p95"): lambda made, _: percentile([one["total_us"] for one in made]) / 1_000,
}


def percentile(values: list[int]) -> float:
    buckets, counts = np.unique(keys_of(np.array(values)), return_counts=True)
    return min(max(quantile(buckets, counts, 0.95), min(values)), max(values))


def window(requests: list[Made], service: str, end: int, length: int) -> list[Made]:
    return [one for one in requests if end - length <= one["minute"] < end and one["service"] == service]


@pytest.mark.parametrize(("metric", "aggregation"), VALUES, ids=lambda each: str(each))
@pytest.mark.parametrize("least", [0, 12])
def test_a_baseline_is_made_of_the_same_time_of_the_weeks_before(
    tables: Client, requests: list[Made], metric: str, aggregation: str, least: int
) -> None:
    compared = rule(
        kind="baseline",
        metric=metric,
        aggregation=aggregation,
        window="5m",
        seasons=3,
        around="15m",
        minimum_requests=least,
        filter={"service": ["chat", "sea*"]},
    )
    assert isinstance(compared, BaselineRule)

    found = read(tables, Question(compared, "reference", NOW - 5 * MINUTE, NOW + 5 * MINUTE), VIENNA)

    expected = {}
    for slot in (NOW - 5 * MINUTE, NOW):
        for service in ("chat", "search"):
            values = []
            for week in (1, 2, 3):
                # By the clock on the wall: on 30 March ten o'clock is an hour earlier than on the 23rd.
                local = datetime.fromtimestamp(slot / SECOND, VIENNA) - timedelta(weeks=week)
                then = int(local.timestamp()) * SECOND
                ends = range(then - 15 * MINUTE, then + 20 * MINUTE + 1, 5 * MINUTE)
                for end in ends:
                    members = window(requests, service, end, 5 * MINUTE)
                    if members and len(members) >= least:
                        values.append(VALUES[metric, aggregation](members, 300.0))
            known = [value for value in values if value is not None]
            if known:
                expected[service, slot] = known
    rows = {(row["service"], row["slot_start"]): row for row in found.to_dicts()}
    assert rows.keys() == expected.keys()
    for key, known in expected.items():
        assert rows[key]["samples"] == len(known)
        assert rows[key]["mean"] == pytest.approx(statistics.fmean(known), rel=1e-9)
        spread = statistics.stdev(known) if len(known) > 1 else None
        assert rows[key]["std"] == (None if spread is None else pytest.approx(spread, rel=1e-6, abs=1e-12))
    assert found.schema == pl.Schema(
        {
            "service": pl.String,
            "slot_start": pl.Int64,
            "mean": pl.Float64,
            "std": pl.Float64,
            "samples": pl.Int64,
        }
    )


@pytest.mark.parametrize(
    ("against", "length"), [("10m", 5), ("7d", 15), ("10m", 7)], ids=["minutes", "days", "odd"]
)
def test_a_change_is_held_against_the_window_so_much_earlier(
    tables: Client, requests: list[Made], against: str, length: int
) -> None:
    compared = rule(
        kind="change", metric="requests", window=f"{length}m", against=against, threshold="50 %",
        minimum_requests=2,
    )  # fmt: skip
    assert isinstance(compared, ChangeRule)

    found = read(tables, Question(compared, "reference", NOW, NOW + 6 * MINUTE), VIENNA)

    expected = {}
    for end in range(NOW + MINUTE, NOW + 7 * MINUTE, MINUTE):
        # A week earlier by the clock, which has been put forward since.
        then = end - 7 * DAY + HOUR if against == "7d" else end - 10 * MINUTE
        for service in ("chat", "search", "chat-old"):
            members = window(requests, service, then, length * MINUTE)
            if members:
                expected[service, compared.slot_of(end)] = (len(members) / (60 * length), len(members))
    rows = {(row["service"], row["slot_start"]): row for row in found.to_dicts()}
    assert {key: (row["mean"], row["samples"]) for key, row in rows.items()} == {
        key: (pytest.approx(rate), count) for key, (rate, count) in expected.items()
    }
    assert {row["std"] for row in rows.values()} == {None}


def test_a_budget_has_spent_what_was_used_since_the_period_began_and_imports_are_none_of_it(
    tables: Client, requests: list[Made]
) -> None:
    budget = rule(
        kind="budget", metric="tokens", grouping="user", limit="1M tokens", period="week",
        filter={"user_id": ["user-1", "user-2"]},
    )  # fmt: skip
    assert isinstance(budget, BudgetRule)
    start, until = NOW - 20 * MINUTE, NOW + 5 * MINUTE

    found = read(tables, Question(budget, "spent", start, until), VIENNA).sort("user_id")
    rolling = budget.model_copy(update={"period": 24 * HOUR})
    by_slot = read(tables, Question(rolling, "spent", start, until, 30 * MINUTE), VIENNA)

    counted = {
        user: sums(
            one
            for one in requests
            if one["user_id"] == user and not one["imported"] and start <= one["minute"] < until
        )
        for user in ("user-1", "user-2")
    }
    for row in found.to_dicts():
        assert counted[row["user_id"]].items() <= row.items()
        assert row["at"] == start
    assert found["user_id"].to_list() == ["user-1", "user-2"]
    assert set(by_slot["at"]) == {NOW - 30 * MINUTE, NOW}
    assert by_slot["requests"].sum() == sum(each["requests"] for each in counted.values())
    assert all(found[name].dtype == pl.Int64 for name in GROUPINGS["user"].sums)


def test_minutes_that_were_rebuilt_are_read_as_rebuilt(tables: Client, requests: list[Made]) -> None:
    budget = rule(kind="budget", metric="requests", limit="100", period="day")
    before = read(tables, Question(budget, "spent", NOW, NOW + MINUTE), VIENNA)["requests"].sum()
    tables.command(
        "INSERT INTO windows (pane, grouping, pane_start, key1, partition, since, version, written_at, "
        "requests) "
        f"SELECT '1m', 'service', toDateTime({NOW // SECOND}), 'chat', -1, 7, 7, now(), 1000"
    )
    tables.command(f"INSERT INTO rebuilt_minutes (minute, generation) VALUES ({NOW // SECOND}, 7)")
    rebuilt = read(tables, Question(budget, "spent", NOW, NOW + MINUTE), VIENNA)["requests"].sum()
    tables.command("TRUNCATE TABLE rebuilt_minutes")
    assert (rebuilt, before) == (
        1000,
        read(tables, Question(budget, "spent", NOW, NOW + MINUTE), VIENNA)["requests"].sum(),
    )


def test_sampled_states_have_a_past_too(tables: Client) -> None:
    for minute, state in ((-10, 4.0), (-9, 6.0), (-1, 9.0)):
        tables.command(
            "INSERT INTO samples (arrived_at, occurred_at, event_id, service, instance, name, value) "
            f"SELECT now(), fromUnixTimestamp64Micro({NOW + MINUTE * minute + 30 * SECOND}), '{minute}', "
            f"'chat', 'a', 'depth', {state}"
        )
    compared = parse_rule(
        {"id": "s", "name": "S", "severity": "error", "kind": "change", "metric": "sample:depth",
         "aggregation": "avg", "window": "2m", "against": "10m", "threshold": "50 %"}
    )  # fmt: skip
    assert isinstance(compared, ChangeRule)
    found = read(tables, Question(compared, "reference", NOW + MINUTE, NOW + 2 * MINUTE), VIENNA)
    assert found.to_dicts() == [
        {
            "service": "chat",
            "instance": "a",
            "slot_start": NOW + MINUTE,
            "mean": 5.0,
            "std": None,
            "samples": 2,
        }
    ]


def test_so_many_days_earlier_is_the_same_time_by_the_clock() -> None:
    assert earlier(NOW, 7 * DAY, UTC) == NOW - 7 * DAY
    assert earlier(NOW, 7 * DAY, VIENNA) == NOW - 7 * DAY + HOUR
    assert earlier(NOW + 1, DAY, VIENNA) == NOW - DAY + 1
    assert earlier(NOW, 25 * HOUR, VIENNA) == NOW - 25 * HOUR


async def answered(history: HistoryClient) -> Answer:
    async with asyncio.timeout(20):
        while not (answers := history.answers()):  # noqa: ASYNC110 - the judge asks so, at each tick
            await asyncio.sleep(0.01)
    (answer,) = answers
    return answer


async def test_a_question_is_asked_until_it_is_answered_and_nobody_waits_for_it(tables: Client) -> None:
    budget = rule(kind="budget", metric="tokens", limit="1M tokens", period="day")
    attempts = []

    def away_at_first() -> Client:
        attempts.append(len(attempts))
        if len(attempts) < 3:
            raise ConnectionRefusedError("nobody there")
        return tables

    history = HistoryClient(away_at_first, VIENNA, clock=lambda: NOW)
    question = Question(budget, "spent", NOW - HOUR, NOW)
    history.ask(question)
    history.ask(question)
    assert (history.answers(), history.waiting) == ([], 1)
    answer = await answered(history)
    assert answer.question == question
    assert answer.frame is not None
    assert sorted(answer.frame.rows()) == sorted(read(tables, question, VIENNA).rows())
    assert (len(attempts), history.waiting, history.failure) == (3, 0, None)


async def test_a_rule_that_has_changed_asks_anew(tables: Client) -> None:
    history = HistoryClient(lambda: tables, VIENNA, clock=lambda: NOW)
    of_tokens = rule(kind="budget", metric="tokens", limit="1M tokens", period="day")
    of_requests = rule(kind="budget", metric="requests", limit="1k", period="day")
    history.ask(Question(of_tokens, "spent", NOW - HOUR, NOW))
    history.ask(Question(of_requests, "spent", NOW - HOUR, NOW))
    assert history.waiting == 1
    assert (await answered(history)).question.rule == of_requests


async def test_minutes_that_are_still_open_are_waited_for_but_not_for_ever(
    tables: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.alerts.history_client._LOOK_AGAIN_S", 0.05)
    budget = rule(kind="budget", metric="requests", grouping="model", limit="1k", period="day")
    columns = "pane, grouping, pane_start, key1, key2, version, closed, written_at, requests"
    row = f"'1m', 'model', toDateTime({NOW // SECOND} - 60), 'openai', 'gpt'"
    tables.command(f"INSERT INTO windows ({columns}) SELECT {row}, 1, false, now(), 3")
    question = Question(budget, "spent", NOW - HOUR, NOW)

    late = HistoryClient(lambda: tables, VIENNA, clock=lambda: NOW + HOUR)
    late.ask(question)
    given_up = await answered(late)
    history = HistoryClient(lambda: tables, VIENNA, clock=lambda: NOW)
    history.ask(question)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await answered(history)
    tables.command(f"INSERT INTO windows ({columns}) SELECT {row}, 2, true, now(), 5")
    whole = await answered(history)

    assert given_up.frame is not None
    assert whole.frame is not None
    assert (given_up.frame["requests"].to_list(), whole.frame["requests"].to_list()) == ([3], [5])


async def test_of_a_change_that_is_answered_of_which_the_earlier_window_is_over(tables: Client) -> None:
    compared = rule(kind="change", metric="requests", window="5m", against="10m", threshold="50 %")
    assert isinstance(compared, ChangeRule)
    history = HistoryClient(lambda: tables, VIENNA, clock=lambda: NOW + 40 * SECOND)
    history.ask(Question(compared, "reference", NOW, NOW + 15 * MINUTE))
    answer = await answered(history)
    assert (answer.question.start, answer.question.until) == (NOW, NOW + 10 * MINUTE)
    # The last slot is that of the window which ends at its end, ten minutes after one that ends now.
    assert compared.known_until(NOW + HOUR, NOW + 29 * SECOND) == NOW + 9 * MINUTE
    weekly = compared.model_copy(update={"against": 7 * DAY})
    assert weekly.known_until(NOW + HOUR, NOW) == NOW + HOUR


@pytest.mark.parametrize(
    "wanted", ["we'ird\\(na.me)\n{x:String}", "we'ird\\*{x:*}"], ids=["exact", "pattern"]
)
def test_a_filter_may_be_long_and_hold_any_character(tables: Client, wanted: str) -> None:
    tables.insert(
        "windows",
        [
            [
                "1m",
                "space",
                datetime.fromtimestamp(NOW // SECOND, UTC),
                "we'ird\\(na.me)\n{x:String}",
                NOW,
                7,
                datetime.now(UTC),
            ]
        ],
        column_names=["pane", "grouping", "pane_start", "key1", "version", "requests", "written_at"],
    )
    others = [f"{n:03}-{'long-name-' * 20}" for n in range(99)]
    budget = rule(
        kind="budget", metric="requests", grouping="space", limit="100", period="day",
        filter={"space_id": [*others, wanted]},
    )  # fmt: skip
    found = read(tables, Question(budget, "spent", NOW, NOW + MINUTE), VIENNA)
    assert found.select("space_id", "requests").rows() == [("we'ird\\(na.me)\n{x:String}", 7)]
    unlike = budget.model_copy(update={"filter": {"space_id": tuple(others)}})
    assert read(tables, Question(unlike, "spent", NOW, NOW + MINUTE), VIENNA).height == 0
