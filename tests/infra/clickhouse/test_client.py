"""ClickHouse's own Python client works on the embedded server as on any other."""

from collections.abc import Iterator
from datetime import UTC, datetime

import clickhouse_connect
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from clickhouse_connect.driver.external import ExternalData

from infra.settings import ClickHouseSettings

ROWS = 120_000


def connect(settings: ClickHouseSettings, **options: object) -> Client:
    return clickhouse_connect.get_client(
        host=settings.host,
        port=settings.port,
        username=settings.user,
        password=settings.password.get_secret_value(),
        database=settings.database,
        **options,
    )


@pytest.fixture(params=[False, "lz4", "zstd", "gzip"], ids=str)
def client(request: pytest.FixtureRequest, database: ClickHouseSettings) -> Iterator[Client]:
    """A client without compression, and one with each."""
    connected = connect(database, compress=request.param)
    yield connected
    connected.close()


@pytest.fixture
def plain(database: ClickHouseSettings) -> Iterator[Client]:
    connected = connect(database)
    yield connected
    connected.close()


def table() -> pa.Table:
    return pa.table(
        {
            "id": pa.array(np.arange(ROWS, dtype=np.uint64)),
            "name": pa.array([f"user-{i % 997}" for i in range(ROWS)]),
            "cost": pa.array(np.arange(ROWS, dtype=np.int64) * 3),
        }
    )


CREATE = "CREATE TABLE t (id UInt64, name String, cost Int64) ENGINE = MergeTree ORDER BY id"


def test_rows_and_arrow_go_in_and_come_out(client: Client) -> None:
    client.command(CREATE)

    arrow = client.insert_arrow("t", table())
    native = client.insert("t", [[ROWS, "späť", -1]], column_names=["id", "name", "cost"])

    assert (arrow.written_rows, native.written_rows) == (ROWS, 1)
    assert client.query("SELECT count(), sum(cost) FROM t").result_rows == [
        (ROWS + 1, sum(range(ROWS)) * 3 - 1)
    ]
    everything = client.query_arrow("SELECT * FROM t ORDER BY id")
    assert everything.slice(0, ROWS).column("name").to_pylist() == table().column("name").to_pylist()
    newest = client.query("SELECT * FROM t ORDER BY id DESC LIMIT 2").result_rows
    assert newest[0] == (ROWS, "späť", -1)


def test_a_large_result_is_streamed(client: Client) -> None:
    with client.query_column_block_stream("SELECT number, toString(number) FROM numbers(1000000)") as blocks:
        sums = [sum(block[0]) for block in blocks]

    assert sum(sums) == 499_999_500_000
    assert len(sums) > 1


def test_data_frames_go_in_and_come_out(plain: Client) -> None:
    plain.command(CREATE)
    frame = pl.from_arrow(table())
    assert isinstance(frame, pl.DataFrame)

    plain.insert_df_arrow("t", frame)

    assert plain.query_df_arrow("SELECT * FROM t ORDER BY id", dataframe_library="polars").equals(frame)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("String", "tab\t, line\n, 'quote' and \\backslash"),
        ("Int64", -(2**62)),
        ("Array(String)", ["a'b", "c\\d"]),
        ("Nullable(String)", None),
        ("DateTime64(6, 'UTC')", datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=UTC)),
        ("Float64", 0.1),
    ],
)
def test_parameters_arrive_as_they_are(plain: Client, declared: str, value: object) -> None:
    found = plain.query(f"SELECT {{value:{declared}}} AS v", parameters={"value": value}, query_tz="UTC")

    came = found.result_rows[0][0]
    assert came == (
        value.replace(tzinfo=None) if isinstance(value, datetime) and came.tzinfo is None else value
    )


def test_settings_hold_for_their_query_alone(plain: Client) -> None:
    ask = "SELECT getSetting('max_block_size')"

    inside = plain.query(ask, settings={"max_block_size": 1234}).result_rows
    after = plain.query(ask).result_rows

    assert inside == [(1234,)]
    assert after != inside


def test_a_session_keeps_its_temporary_tables_to_itself(database: ClickHouseSettings) -> None:
    mine, other = connect(database, session_id="mine"), connect(database, session_id="other")
    mine.command("CREATE TEMPORARY TABLE kept (a Int8)")
    mine.insert("kept", [[1], [2]], column_names=["a"])

    assert mine.query("SELECT sum(a) FROM kept").result_rows == [(3,)]
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        other.query("SELECT * FROM kept")
    mine.close()
    other.close()


def test_what_a_session_set_outlives_a_query_with_other_settings(database: ClickHouseSettings) -> None:
    session = connect(database, session_id="settings")
    ask = "SELECT getSetting('max_block_size')"
    session.command("SET max_block_size = 777")

    assert session.query(ask).result_rows == [(777,)]
    assert session.query(ask, settings={"max_block_size": 5}).result_rows == [(5,)]
    assert session.query(ask).result_rows == [(777,)]
    session.close()


def test_the_database_of_the_client_is_where_names_are_looked_up(
    plain: Client, database: ClickHouseSettings
) -> None:
    assert plain.query("SELECT currentDatabase()").result_rows == [(database.database,)]


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("SELECT * FROM nothing", "UNKNOWN_TABLE"),
        ("SELECT nothing", "UNKNOWN_IDENTIFIER"),
        ("SELEC 1", "SYNTAX_ERROR"),
        ("SELECT 1; SELECT 2", "SYNTAX_ERROR"),
        ("SELECT throwIf(1)", "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
    ],
)
def test_errors_come_with_their_names(plain: Client, sql: str, name: str) -> None:
    with pytest.raises(DatabaseError, match=name):
        plain.query(sql)


def test_an_error_in_the_middle_of_a_result_is_not_taken_for_its_end(client: Client) -> None:
    sql = "SELECT number, toString(number), throwIf(number = 900000) FROM numbers(1000000)"

    with pytest.raises((StreamFailureError, DatabaseError), match="throwIf"):
        _ = client.query(sql).result_rows


def test_an_insert_that_fails_leaves_nothing(plain: Client) -> None:
    plain.command("CREATE TABLE t (id UInt64, CONSTRAINT small CHECK id < 5) ENGINE = MergeTree ORDER BY id")

    with pytest.raises(DatabaseError, match="VIOLATED_CONSTRAINT"):
        plain.insert("t", [[1], [7]], column_names=["id"])

    assert plain.query("SELECT count() FROM t").result_rows == [(0,)]


def test_one_insert_is_one_block(plain: Client) -> None:
    plain.command(CREATE)

    plain.insert_arrow("t", table())

    assert plain.query(
        "SELECT count() FROM system.parts WHERE table = 't' AND database = currentDatabase() AND active"
    ).result_rows == [(1,)]


def test_a_token_makes_an_insert_count_once(plain: Client) -> None:
    plain.command(f"{CREATE} SETTINGS non_replicated_deduplication_window = 100")
    token = {"insert_deduplication_token": "chat.requests/0/0-119999", "async_insert": 0}

    for settings in (token, token, token | {"insert_deduplication_token": "chat.requests/0/120000-239999"}):
        plain.insert_arrow("t", table(), settings=settings)

    assert plain.query("SELECT count() FROM t").result_rows == [(2 * ROWS,)]


async def test_the_asynchronous_client_works_too(database: ClickHouseSettings) -> None:
    client = await clickhouse_connect.get_async_client(
        host=database.host,
        port=database.port,
        username=database.user,
        password=database.password.get_secret_value(),
        database=database.database,
        compress="lz4",
    )
    try:
        await client.command(CREATE)
        await client.insert_arrow("t", table())
        found = await client.query(
            "SELECT count() FROM t WHERE name = {name:String}", parameters={"name": "user-5"}
        )
        with pytest.raises(DatabaseError, match="UNKNOWN_IDENTIFIER"):
            await client.query("SELECT nothing")
    finally:
        await client.close()
    assert found.result_rows == [(table().column("name").to_pylist().count("user-5"),)]


def test_parameters_may_be_longer_than_a_url(client: Client) -> None:
    texts = [f"{n}: ö'\\ \r\n--x {{a:String}}" + "y" * 200 for n in range(400)]
    answer = client.query(
        "SELECT length({texts:Array(String)}), {texts:Array(String)}[2], {other:Int64}",
        parameters={"texts": texts, "other": 7},
    )
    assert answer.result_rows == [(400, texts[1], 7)]


async def test_also_those_of_the_asynchronous_client(database: ClickHouseSettings) -> None:
    client = await clickhouse_connect.get_async_client(
        host=database.host,
        port=database.port,
        username=database.user,
        password=database.password.get_secret_value(),
        database=database.database,
    )
    texts = ["y" * 200 for _ in range(400)]
    try:
        answer = await client.query("SELECT length({texts:Array(String)})", parameters={"texts": texts})
    finally:
        await client.close()
    assert answer.result_rows == [(400,)]


def test_external_tables_are_refused_in_words(plain: Client) -> None:
    data = ExternalData(file_name="t.csv", data=b"1", fmt="CSV", structure="x Int64")
    with pytest.raises(DatabaseError, match="External tables are not served"):
        plain.query("SELECT * FROM t", external_data=data)
