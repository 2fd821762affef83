"""The tables in ClickHouse: numbered migrations, each applied once, and retention. Views: `sinks.views`.

ClickHouse has no transactions around DDL. So every statement can be run again, and a migration is
recorded after its last one: what was interrupted is simply repeated.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

from clickhouse_connect.driver.client import Client

from clients.clickhouse.connection import connect
from infra.settings import ClickHouseSettings, RetentionSettings
from sinks.errors import MigrationError
from sinks.statements import statements
from sinks.views import making as views

_FILE_NAME: Final = re.compile(r"(\d{4})_(\w+)\.sql")
_FORMERLY: Final = re.compile(r"^-- Formerly.*: ([0-9a-f]{64})$", re.MULTILINE)
_DATABASE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_RECORD: Final = """
CREATE TABLE IF NOT EXISTS migrations
(
    number UInt32 COMMENT 'The number that the file name begins with.',
    name String COMMENT 'The rest of the file name.',
    checksum String COMMENT 'SHA-256 of the file.',
    applied_at DateTime('UTC') DEFAULT now() COMMENT 'When it was applied.'
)
ENGINE = MergeTree ORDER BY number
COMMENT 'The migrations (sinks/migrations) that made these tables.'
"""


@dataclass(frozen=True)
class Migration:
    """One file of `sinks/migrations`. A statement ends with a semicolon at the end of a line."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def checksums(self) -> frozenset[str]:
        """Of this file, and of its earlier versions that made the same tables ("Formerly: ...")."""
        return frozenset((self.checksum, *_FORMERLY.findall(self.sql)))

    @property
    def statements(self) -> list[str]:
        """Its statements."""
        return statements(self.sql)


def migrations() -> tuple[Migration, ...]:
    """Those of this version, in order. Raises MigrationError for names or numbers that do not fit."""
    found = []
    for file in (resources.files("sinks") / "migrations").iterdir():
        if not file.name.endswith(".sql"):
            continue
        match = _FILE_NAME.fullmatch(file.name)
        if match is None:
            raise MigrationError(f"sinks/migrations/{file.name} is not named like 0001_what_it_does.sql.")
        found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError("The numbers of sinks/migrations must run from 0001 without a gap.")
    return tuple(found)


def prepare(settings: ClickHouseSettings, retention: RetentionSettings) -> None:
    """Creates the database if it is missing, and brings its tables and views up to this version."""
    if not _DATABASE_NAME.fullmatch(settings.database):
        raise MigrationError(
            f"CHATGAUGE_CLICKHOUSE_DATABASE is {settings.database!r}: take letters, digits and underscores."
        )
    with connect(settings, database="default") as client:
        client.command(f"CREATE DATABASE IF NOT EXISTS {settings.database}")
    with connect(settings) as client:
        migrate(client, retention)
        views.make(client)


def migrate(
    client: Client, retention: RetentionSettings, wanted: Sequence[Migration] | None = None
) -> list[Migration]:
    """Applies what is not yet applied, sets the retention, and returns what was applied.

    Raises MigrationError when an applied migration was changed since, or is unknown to this version.
    """
    wanted = migrations() if wanted is None else wanted
    client.command(_RECORD)
    applied = {
        number: (name, checksum)
        for number, name, checksum in client.query(
            "SELECT number, name, checksum FROM migrations"
        ).result_rows
    }
    _check(applied, wanted)
    fresh = [migration for migration in wanted if migration.number not in applied]
    for migration in fresh:
        for statement in migration.statements:
            client.command(statement)
        client.insert(
            "migrations",
            [[migration.number, migration.name, migration.checksum]],
            column_names=["number", "name", "checksum"],
            settings={"async_insert": 0},
        )
    _retain(client, retention)
    return fresh


def _check(applied: dict[int, tuple[str, str]], wanted: Sequence[Migration]) -> None:
    known = {migration.number: migration for migration in wanted}
    for number, (name, checksum) in sorted(applied.items()):
        if number not in known:
            raise MigrationError(
                f"The database has migration {number:04}_{name}, which this version does not know: it was "
                "made by a newer one. Install that, or take another database "
                "(CHATGAUGE_CLICKHOUSE_DATABASE)."
            )
        if checksum not in known[number].checksums:
            raise MigrationError(
                f"sinks/migrations/{number:04}_{known[number].name}.sql was changed after it had been "
                "applied. Restore the file, and put the change into a new migration."
            )


def _retain(client: Client, retention: RetentionSettings) -> None:
    for table, ttl in _ttls(retention).items():
        created = client.query(
            "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() "
            "AND name = {table:String}",
            parameters={"table": table},
        ).result_rows
        # Setting a TTL makes ClickHouse look through every part again: only when it changes.
        if created and f"TTL {ttl} " not in created[0][0]:
            client.command(f"ALTER TABLE {table} MODIFY TTL {ttl}")


def _ttls(retention: RetentionSettings) -> dict[str, str]:
    """Per table its TTL, spelled as ClickHouse spells it back."""

    def kept(column: str, days: int) -> str:
        return f"{column} + toIntervalDay({days})"

    return {
        "events": kept("toDateTime(arrived_at)", retention.events_days),
        "spans": kept("toDateTime(arrived_at)", retention.spans_days),
        "samples": kept("toDateTime(arrived_at)", retention.samples_days),
        "alerts": kept("toDateTime(arrived_at)", retention.alerts_days),
        "decisions": kept("toDateTime(arrived_at)", retention.decisions_days),
        "notifications": kept("toDateTime(arrived_at)", retention.deliveries_days),
        "deliveries": kept("toDateTime(arrived_at)", retention.deliveries_days),
        "dead_letters": kept("toDateTime(refused_at)", retention.dead_letters_days),
        "arrivals": kept("day", retention.windows_days),
        "checked_minutes": kept("minute", retention.windows_days),
        "windows": (
            f"{kept('written_at', retention.live_windows_days)} WHERE pane = '1s', "
            f"{kept('written_at', retention.windows_days)} WHERE pane != '1s'"
        ),
    }
