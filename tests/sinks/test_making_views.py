"""Views are made when they are missing or differ, and only then."""

from clickhouse_connect.driver.client import Client

from sinks.views.making import make, views
from sinks.views.view import View
from streams.catalogue.groupings import GROUPINGS

ONE = View(
    "one", "CREATE OR REPLACE VIEW one (`x` Int8 COMMENT 'It.') AS SELECT toInt8(1) AS x COMMENT 'One.'"
)
TWO = View("two", "CREATE OR REPLACE VIEW two (`x` Int8 COMMENT 'It.') AS SELECT x FROM one COMMENT 'Two.'")


def test_they_are_made_once(tables: Client) -> None:
    assert make(tables) == []
    assert {view.name for view in views()} >= {
        "window_rows",
        "requests_by_space",
        "alert_history",
        "requests",
    }


def test_one_that_differs_is_made_anew_with_those_behind_it(client: Client) -> None:
    assert make(client, [ONE, TWO]) == ["one", "two"]
    changed = View("one", ONE.statement.replace("toInt8(1)", "toInt8(2)"))

    assert make(client, [changed, TWO]) == ["one", "two"]
    assert client.query("SELECT x FROM two").result_rows == [(2,)]
    assert make(client, [changed, TWO]) == []


def test_one_that_somebody_dropped_comes_back(client: Client) -> None:
    make(client, [ONE, TWO])
    client.command("DROP VIEW two")

    assert make(client, [ONE, TWO]) == ["two"]


def test_one_that_this_version_does_not_have_is_dropped_and_may_come_back(client: Client) -> None:
    make(client, [ONE, TWO])

    assert make(client, [ONE]) == ["two"]
    assert client.query("EXISTS VIEW two").result_rows == [(0,)]
    assert make(client, [ONE, TWO]) == ["two"]


def test_each_grouping_has_a_view_of_requests() -> None:
    statements = [view.statement for view in views()]
    for grouping in GROUPINGS:
        assert any(f"grouping = '{grouping}'" in statement for statement in statements)
