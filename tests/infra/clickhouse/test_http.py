"""The HTTP interface itself: who may ask, what errors look like, what is bounded, and how it ends."""

import asyncio
import base64
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.clickhouse import LocalClickHouse
from infra.errors import StartFailedError
from infra.ports import free_port
from infra.settings import ClickHouseSettings


@pytest.fixture
def http(database: ClickHouseSettings) -> Iterator[httpx.Client]:
    headers = {
        "X-ClickHouse-User": database.user,
        "X-ClickHouse-Key": database.password.get_secret_value(),
        "X-ClickHouse-Database": database.database,
    }
    with httpx.Client(base_url=f"http://{database.host}:{database.port}", headers=headers) as client:
        yield client


@pytest.fixture
def anybody(clickhouse: ClickHouseSettings) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{clickhouse.host}:{clickhouse.port}") as client:
        yield client


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


@pytest.mark.parametrize(
    "who",
    [
        {"headers": {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "s3cret"}},
        {"headers": basic("default", "s3cret")},
        {"params": {"user": "default", "password": "s3cret"}},
        {"params": {"password": "s3cret"}},
    ],
)
def test_a_user_is_known_by_headers_basic_auth_or_parameters(
    anybody: httpx.Client, who: dict[str, Any]
) -> None:
    assert anybody.post("/", content="SELECT 1", **who).text == "1\n"


@pytest.mark.parametrize(
    "who",
    [
        {},
        {"headers": {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "guess"}},
        {"headers": basic("somebody", "s3cret")},
        {"headers": {"Authorization": "Basic ???"}},
        {"params": {"user": "default", "password": ""}},
    ],
)
def test_others_are_refused_as_clickhouse_does(anybody: httpx.Client, who: dict[str, Any]) -> None:
    answer = anybody.post("/", content="SELECT 1", **who)

    assert answer.status_code == 403
    assert answer.headers["X-ClickHouse-Exception-Code"] == "516"
    assert "(AUTHENTICATION_FAILED)" in answer.text


def test_pages_of_other_origins_are_refused(http: httpx.Client) -> None:
    evil = http.post("/", content="SELECT 1", headers={"Origin": "http://evil.example"})
    own = http.post("/", content="SELECT 1", headers={"Origin": str(http.base_url).rstrip("/")})

    assert (evil.status_code, own.status_code) == (403, 200)


def test_ping_asks_for_no_password(anybody: httpx.Client) -> None:
    assert anybody.get("/ping").text == "Ok.\n"
    assert anybody.get("/").text == "Ok.\n"


@pytest.mark.parametrize(
    ("sql", "code", "status"),
    [
        ("SELECT * FROM nothing", "60", 404),
        ("SELECT nothing", "47", 404),
        ("SELEC 1", "62", 400),
        ("SELECT 1; SELECT 2", "62", 400),
        ("SELECT toUInt8('x')", "6", 400),
        (
            "SELECT sleepEachRow(1) FROM numbers(3) SETTINGS max_execution_time = 0.2, max_block_size = 1",
            "159",
            408,
        ),
        ("SELECT throwIf(1)", "395", 500),
    ],
)
def test_errors_have_the_code_and_status_that_clickhouse_gives_them(
    http: httpx.Client, sql: str, code: str, status: int
) -> None:
    answer = http.post("/", content=sql)

    assert (answer.headers["X-ClickHouse-Exception-Code"], answer.status_code) == (code, status)
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
    assert "(version 26." in answer.text


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"no_such_setting": "1"}, "115"),
        ({"bad name": "1"}, "115"),
        ({"database": "nowhere"}, "81"),
        ({"compress": "1"}, "48"),
        ({"session_id": "nobody", "session_check": "1"}, "372"),
        ({"readonly": "1", "query": "CREATE TABLE t (a Int8) ENGINE = Memory"}, "164"),
    ],
)
def test_parameters_that_cannot_be_met_are_errors(
    http: httpx.Client, parameters: dict[str, str], code: str
) -> None:
    answer = http.post("/", params={"query": "SELECT 1"} | parameters)

    assert answer.headers["X-ClickHouse-Exception-Code"] == code


def test_a_get_request_changes_nothing(http: httpx.Client) -> None:
    refused = http.get("/", params={"query": "CREATE TABLE t (a Int8) ENGINE = Memory"})

    assert refused.headers["X-ClickHouse-Exception-Code"] == "164"
    assert http.get("/", params={"query": "SELECT 2"}).text == "2\n"


def test_the_answer_says_what_it_is(http: httpx.Client) -> None:
    answer = http.post("/", params={"query_id": "mine", "default_format": "JSON"}, content="SELECT 1 AS one")

    assert answer.json()["data"] == [{"one": 1}]
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["X-ClickHouse-Format"] == "JSON"
    assert answer.headers["X-ClickHouse-Query-Id"] == "mine"
    assert answer.headers["X-ClickHouse-Timezone"] == "UTC"
    assert '"result_rows":"1"' in answer.headers["X-ClickHouse-Summary"]


def test_the_format_of_the_statement_comes_before_the_default(http: httpx.Client) -> None:
    answer = http.post("/", params={"default_format": "JSON"}, content="SELECT 1, 'a' FORMAT CSV")

    assert answer.text == '1,"a"\n'
    assert answer.headers["X-ClickHouse-Format"] == "CSV"


def test_statement_and_data_may_come_apart_or_together(http: httpx.Client) -> None:
    http.post("/", content="CREATE TABLE t (a Int8, b String) ENGINE = MergeTree ORDER BY a")

    apart = http.post("/", params={"query": "INSERT INTO t FORMAT CSV"}, content="1,one\n2,two\n")
    together = http.post("/", content="INSERT INTO t FORMAT JSONEachRow\n" + '{"a": 3, "b": "three; four"}\n')
    values = http.post("/", content="INSERT INTO t (a, b) VALUES (4, 'it''s'), (2 + 3, ';');")

    assert [answer.status_code for answer in (apart, together, values)] == [200, 200, 200]
    assert '"written_rows":"2"' in apart.headers["X-ClickHouse-Summary"]
    assert http.post("/", content="SELECT b FROM t ORDER BY a").text == "one\ntwo\nthree; four\nit\\'s\n;\n"


def test_an_insert_that_cannot_be_read_leaves_nothing(http: httpx.Client) -> None:
    http.post("/", content="CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")

    answer = http.post(
        "/", params={"query": "INSERT INTO t FORMAT JSONEachRow"}, content='{"a": 1}\n{"a": "many"}'
    )

    assert answer.status_code == 400
    assert http.post("/", content="SELECT count() FROM t").text == "0\n"


async def test_a_long_query_keeps_nobody_waiting(clickhouse: ClickHouseSettings) -> None:
    base = f"http://{clickhouse.host}:{clickhouse.port}"
    who = {"user": clickhouse.user, "password": clickhouse.password.get_secret_value()}
    async with httpx.AsyncClient(base_url=base, params=who, timeout=60) as client:
        long = "SELECT sum(sleepEachRow(0.5)) FROM numbers(4) SETTINGS max_block_size = 1"
        running = asyncio.create_task(client.post("/", content=long))
        await asyncio.sleep(0.1)

        ping, short = await client.get("/ping"), await client.post("/", content="SELECT 1")

        assert (ping.text, short.text) == ("Ok.\n", "1\n")
        assert not running.done()
        assert (await running).text == "0\n"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LocalClickHouse]:
    server = LocalClickHouse(tmp_path / "clickhouse", port=free_port(), options=["--largest-request", "1"])
    server.start()
    yield server
    server.stop()


def ask(server: LocalClickHouse, sql: str | bytes) -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{server.settings.port}/", content=sql, timeout=30)


def test_a_request_may_not_be_larger_than_allowed(own: LocalClickHouse) -> None:
    ask(own, "CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY a").raise_for_status()

    answer = ask(own, b"INSERT INTO t FORMAT TSV\n" + b"x" * 2_000_000)

    assert (answer.status_code, answer.headers["X-ClickHouse-Exception-Code"]) == (413, "307")
    assert "--largest-request" in answer.text


def test_what_was_inserted_outlives_a_stop_and_a_kill(own: LocalClickHouse) -> None:
    ask(own, "CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a").raise_for_status()
    ask(own, "INSERT INTO t VALUES (1)").raise_for_status()
    own.stop()
    assert own.process.returncode == 0

    own.start()
    ask(own, "INSERT INTO t VALUES (2)").raise_for_status()
    own.process.kill()
    own.process.stop()
    assert own.process.returncode == -signal.SIGKILL

    own.start()
    assert ask(own, "SELECT a FROM t ORDER BY a").text == "1\n2\n"


def test_a_query_in_progress_does_not_keep_it_from_stopping(own: LocalClickHouse) -> None:
    url = f"http://127.0.0.1:{own.settings.port}/"
    endless = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 0"
    with pytest.raises(httpx.TimeoutException):
        httpx.post(url, content=endless, timeout=0.5)

    own.stop(grace=30)

    assert own.process.returncode in (0, 1)


def test_two_cannot_have_one_directory(own: LocalClickHouse) -> None:
    with pytest.raises(StartFailedError, match="ClickHouse ended") as refusal:
        LocalClickHouse(own.data, port=free_port(), log=own.data.parent / "second.log").start()

    assert "cannot open" in refusal.value.log_tail
    assert ask(own, "SELECT 1").text == "1\n"
