"""The migrations: each applied once, none changed afterwards, and all that they make explained."""

from dataclasses import replace
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from clients.clickhouse.connection import connect
from infra.settings import ClickHouseSettings, RetentionSettings
from schemas.contract import schema
from sinks.errors import MigrationError
from sinks.tables import Migration, migrate, migrations, prepare
from streams.catalogue.measures import LATENCIES, SUMS

RETENTION = RetentionSettings()
COORDINATES = {"_partition", "_offset", "arrived_at"}


class Noting:
    """A client that notes the statements that change something."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.commands: list[str] = []

    def command(self, statement: str) -> object:
        self.commands.append(statement)
        return self._client.command(statement)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def columns(client: Client, table: str) -> set[str]:
    return {row[0] for row in client.query(f"DESCRIBE TABLE {table}").result_rows}


def definition(client: Client, table: str) -> str:
    return str(client.query(f"SHOW CREATE TABLE {table}").result_rows[0][0])


def test_an_empty_database_gets_all_of_them_and_a_full_one_none(client: Client) -> None:
    assert [m.number for m in migrate(client, RETENTION)] == list(range(1, len(migrations()) + 1))
    assert migrate(client, RETENTION) == []
    stored = client.query("SELECT number, name, checksum FROM migrations ORDER BY number").result_rows
    assert stored == [(m.number, m.name, m.checksum) for m in migrations()]


def test_prepare_makes_the_database_too(database: ClickHouseSettings, client: Client) -> None:
    client.command(f"DROP DATABASE {database.database}")
    prepare(database, RETENTION)
    with connect(database) as fresh:
        assert fresh.query("SELECT count() FROM requests_per_minute").result_rows == [(0,)]


def test_a_database_name_that_would_need_quoting_is_refused(database: ClickHouseSettings) -> None:
    with pytest.raises(MigrationError, match="CHATGAUGE_CLICKHOUSE_DATABASE"):
        prepare(database.model_copy(update={"database": "x; DROP TABLE events"}), RETENTION)


def test_an_applied_file_that_was_changed_is_refused(client: Client) -> None:
    first = Migration(1, "first", "CREATE TABLE a (x Int8) ENGINE = Memory;\n")
    migrate(client, RETENTION, [first])
    with pytest.raises(MigrationError, match=r"0001_first.sql was changed after it had been applied"):
        migrate(client, RETENTION, [replace(first, sql=first.sql + "-- more\n")])


def test_a_database_of_a_newer_version_is_refused(client: Client) -> None:
    first = Migration(1, "first", "CREATE TABLE a (x Int8) ENGINE = Memory;\n")
    second = Migration(2, "second", "CREATE TABLE b (x Int8) ENGINE = Memory;\n")
    migrate(client, RETENTION, [first, second])
    with pytest.raises(MigrationError, match=r"0002_second, which this version does not know"):
        migrate(client, RETENTION, [first])


def test_an_interrupted_migration_is_repeated(client: Client) -> None:
    made = "CREATE TABLE IF NOT EXISTS a (x Int8) ENGINE = Memory;\n"
    with pytest.raises(DatabaseError, match="Nonsense"):
        migrate(
            client,
            RETENTION,
            [Migration(1, "first", made + "CREATE TABLE b (x Nonsense) ENGINE = Memory;\n")],
        )
    whole = Migration(1, "first", made + "CREATE TABLE IF NOT EXISTS b (x Int8) ENGINE = Memory;\n")
    assert migrate(client, RETENTION, [whole]) == [whole]
    assert columns(client, "b") == {"x"}


@pytest.mark.parametrize(
    ("table", "record"),
    [
        ("events", "RequestEvent"),
        ("spans", "SpanEvent"),
        ("samples", "Sample"),
        ("alerts", "Alert"),
        ("decisions", "Decision"),
        ("notifications", "Notification"),
        ("deliveries", "DeliveryAttempt"),
    ],
)
def test_every_field_of_a_record_has_its_column(tables: Client, table: str, record: str) -> None:
    fields = {field["name"] for field in schema(record).definition["fields"]}
    computed = {"priced_nano_usd"} if table == "events" else set()
    assert columns(tables, table) == fields | COORDINATES | computed


def test_dead_letters_and_windows_have_theirs(tables: Client) -> None:
    letter = {field["name"] for field in schema("DeadLetter").definition["fields"]}
    assert columns(tables, "dead_letters") == letter | {"_partition", "_offset"}
    figures = {f"{name}_{part}" for name in LATENCIES for part in ("count", "sum", "min", "max", "sketch")}
    assert columns(tables, "windows") >= figures | set(SUMS) | {"key1", "key2", "since", "version"}


def test_every_table_and_every_column_is_explained(tables: Client) -> None:
    silent = tables.query(
        "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = '' "
        "AND table NOT LIKE '%_per_period' "
        "UNION ALL SELECT name, '' FROM system.tables WHERE database = currentDatabase() AND comment = ''"
    ).result_rows
    assert silent == []


def test_retention_follows_the_settings(client: Client) -> None:
    migrate(client, RETENTION)
    assert "TTL toDateTime(arrived_at) + toIntervalDay(90)" in definition(client, "events")
    migrate(client, RetentionSettings(events_days=7, live_windows_days=1))
    assert "TTL toDateTime(arrived_at) + toIntervalDay(7)" in definition(client, "events")
    assert "written_at + toIntervalDay(1) WHERE pane = '1s'" in definition(client, "windows")
    assert "TTL toDateTime(arrived_at) + toIntervalDay(30)" in definition(client, "decisions")


def test_an_unchanged_retention_costs_nothing(client: Client) -> None:
    migrate(client, RETENTION)
    noting = Noting(client)
    migrate(noting, RETENTION)  # type: ignore[arg-type]
    assert [statement for statement in noting.commands if "ALTER" in statement] == []


def test_what_is_older_than_the_retention_goes(client: Client) -> None:
    migrate(client, RetentionSettings(events_days=1))
    for number, age in enumerate((0, 3)):
        client.command(
            "INSERT INTO events (_partition, _offset, arrived_at) "
            f"SELECT 0, {number}, now() - INTERVAL {age} DAY"
        )
    client.command("OPTIMIZE TABLE events FINAL")
    assert client.query("SELECT _offset FROM events").result_rows == [(0,)]
