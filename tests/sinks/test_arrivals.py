"""What is noted of raw events as they arrive: how far each partition has come, and whose minutes changed."""

import random

import pytest
from clickhouse_connect.driver.client import Client

from sinks import arrivals
from sinks.tables import migrations
from tests.sinks.log import SECOND, Log, made
from tests.sinks.making import MINUTE, NOON


@pytest.fixture
def log(tables: Client) -> Log:
    return Log(tables)


@pytest.mark.parametrize("table", ["events", "spans", "samples"])
def test_how_far_a_partition_has_come_is_read_from_a_row_per_part(tables: Client, table: str) -> None:
    for at, offsets in enumerate((range(100), range(100, 180))):
        tables.command(
            f"INSERT INTO {table} (_partition, _offset, arrived_at, occurred_at, event_id) "
            f"SELECT number % 2, number, now64(6) - {at} * 86400, now64(6), toString(number) "
            f"FROM numbers({offsets.start}, {len(offsets)}) SETTINGS async_insert = 0"
        )
    ask = f"SELECT max(_offset) FROM {table} WHERE _partition = 0 GROUP BY _partition"
    assert tables.query(ask).result_rows == [(178,)]
    plan = "\n".join(row[0] for row in tables.query(f"EXPLAIN {ask}").result_rows)
    assert "reached" in plan
    tables.command(f"OPTIMIZE TABLE {table} FINAL")
    assert tables.query(ask).result_rows == [(178,)]


def test_an_insert_that_is_repeated_is_noted_even_if_its_first_answer_was_an_error(
    log: Log, tables: Client
) -> None:
    tables.command(
        "CREATE MATERIALIZED VIEW ending TO rebuilt_minutes AS "
        "SELECT toDateTime(throwIf(_offset >= 0, 'ended')) AS minute FROM events"
    )
    view = tables.query(
        "SELECT create_table_query FROM system.tables WHERE name = 'arrivals_of_events' "
        "AND database = currentDatabase()"
    ).result_rows[0][0]
    tables.command("DROP VIEW arrivals_of_events")
    chance = random.Random(16)
    records = log.send((made(chance, n, NOON) for n in range(10)), streamed=False, stored=False)
    with pytest.raises(Exception, match="ended"):
        log.store(records, 0)
    stored = "SELECT count(), (SELECT groupBitmapMerge(offsets) FROM arrivals) FROM events"
    assert tables.query(stored).result_rows == [(10, 0)]
    tables.command("DROP VIEW ending")
    tables.command(view)

    log.store(records, 0)  # the same token: the rows are there, and what looks on has to see them
    assert tables.query(stored).result_rows == [(10, 10)]


def test_the_end_of_a_partition_is_noted_again_by_who_takes_it_over(log: Log, tables: Client) -> None:
    chance = random.Random(17)
    for partition in (0, 1):
        log.send((made(chance, n, NOON + n * MINUTE) for n in range(10)), partition)
    noted = (
        "SELECT toUnixTimestamp(minute), _partition, day, groupBitmapMerge(offsets), max(late) "
        "FROM arrivals GROUP BY ALL ORDER BY ALL"
    )
    before = tables.query(noted).result_rows
    assert len(before) == 20
    times = "SELECT minute, _partition, max(stored_at) FROM arrivals GROUP BY ALL ORDER BY ALL"
    stored = tables.query(times).result_rows

    arrivals.note_again(tables, 0, 9)
    assert tables.query(times).result_rows == stored  # nothing was missing: nothing is to be rebuilt again

    lost = f"minute = toDateTime({(NOON + 3 * MINUTE) // SECOND}) AND _partition = 1"
    tables.command(f"DELETE FROM arrivals WHERE {lost}", settings={"lightweight_deletes_sync": 1})
    arrivals.note_again(tables, 0, 9)
    assert len(tables.query(noted).result_rows) == 19
    arrivals.note_again(tables, 1, 9)
    assert tables.query(noted).result_rows == before
    assert sum(row != other for row, other in zip(tables.query(times).result_rows, stored, strict=True)) == 1

    tables.command("TRUNCATE TABLE arrivals")
    for partition in (0, 1):
        arrivals.note_again(tables, partition, 9)
    assert tables.query(noted).result_rows == before


def test_what_is_noted_again_is_what_the_view_notes() -> None:
    view = next(
        statement
        for migration in migrations()
        for statement in migration.statements
        if "VIEW IF NOT EXISTS arrivals_of_events" in statement
    )
    selected = view[view.index("AS SELECT") + 3 : view.index("COMMENT 'Notes")]
    assert selected.split() == arrivals.NOTED.format(more="").split()
