"""Rebuilt minutes: equal to streamed ones where those are right, and right where those are not."""

import random
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count, pairwise
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from clients.clickhouse.connection import connect
from infra.settings import ClickHouseSettings
from sinks.rebuild import rebuild as rebuilding
from sinks.rebuild.checking import Checking
from sinks.rebuild.history import History
from sinks.rebuild.minutes import Evidence, Outcome, Verdict, batches, judge
from sinks.rebuild.rebuild import rebuild
from sinks.tables import prepare
from streams.catalogue.measures import LATENCIES, SUMS
from tests.sinks.conftest import FOREVER
from tests.sinks.log import HOUR, SECOND, Log, made
from tests.sinks.making import MINUTE, NOON
from tests.sinks.storing import UTC_ZONE

DAY = 24 * HOUR
PARTITIONS = 3

Requests = list[dict[str, Any]]


@pytest.fixture(scope="module")
def shared(clickhouse: ClickHouseSettings) -> Iterator[ClickHouseSettings]:
    """A database for all tests of this module."""
    settings = clickhouse.model_copy(update={"database": f"rebuild_{uuid.uuid4().hex[:12]}"})
    prepare(settings, FOREVER)
    yield settings
    with connect(settings) as client:
        client.command(f"DROP DATABASE {settings.database}")


@pytest.fixture
def tables(shared: ClickHouseSettings) -> Iterator[Client]:
    """A client of it; the tables are empty."""
    with connect(shared) as client:
        for table in (
            "events",
            "spans",
            "samples",
            "arrivals",
            "windows",
            "rebuilt_minutes",
            "checked_minutes",
        ):
            client.command(f"TRUNCATE TABLE {table}")
        yield client


@pytest.fixture
def log(tables: Client) -> Log:
    return Log(tables)


@pytest.fixture
def history(tables: Client) -> History:
    return History(tables, UTC_ZONE, FOREVER.events_days)


def done(history: History, minutes: Iterable[int], **options: Any) -> Outcome:
    """The outcome of a rebuild."""
    *_, outcome = rebuild(history, list(minutes), **options)
    return outcome


def waiting(history: History) -> list[int]:
    return [one.minute for one in history.waiting()]


def figures(client: Client) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """By group, minute, origin and key: every figure, and the merged state of every sketch, byte for byte."""
    latencies = ", ".join(
        f"sum({name}_count), sum({name}_sum), min({name}_min), max({name}_max), "
        f"hex(quantilesDDMergeState(0.01, 0.5, 0.95, 0.99)({name}_sketch))"
        for name in LATENCIES
    )
    rows = client.query(
        "SELECT grouping, toUnixTimestamp(pane_start), day, imported, key1, key2, "
        f"{', '.join(f'sum({name})' for name in SUMS)}, {latencies} "
        "FROM window_rows WHERE pane = '1m' "
        "GROUP BY grouping, pane_start, day, imported, key1, key2"
    ).result_rows
    return {tuple(row[:6]): tuple(row[6:]) for row in rows}


def counted(client: Client) -> dict[int, int]:
    """By minute, the requests that the views show."""
    rows = client.query("SELECT toUnixTimestamp(minute), requests FROM requests_total_per_minute").result_rows
    return {minute * SECOND: requests for minute, requests in rows}


def rebuilt_parts(client: Client) -> int:
    found = client.query("SELECT count() FROM window_rows WHERE partition = -1").result_rows
    return int(found[0][0])


def test_rebuilt_windows_equal_streamed_ones_to_the_last_digit(
    log: Log, history: History, tables: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(4)
    minutes = [NOON, NOON + MINUTE, NOON + 2 * MINUTE, NOON + 20 * MINUTE]
    for partition in range(PARTITIONS):
        for at in minutes:
            log.send((made(chance, number, at) for number in range(150)), partition)
        log.send((made(chance, 0, minutes[0], phase="started") for _ in range(3)), partition)
    streamed = figures(tables)
    assert sum(row[0] for key, row in streamed.items() if key[0] == "total") == PARTITIONS * 4 * 150

    # Cut small, so that minutes are read in parts and states added up.
    monkeypatch.setattr("sinks.rebuild.minutes._MOST_RECORDS", 200)
    outcome = done(history, minutes)

    assert (outcome.rebuilt, outcome.not_whole) == (4, {})
    assert rebuilt_parts(tables) == len(streamed)
    assert figures(tables) == streamed


def test_a_repeat_counts_once_in_whatever_partition_and_on_whatever_day_it_comes(
    log: Log, history: History, tables: Client
) -> None:
    chance = random.Random(5)
    requests = [made(chance, number, NOON) | {"imported": False} for number in range(60)]
    log.send(requests)
    right = figures(tables)

    log.send(requests[:10], arrived=NOON + 3 * HOUR)
    log.send(requests[5:20], 1, arrived=NOON + 3 * HOUR)
    log.send(requests, 2, arrived=NOON + 2 * DAY)
    assert counted(tables)[NOON] > 60
    assert tables.query("SELECT count() FROM events FINAL").result_rows == [(60,)]
    assert tables.query("SELECT sum(requests) FROM raw_requests_per_minute").result_rows == [(60,)]
    assert waiting(history) == [NOON]

    assert done(history, waiting(history)).rebuilt == 1
    assert figures(tables) == right
    tables.command("OPTIMIZE TABLE events FINAL")
    assert waiting(history) == []
    assert done(history, [NOON]).rebuilt == 1  # what merging has removed is not missing
    assert figures(tables) == right


def test_what_came_too_late_or_was_imported_is_there_after_the_rebuild(
    log: Log, history: History, tables: Client
) -> None:
    chance = random.Random(6)
    live = [made(chance, number, NOON) | {"imported": False} for number in range(20)]
    log.send(live)
    log.send([made(chance, 1, NOON + 30 * HOUR) | {"imported": False}])
    assert waiting(history) == []  # what came in time marks nothing

    late = made(chance, 2, NOON) | {"imported": False, "total_us": 77}
    log.send([late], arrived=NOON + 30 * HOUR)
    old = made(chance, 3, NOON - 900 * DAY) | {"imported": True}
    log.send([old, old], 1, arrived=NOON)
    assert counted(tables) == {NOON: 20, NOON + 30 * HOUR: 1, NOON - 900 * DAY: 2}

    assert waiting(history) == [NOON - 900 * DAY, NOON]
    done(history, waiting(history))
    assert counted(tables) == {NOON: 21, NOON + 30 * HOUR: 1, NOON - 900 * DAY: 1}
    least = tables.query(
        "SELECT min FROM latency_total_per_minute "
        "WHERE measure = 'total' AND minute = toDateTime({at:Int64})",
        parameters={"at": NOON // SECOND},
    ).result_rows
    assert least == [(0.077,)]
    days = tables.query("SELECT day, requests FROM tokens_by_user ORDER BY day").result_rows
    users = [one for one in [*live, late] if one["user_id"]]
    assert (date(2026, 3, 1), len(users)) in {(day, sum(n for d, n in days if d == day)) for day, _ in days}


def test_what_comes_after_a_rebuild_marks_the_minute_again(
    log: Log, history: History, tables: Client
) -> None:
    chance = random.Random(7)
    log.send([made(chance, 0, NOON) | {"imported": True}], arrived=NOON + HOUR)
    done(history, waiting(history))
    assert waiting(history) == []

    # In time for the stream, but the sink was behind.
    behind = [made(chance, 1, NOON) | {"imported": False}]
    log.send(behind, 1)
    assert waiting(history) == [NOON]
    assert counted(tables) == {NOON: 1}
    done(history, waiting(history))
    assert counted(tables) == {NOON: 2}
    assert waiting(history) == []


def test_a_record_stored_while_its_minute_is_rebuilt_is_not_overlooked(
    log: Log, history: History, tables: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(8)
    log.send([made(chance, 0, NOON) | {"imported": True}], arrived=NOON + HOUR)
    reading = history.read

    def and_meanwhile(start: int, end: int) -> Any:
        found = reading(start, end)
        monkeypatch.undo()
        log.send([made(chance, 1, NOON) | {"imported": False}], 1)
        # As if the statement had begun before the one that stored the last record noted.
        tables.command(
            "ALTER TABLE arrivals UPDATE stored_at = stored_at - 60 WHERE _partition = 1",
            settings={"mutations_sync": 1},
        )
        return found

    monkeypatch.setattr(history, "read", and_meanwhile)
    done(history, [NOON])
    assert counted(tables) == {NOON: 1}
    assert waiting(history) == [NOON]
    done(history, waiting(history))
    assert counted(tables) == {NOON: 2}


def test_a_minute_whose_raw_events_are_not_all_there_stays_as_it_is(
    log: Log, history: History, tables: Client
) -> None:
    chance = random.Random(9)
    old, hollow, gone = NOON, NOON + HOUR, NOON + 2 * HOUR
    log.send([made(chance, n, old) | {"imported": True} for n in range(3)], arrived=NOON + DAY)
    log.send([made(chance, n, hollow) | {"imported": True} for n in range(3)], arrived=NOON + DAY)
    # Offsets that the sink missed, because Kafka had deleted them.
    log.send([made(chance, n, hollow) | {"imported": True} for n in range(2)], stored=False)
    log.send([made(chance, n, gone) | {"imported": True} for n in range(2)], arrived=NOON + 2 * DAY)
    log.send([made(chance, 9, gone) | {"imported": True}], arrived=NOON + 3 * DAY)
    tables.command("ALTER TABLE events DROP PARTITION 20260303")

    outcome = done(history, waiting(history))

    assert outcome.rebuilt == 1
    assert outcome.not_whole == {Verdict.MISSING: [hollow], Verdict.EXPIRED: [gone]}
    assert counted(tables) == {old: 3, hollow: 5, gone: 3}
    assert waiting(history) == [hollow, gone]


def test_raw_events_count_as_gone_on_the_day_that_retention_reaches_them() -> None:
    there = frozenset([date(2026, 3, 1), date(2026, 3, 2)])
    evidence = Evidence(NOON, arrived={0: 5, 1: 2}, counted={0: 5}, days=there, days_there=there)
    assert judge(evidence, date(2026, 3, 1)) is Verdict.WHOLE
    assert judge(evidence, date(2026, 3, 2)) is Verdict.EXPIRED
    assert (
        judge(replace(evidence, days_there=there - {date(2026, 3, 1)}), date(2026, 3, 1)) is Verdict.EXPIRED
    )
    # What one partition lacks, another doesn't make up for.
    assert judge(replace(evidence, counted={0: 5, 1: 3}), date(2026, 3, 1)) is Verdict.MISSING
    assert judge(replace(evidence, counted={2: 1}), date(2026, 3, 1)) is Verdict.MISSING


def test_no_read_is_large_and_no_minute_is_read_twice() -> None:
    sizes = [10, 150_000, 150_000, 900_001, 5, *[1] * 500]
    minutes = [Evidence(NOON + at * MINUTE, arrived={0: size}) for at, size in enumerate(sizes)]
    found = list(batches(minutes))
    assert [one for batch in found for one in batch.minutes] == minutes
    busy = next(batch for batch in found if batch.minutes[0].records == 900_001)
    assert len(busy.spans) == 5
    covered = [span for batch in found for span in batch.spans]
    assert covered == sorted(covered)
    assert all(one[1] == other[0] for one, other in pairwise(covered))
    assert (covered[0][0], covered[-1][1]) == (NOON, NOON + len(sizes) * MINUTE)
    assert max(len(batch.minutes) for batch in found) <= 240


class Killed(Exception):  # noqa: N818
    """The process ended here."""


@pytest.mark.parametrize("where", ["read", "write", "switch_over"])
def test_a_rebuild_that_is_killed_changes_nothing_and_a_second_one_completes_it(
    log: Log, history: History, tables: Client, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    chance = random.Random(10)
    requests = [made(chance, number, NOON) for number in range(30)]
    log.send(requests)
    right = figures(tables)
    log.send(requests, 1, arrived=NOON + HOUR)
    doubled = figures(tables)

    work: Callable[..., Any] = getattr(history, where)

    def kill(*arguments: Any) -> Any:
        if where == "write":
            work(*arguments)
        raise Killed

    monkeypatch.setattr(history, where, kill)
    with pytest.raises(Killed):
        done(history, [NOON])
    assert figures(tables) == doubled
    assert NOON in waiting(history)

    monkeypatch.undo()
    done(history, [NOON])
    assert figures(tables) == right


def test_two_at_once_are_as_good_as_one(
    log: Log, history: History, tables: Client, shared: ClickHouseSettings
) -> None:
    chance = random.Random(11)
    requests = [made(chance, number, NOON + number % 3 * MINUTE) for number in range(90)]
    log.send(requests)
    right = figures(tables)
    log.send(requests, 1, arrived=NOON + HOUR)
    late = made(chance, 99, NOON) | {"imported": False}
    with connect(shared) as second:
        other = History(second, UTC_ZONE, FOREVER.events_days)
        reading = history.read

        def and_meanwhile(start: int, end: int) -> Any:
            """The first one reads, the second one does all, and the first one ends later."""
            found = reading(start, end)
            log.send([late], 2, arrived=NOON + HOUR)
            assert done(other, [NOON, NOON + MINUTE, NOON + 2 * MINUTE]).rebuilt == 3
            return found

        history.read = and_meanwhile  # type: ignore[method-assign]
        assert done(history, [NOON, NOON + MINUTE, NOON + 2 * MINUTE]).rebuilt == 3
        history.read = reading  # type: ignore[method-assign]
    # The second one began later, with an event more, and its figures stay.
    assert counted(tables) == {NOON: 31, NOON + MINUTE: 30, NOON + 2 * MINUTE: 30}
    assert waiting(history) == []
    others = {key: row for key, row in figures(tables).items() if key[1] != NOON // SECOND}
    assert others == {key: row for key, row in right.items() if key[1] != NOON // SECOND}


def test_an_older_rebuild_follows_a_newer_one_when_the_clock_was_set_back(
    log: Log, history: History, tables: Client
) -> None:
    chance = random.Random(12)
    log.send([made(chance, 0, NOON)])
    done(history, [NOON], clock=lambda: 2_000 * 10**15)
    log.send([made(chance, 1, NOON)])
    done(history, [NOON], clock=lambda: 1_900 * 10**15)
    assert counted(tables) == {NOON: 2}


def test_repeats_by_another_partition_are_found_though_they_come_in_time(
    log: Log, history: History, tables: Client
) -> None:
    chance = random.Random(18)
    requests = [made(chance, n, NOON + n % 3 * MINUTE) | {"imported": False} for n in range(30)]
    log.send(requests)
    log.send([requests[0]], 1)
    log.send([requests[1], requests[1]])  # which the stream sees
    log.send([made(chance, 99, NOON + HOUR) | {"imported": False}])
    log.send([made(chance, 98, NOON + HOUR) | {"imported": False}], 1)
    log.send([made(chance, 97, NOON + HOUR) | {"imported": False}], 2)
    assert counted(tables) == {NOON: 11, NOON + MINUTE: 10, NOON + 2 * MINUTE: 10, NOON + HOUR: 3}
    assert waiting(history) == []
    checking = Checking(tables, quiet=0.0)

    found = [one.minute for one in checking.doubtful()]
    assert NOON in found
    assert NOON + 2 * MINUTE not in found  # no repeats
    assert NOON + HOUR not in found
    done(history, found)
    assert counted(tables) == {NOON: 10, NOON + MINUTE: 10, NOON + 2 * MINUTE: 10, NOON + HOUR: 3}

    assert checking.doubtful() == []
    assert Checking(tables, quiet=0.0).doubtful() == []
    log.send([requests[2]], 2)
    assert [one.minute for one in checking.doubtful()] == [NOON + 2 * MINUTE]
    assert [one.minute for one in Checking(tables, quiet=60.0).doubtful()] == []


def test_a_minute_is_left_alone_until_it_has_settled(log: Log, history: History, tables: Client) -> None:
    now = int(datetime.now(UTC).timestamp()) * SECOND
    young, settled = ((now - ago * MINUTE) // MINUTE * MINUTE for ago in (8, 13))
    chance = random.Random(13)
    log.send([made(chance, n, at) | {"imported": True} for n, at in enumerate((young, settled))], arrived=now)
    assert waiting(history) == [settled]
    assert history.minutes_between(settled, now + HOUR) == ([settled], 1)


def test_rows_that_were_rebuilt_again_are_swept_up(log: Log, history: History, tables: Client) -> None:
    log.send([made(random.Random(14), n, NOON) for n in range(20)])
    for hours_ago in (3, 2, 0):
        at = int((datetime.now(UTC) - timedelta(hours=hours_ago)).timestamp() * 1e9)
        done(history, [NOON], clock=lambda at=at: at)
    kept = figures(tables)
    stored = "SELECT count() FROM windows FINAL WHERE partition = -1"
    assert tables.query(stored).result_rows == [(3 * len(kept),)]
    assert history.sweep() == 2 * len(kept)
    assert history.sweep() == 0
    assert tables.query(stored).result_rows == [(len(kept),)]
    assert figures(tables) == kept


def test_an_interrupted_rebuild_says_how_far_it_came(
    log: Log, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "_LOOKED_AT", 2)
    chance = random.Random(15)
    log.send(made(chance, n, NOON + n * MINUTE) for n in range(6))
    left = count()
    outcomes = [
        replace(outcome)
        for outcome in rebuild(history, [NOON + n * MINUTE for n in range(6)], wanted=lambda: next(left) < 4)
    ]
    assert [one.done for one in outcomes] == [0, 2, 2, 4]
