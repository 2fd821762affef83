"""A backtest: the same alerts as the judge gives live, of the same panes, and who would have been told."""

import functools
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta, timezone
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from schemas.time import DAY, HOUR, MINUTE, SECOND
from streams.alerts.closed_share import ClosedShare
from streams.alerts.judge import Judge
from streams.alerts.judged import Question, RuleVersion
from streams.alerts.lifecycle import Record
from streams.alerts.rule import Rule, parse_rule
from streams.alerts.rule_states import series_of
from streams.backtest.backtest import Backtested, BacktestError, backtest, settled
from streams.backtest.recorded import RecordedPane, RecordedSamples
from streams.catalogue.groupings import GROUPINGS, Grouping
from streams.endpoints.endpoint import Endpoint, parse_endpoint
from streams.notifications.notifier import Terms
from streams.windows.block import pack_rows, unpack_rows
from streams.windows.merge import merge
from tests.sinks.making import NOON, rows_of

LATENESS = 10 * SECOND
START = NOON
FROM_NOON = Terms(zone=timezone(timedelta(hours=12)))
"""Where a day begins at noon, UTC."""
Shares = dict[int, list[pa.Table]]
"""By the start of the pane, the rows that each source partition has of it."""


def rule(**fields: Any) -> Rule:
    made = {"id": "r", "name": "R", "severity": "error", "kind": "threshold", "window": "1m"} | fields
    return parse_rule({name: value for name, value in made.items() if value is not None})


@functools.cache
def traffic(minutes: int, start: int = START, seed: int = 1) -> Shares:
    """Two source partitions, three services and a few users; now and then errors, slowness, a pause."""
    chance = random.Random(seed)
    made: Shares = {}
    for minute in range(minutes):
        bad = (minute // 7) % 3 == 1
        partitions = []
        for _ in range(2):
            groups = {}
            for service in ("chat", "search", "batch"):
                count = chance.randrange(40) if service != "batch" or minute % 20 < 12 else 0
                if count:
                    slow = 8_000_000 if bad and service == "search" else 900_000
                    groups[(service,)] = {
                        "requests": count,
                        "errors": chance.randrange(count) if bad else count // 20,
                        "prompt_tokens": 100 * count,
                        "total_us": [chance.randrange(slow) + 1 for _ in range(count)],
                    }
            partitions.append(rows_of("service", groups))
        made[start + minute * MINUTE] = partitions
    return made


class Remembered:
    """History in memory: the partitions' shares added up."""

    def __init__(
        self,
        shares: Shares,
        grouping: str = "service",
        answers: Callable[[Question], pl.DataFrame] | None = None,
    ) -> None:
        self._shares = shares
        self._grouping = grouping
        self._answers = answers
        self.asked: list[Question] = []
        self.closed = False

    def panes(
        self, grouping: Grouping, pane: str, start: int, end: int, latencies: Sequence[str] = ()
    ) -> Iterator[RecordedPane]:
        assert (grouping.name, pane) == (self._grouping, "1m")
        try:
            for at, partitions in sorted(self._shares.items()):
                if start <= at < end:
                    merged = merge(partitions, grouping)
                    if merged.height:
                        yield RecordedPane(at, merged.to_arrow().cast(partitions[0].schema))
        finally:
            self.closed = True

    def answer(self, question: Question) -> pl.DataFrame:
        self.asked.append(question)
        assert self._answers is not None
        return self._answers(question)


def live(rule: Rule, shares: Shares, end: int, history: Remembered | None = None) -> list[Record]:
    """The alerts that a judge gives as the panes close, in two source partitions, one after the other."""
    judge = Judge(0, 1, [RuleVersion(rule, 1)], zone=FROM_NOON.zone)
    series, numbers = series_of(rule), itertools.count()
    told: list[Record] = []
    start = min(shares)
    for pane_start in range(start - MINUTE, end, MINUTE):
        pane_end = pane_start + MINUTE
        for question in judge.wanted(pane_end + LATENESS) if history else ():
            tell = judge.set_spent if question.what == "spent" else judge.set_reference
            tell(question.rule.id, question.start, question.until, history.answer(question))
        for partition in (0, 1):
            records = []
            rows = shares[pane_start][partition] if pane_start in shares else NOTHING
            if rows.num_rows:
                at = next(numbers)
                place = ("1m", pane_start, pane_end, series.grouping, rows)
                records.append(ClosedShare(at, series.table, partition, 2, pane_end, at, *place, since=at))
            records.append(ClosedShare(at := next(numbers), series.table, partition, 2, pane_end, at))
            told += judge.take(records, pane_end + LATENESS).alerts
    return told


def told(records: Sequence[Record]) -> list[tuple[Any, ...]]:
    """What makes an alert the same."""
    names = ["alert_id", "transition", "state", "group", "started_at", "changed_at", "judged_at", "value"]
    # When a budget will be used up follows from how long it has been watched.
    names += ["step", "requests"] + [name for name in ("summary",) if records[0]["kind"] != "budget"]
    found = [tuple(str(record[name]) for name in names) for record in records]
    return sorted(found, key=lambda each: (each[5], each[3], int(each[1])))


def nothing_spent(question: Question) -> pl.DataFrame:
    sums = GROUPINGS["service"].sums
    return pl.DataFrame(schema={"service": pl.String, "at": pl.Int64, **dict.fromkeys(sums, pl.Int64)})


NOTHING = rows_of("service", {})


def run(rule: Rule, history: Any, start: int, end: int, **more: Any) -> list[Backtested]:
    return list(backtest(rule, history, start, end, **more))


def alerts(steps: Sequence[Backtested]) -> list[Record]:
    return [alert for step in steps for alert in step.alerts]


RULES = {
    "error rate": rule(metric="errors", aggregation="ratio", grouping="service", window="3m",
                       threshold="20 %", consecutive=2, minimum_requests=30),
    "latency": rule(metric="latency", aggregation="p95", grouping="service", window="2m", threshold="4 s"),
    "few requests": rule(metric="requests", grouping="service", window="4m", operator="<",
                         threshold="0.3/s", no_data="alert"),
    "capacity": rule(kind="capacity", metric="requests", grouping="service", window="1m",
                     capacity="1/s", threshold="120 %"),
    "absence": rule(kind="absence", grouping="service", window="5m"),
    "budget": rule(kind="budget", metric="tokens", grouping="service", limit="60k tokens", period="day",
                   window=None),
    "rolling budget": rule(kind="budget", metric="tokens", grouping="service", limit="60k tokens",
                           period="1h", window=None),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_the_same_panes_give_the_same_alerts_as_live(name: str) -> None:
    shares = traffic(60)
    end = START + HOUR
    history = Remembered(shares, answers=nothing_spent)
    expected = live(RULES[name], shares, end, history)

    begin = START if name == "budget" else START - MINUTE
    found = run(RULES[name], history, begin, end, terms=FROM_NOON)

    assert told(alerts(found)) == told(expected)
    assert len(expected) > 2
    assert found[-1].through == end
    assert {alert["parts"] for alert in alerts(found)} == {1}
    assert all(alert["sources"] == [] for alert in alerts(found))


@pytest.mark.parametrize("kind", ["baseline", "change"])
def test_what_a_rule_compares_with_is_asked_of_history_a_day_at_once(kind: str) -> None:
    more = {"change": {"against": "1h", "threshold": "30 %"}, "baseline": {"threshold": 2}}[kind]
    compared = rule(kind=kind, metric="requests", grouping="service", window="2m", **more)
    shares = traffic(60)

    def answers(question: Question) -> pl.DataFrame:
        slot = 5 * MINUTE if kind == "baseline" else MINUTE
        starts = range(question.start, question.until, slot)
        return pl.DataFrame(
            [("chat", start, 0.4 + 0.05 * (start // slot % 7), 0.2, 60) for start in starts],
            schema={"service": pl.String, "slot_start": pl.Int64, "mean": pl.Float64,
                    "std": pl.Float64, "samples": pl.Int64},
            orient="row",
        )  # fmt: skip

    history = Remembered(shares, answers=answers)
    found = alerts(run(compared, history, START - MINUTE, START + HOUR))

    asked = Remembered(shares, answers=answers)
    assert told(found) == told(live(compared, shares, START + HOUR, asked))
    assert {alert["group"][0] for alert in found} == {"service=chat"}
    assert len(found) > 2
    assert len(history.asked) == 1 < len(asked.asked)


def test_the_first_window_is_whole_and_nothing_is_told_of_what_was_before() -> None:
    shares = traffic(60)
    summed = rule(metric="requests", aggregation="sum", grouping="service", window="10m", threshold=0,
                  operator=">=", filter={"service": "chat"})  # fmt: skip
    (first, *_) = alerts(run(summed, Remembered(shares), START + 30 * MINUTE, START + 40 * MINUTE))
    counted = sum(
        row["requests"]
        for minute in range(21, 31)
        for rows in shares[START + minute * MINUTE]
        for row in rows.to_pylist()
        if row["service"] == "chat"
    )
    assert (first["changed_at"], first["requests"]) == (START + 31 * MINUTE, counted)
    assert (first["window_start"], first["state"]) == (START + 21 * MINUTE, "firing")


def test_a_budget_counts_from_where_its_period_began_and_tells_what_is_reached_later() -> None:
    budget = RULES["budget"]
    shares = traffic(60)
    whole = alerts(run(budget, Remembered(shares), START, START + HOUR, terms=FROM_NOON))
    middle = whole[len(whole) // 2]["changed_at"]

    later = alerts(run(budget, Remembered(shares), middle, START + HOUR, terms=FROM_NOON))

    assert told(later) == told([alert for alert in whole if alert["changed_at"] > middle])
    assert 0 < len(later) < len(whole)


@pytest.mark.slow
def test_the_days_turn_begins_a_new_budget() -> None:
    shares = traffic(30, START) | traffic(30, START + DAY)
    end = START + DAY + 40 * MINUTE
    found = alerts(run(RULES["budget"], Remembered(shares), START, end, terms=FROM_NOON))
    assert [alert["step"] for alert in found if alert["group"] == ["service=chat"]] == [
        0.5,
        0.8,
        1.0,
        1.2,
        1.2,
        0.5,
        0.8,
        1.0,
        1.2,
    ]
    turned = [alert for alert in found if alert["state"] == "resolved"]
    assert {alert["changed_at"] for alert in turned} == {START + DAY}


ENDPOINT = parse_endpoint(
    {
        "id": "pager",
        "channel": "webhook",
        "url": "https://example.org/hook",
        "subscriptions": [{"types": ["alert.firing", "alert.resolved", "alert.reminder"]}],
    }
)


def bursts(*spans: tuple[int, int], minutes: int) -> Shares:
    """Requests that fail in these minutes, from one to another, and go well in all others."""
    return {
        START + minute * MINUTE: [
            rows_of(
                "service",
                {("chat",): {"requests": 10, "errors": 10 * any(a <= minute < b for a, b in spans)}},
            )
        ]
        for minute in range(minutes)
    }


def notified(steps: Sequence[Backtested]) -> list[tuple[float, str, int]]:
    """When (minutes after the start), what, of how many transitions."""
    return [
        ((each["created_at"] - START - LATENESS) / MINUTE, each["type"], len(each["alerts"]))
        for step in steps
        for each in step.notifications
    ]


@pytest.mark.slow
def test_who_would_have_been_told_and_when() -> None:
    failing = rule(metric="errors", aggregation="ratio", grouping="service", threshold="50 %",
                   repeat_interval="1h")  # fmt: skip
    history = Remembered(bursts((5, 155), minutes=160))
    steps = run(failing, history, START, START + 160 * MINUTE, endpoints={"pager": ENDPOINT})

    assert notified(steps) == [
        (pytest.approx(6, abs=0.02), "alert.firing", 1),
        (pytest.approx(66, abs=0.02), "alert.reminder", 1),
        (pytest.approx(126, abs=0.02), "alert.reminder", 1),
        (pytest.approx(156, abs=0.02), "alert.resolved", 1),
    ]
    decided = pl.Series([step.decisions.get("notified", 0) for step in steps]).sum()
    assert decided >= 2
    assert sum(step.decisions.get("evaluated", 0) for step in steps) == 160


@pytest.mark.slow
def test_nobody_is_told_where_nobody_subscribes_and_of_nothing_before_the_start() -> None:
    failing = rule(metric="errors", aggregation="ratio", grouping="service", threshold="50 %")
    shares = bursts((5, 30), minutes=60)
    other: Endpoint = ENDPOINT.model_copy(update={"subscriptions": []})
    alone = run(failing, Remembered(shares), START, START + HOUR)
    deaf = run(failing, Remembered(shares), START, START + HOUR, endpoints={"pager": other})
    assert [notified(alone), notified(deaf)] == [[], []]
    assert sum(step.decisions.get("unmatched", 0) for step in alone) == 2


def test_it_is_told_how_far_it_has_come_and_given_up_it_reads_no_further() -> None:
    history = Remembered(traffic(60))
    steps = backtest(RULES["absence"], history, START, START + 600 * MINUTE)
    first = next(steps)
    assert START < first.through <= START + 61 * MINUTE
    steps.close()  # type: ignore[attr-defined]
    assert history.closed


def test_memory_is_that_of_a_window_however_long_the_history() -> None:
    held: list[int] = []
    groups = {(f"s{n}",): {"requests": 3 + n, "errors": n % 2, "total_us": [1_000 * n]} for n in range(40)}
    packed = pack_rows(rows_of("service", groups))

    class Long(Remembered):
        def panes(self, *_: Any, **__: Any) -> Iterator[RecordedPane]:
            for minute in range(400):
                yield RecordedPane(START + minute * MINUTE, unpack_rows(packed))
                held.append(pa.total_allocated_bytes())

    judged = rule(metric="latency", grouping="service", window="10m", threshold="99 s")
    steps = run(judged, Long({}), START, START + 400 * MINUTE)
    assert steps[-1].through == START + 400 * MINUTE
    assert max(held[200:]) < 1.3 * max(held[60:120])


def test_a_rule_that_is_disabled_is_judged_all_the_same() -> None:
    off = rule(metric="errors", aggregation="ratio", grouping="service", threshold="50 %", enabled=False)
    assert len(alerts(run(off, Remembered(bursts((5, 30), minutes=60)), START, START + HOUR))) == 2


def test_sampled_states_are_judged_at_every_sample() -> None:
    """An instance's queue grows for a while; another one falls silent."""
    rows = [
        ("chat", "a", "depth", 9.0 if 10 <= minute < 20 else 2.0, START + minute * MINUTE + 5 * SECOND, False)
        for minute in range(60)
    ] + [("chat", "b", "depth", 1.0, START + minute * MINUTE + SECOND, False) for minute in range(30)]
    frame = pl.DataFrame(
        sorted(rows, key=lambda row: row[4]),
        schema=["service", "instance", "name", "value", "occurred_at", "imported"],
        orient="row",
    ).with_columns(pl.col("occurred_at").cast(pl.Datetime("us", "UTC")))

    class Sampled(Remembered):
        def samples(self, name: str, start: int, end: int) -> Iterator[RecordedSamples]:
            assert name == "depth"
            times = frame["occurred_at"].dt.epoch("us")
            for begin in range(start, end, 25 * MINUTE):
                until = min(begin + 25 * MINUTE, end)
                yield RecordedSamples(begin, until, frame.filter((times >= begin) & (times < until)))

    deep = rule(metric="sample:depth", aggregation="last", window="1m", threshold=5)
    steps = run(deep, Sampled({}), START, START + HOUR, endpoints={"pager": ENDPOINT})
    assert [(alert["state"], alert["group"], alert["changed_at"]) for alert in alerts(steps)] == [
        ("firing", ["service=chat", "instance=a"], START + 10 * MINUTE + 5 * SECOND),
        ("resolved", ["service=chat", "instance=a"], START + 20 * MINUTE + 5 * SECOND),
    ]
    assert [kind for _, kind, _ in notified(steps)] == ["alert.firing", "alert.resolved"]
    assert steps[-1].through == START + HOUR

    silent = rule(kind="absence", metric="sample:depth", window="5m")
    (gone,) = alerts(run(silent, Sampled({}), START, START + HOUR))
    assert (gone["group"], gone["state"]) == (["service=chat", "instance=b"], "firing")
    assert gone["changed_at"] == START + 29 * MINUTE + SECOND + 5 * MINUTE


def test_what_has_only_just_closed_is_left_to_the_next_backtest() -> None:
    assert settled(START, START + HOUR, LATENESS) == START
    assert settled(START, START + 15 * SECOND, LATENESS) == START - 15 * SECOND


def test_of_times_within_a_pane_the_whole_panes_are_judged() -> None:
    failing = rule(metric="errors", aggregation="ratio", grouping="service", threshold="50 %")
    history = Remembered(bursts((5, 30), minutes=60))
    steps = run(failing, history, START + 1, START + HOUR - 1)
    assert steps[-1].through == START + 59 * MINUTE
    with pytest.raises(BacktestError, match="no pane of 1m ends"):
        backtest(failing, history, START + 1, START + MINUTE - 1)
