"""What is told of a statement before the engine sees it."""

import pytest

from infra.clickhouse.errors import SYNTAX_ERROR, ClickHouseError
from infra.clickhouse.statement import parse


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        (b"SELECT 1", None),
        (b"SELECT 1 FORMAT JSON", "JSON"),
        (b"SELECT 1 FORMAT JSON;", "JSON"),
        (b"select 1 format Native -- as asked", "Native"),
        (b"SELECT 1 FORMAT Arrow SETTINGS max_threads = 1", "Arrow"),
        (b"SELECT 'FORMAT JSON'", None),
        (b"SELECT (SELECT 1 FORMAT JSON)", None),
        (b"/* FORMAT CSV */ SELECT `FORMAT` FROM t", None),
    ],
)
def test_the_format_stands_at_the_end_and_not_in_quotes_or_parentheses(
    sql: bytes, wanted: str | None
) -> None:
    assert parse(sql).format == wanted


@pytest.mark.parametrize(
    "sql",
    [
        b"SELECT 1; SELECT 2",
        b"SELECT 1;; DROP TABLE t",
        b"SELECT ';'; SELECT 2",
        b"SELECT 1 /* ; */ ; -- done\n SELECT 2",
    ],
)
def test_several_statements_are_refused(sql: bytes) -> None:
    with pytest.raises(ClickHouseError, match="Multi-statements are not allowed") as refusal:
        parse(sql)

    assert refusal.value.code == SYNTAX_ERROR
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    "sql",
    [b"SELECT 1;", b"SELECT 1 ; -- done", b"SELECT ';'", b"SELECT 1 /* ; x */", b"SELECT 'it''s; \\'; x'"],
)
def test_a_semicolon_that_ends_or_is_text_is_not_a_second_statement(sql: bytes) -> None:
    assert parse(sql).kind == b"SELECT"


@pytest.mark.parametrize("sql", [b"", b"  ", b";", b"-- nothing"])
def test_nothing_is_refused(sql: bytes) -> None:
    with pytest.raises(ClickHouseError, match="Empty query"):
        parse(sql)


def test_the_data_of_an_insert_begin_after_the_line_of_its_format() -> None:
    sql = b"INSERT INTO t (a, `b;`) SETTINGS x = 'FORMAT' FORMAT Native\n\x01;\x00"

    insert = parse(sql)

    assert insert.text == b"INSERT INTO t (a, `b;`) "
    assert insert.settings == b"SETTINGS x = 'FORMAT' "
    assert insert.format == "Native"
    assert sql[insert.data_from :] == b"\x01;\x00"


def test_values_are_data_too() -> None:
    sql = b"insert into t (a) values (1), (2);"

    insert = parse(sql)

    assert (insert.text, insert.format) == (b"insert into t (a) ", "Values")
    assert sql[insert.data_from :] == b" (1), (2);"


def test_an_insert_from_a_select_has_no_data() -> None:
    assert parse(b"INSERT INTO t SELECT * FROM s WHERE x IN ('VALUES')").data_from is None


@pytest.mark.parametrize(
    ("sql", "changes", "keeps_state"),
    [
        (b"SELECT 1", False, False),
        (b"DROP TABLE t", True, False),
        (b"/* */ insert into t values (1)", True, False),
        (b"SET max_threads = 1", False, True),
        (b"USE other", False, True),
        (b"CREATE TEMPORARY TABLE t (a Int8)", True, True),
        (b"CREATE TABLE t (a Int8)", True, False),
    ],
)
def test_what_changes_data_and_what_a_session_must_remember(
    sql: bytes, changes: bool, keeps_state: bool
) -> None:
    statement = parse(sql)

    assert (statement.changes, statement.keeps_state) == (changes, keeps_state)
