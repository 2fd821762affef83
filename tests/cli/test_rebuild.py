"""`chatgauge rebuild`: what it does, says and returns."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from clients.clickhouse.connection import connect
from infra.ports import free_port
from infra.settings import ClickHouseSettings, RetentionSettings
from sinks.tables import prepare

Command = subprocess.CompletedProcess[str]


@pytest.fixture
def tables(database: ClickHouseSettings) -> Iterator[Client]:
    prepare(database, RetentionSettings(events_days=10_000))
    with connect(database) as client:
        yield client


def environment(clickhouse: ClickHouseSettings) -> dict[str, str]:
    return os.environ | {
        "CHATGAUGE_CLICKHOUSE_PORT": str(clickhouse.port),
        "CHATGAUGE_CLICKHOUSE_DATABASE": clickhouse.database,
        "CHATGAUGE_CLICKHOUSE_PASSWORD": clickhouse.password.get_secret_value(),
        "CHATGAUGE_RETENTION_EVENTS_DAYS": "10000",
        "CHATGAUGE_WINDOWS_TIMEZONE": "Europe/Vienna",
    }


def rebuild(clickhouse: ClickHouseSettings, start: str, end: str, **env: str) -> Command:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "rebuild", "--from", start, "--to", end],
        env=environment(clickhouse) | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def store(client: Client, minutes: int, start: str = "2026-03-01 10:00:00", each: int = 1) -> None:
    """Finished requests, `each` to a minute, that arrived when they occurred."""
    client.command(
        "INSERT INTO events (_partition, _offset, arrived_at, occurred_at, event_id, phase, service) "
        f"SELECT 0, number, toDateTime64('{start}', 6, 'UTC') + 60 * intDiv(number, {each}) AS at, at, "
        f"toString(number), 'finished', 'chat' FROM numbers({minutes * each}) SETTINGS async_insert = 0"
    )


def test_it_counts_the_minutes_again_and_says_so(database: ClickHouseSettings, tables: Client) -> None:
    store(tables, 1_440)

    done = rebuild(database, "2026-03-01T10:00Z", "2026-03-02T11:00+01:00")

    assert (done.returncode, done.stdout, done.stderr) == (0, "rebuilt 1,440 minutes\n", "")
    assert tables.query("SELECT count(), sum(requests) FROM requests_per_minute").result_rows == [
        (1440, 1440)
    ]
    days = tables.query("SELECT DISTINCT day FROM window_rows ORDER BY day").result_rows
    assert [str(day) for (day,) in days] == ["2026-03-01", "2026-03-02"]


def test_what_is_not_whole_stays_and_is_told(database: ClickHouseSettings, tables: Client) -> None:
    store(tables, 5)
    store(tables, 3, start="2026-03-03 10:00:00")
    tables.command("ALTER TABLE events DROP PARTITION 20260303")

    done = rebuild(database, "2026-03-01T00:00Z", "2026-03-05T00:00Z")

    assert (done.returncode, done.stdout) == (3, "rebuilt 5 minutes, 3 not whole: raw events expired\n")


def test_where_nothing_is_there_is_nothing_to_do(database: ClickHouseSettings, tables: Client) -> None:
    done = rebuild(database, "2020-03-01T00:00Z", "2020-03-02T00:00Z")

    assert (done.returncode, done.stdout) == (0, "rebuilt 0 minutes; there are no requests in that time\n")


@pytest.mark.parametrize(
    ("start", "end", "advice"),
    [
        ("2026-03-01T10:00", "2026-03-01T11:00Z", "2026-11-20T10:00Z"),
        ("yesterday", "2026-03-01T11:00Z", "2026-11-20T10:00Z"),
        ("2026-03-01T11:00Z", "2026-03-01T11:00Z", "before --to"),
    ],
)
def test_times_that_make_no_sense_are_refused(
    clickhouse: ClickHouseSettings, start: str, end: str, advice: str
) -> None:
    done = rebuild(clickhouse, start, end)

    assert done.returncode == 2
    assert advice in done.stderr


def test_without_tables_or_without_clickhouse_it_says_what_to_do(database: ClickHouseSettings) -> None:
    asked = ("2026-03-01T10:00Z", "2026-03-01T11:00Z")
    empty = rebuild(database, *asked)
    away = rebuild(database, *asked, CHATGAUGE_CLICKHOUSE_PORT=str(free_port()))

    assert (empty.returncode, away.returncode) == (1, 1)
    assert "chatgauge sink" in empty.stderr
    assert "does not answer" in away.stderr
    assert "Traceback" not in empty.stderr + away.stderr


def test_ctrl_c_ends_it_after_the_batch(database: ClickHouseSettings, tables: Client) -> None:
    store(tables, 20_000, each=2)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cli.main",
            "rebuild",
            "--from",
            "2026-03-01T00:00Z",
            "--to",
            "2026-04-01T00:00Z",
        ],
        env=environment(database),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while tables.query("SELECT count() FROM rebuilt_minutes").result_rows == [(0,)]:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, complaints = process.communicate(timeout=60)

    assert process.returncode == 130
    assert complaints == ""
    assert "interrupted" in said
    rebuilt = tables.query("SELECT count() FROM rebuilt_minutes FINAL").result_rows[0][0]
    assert said.startswith(
        f"rebuilt {rebuilt:,} minutes; interrupted, {20_000 - rebuilt:,} left as they were"
    )
