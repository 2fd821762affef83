"""`chatgauge backtest`: what it finds, says and returns."""

import asyncio
import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner, Result

from cli import backtest as command
from cli import definitions
from cli.definitions import NoSuchRuleError, rule_of_file, rule_of_files
from cli.main import app
from clients.clickhouse.connection import connect
from infra.ports import free_port
from infra.settings import ClickHouseSettings, RetentionSettings
from infra.topics import create
from schemas.topics import ENDPOINTS, RULES, Topic
from sinks.tables import prepare
from streams.alerts.rule import dumped
from streams.definitions.definition import Definition
from streams.definitions.publisher import DefinitionPublisher

START = "2026-03-01T10:00Z"
END = "2026-03-01T12:00+01:00"
RULE = """\
rules:
  - id: failing
    name: Too many failures
    kind: threshold
    severity: error
    metric: errors
    grouping: service
    window: 2m
    threshold: 50 %
    repeat_interval: 10m
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULE)
    return path


@pytest.fixture
def tables(database: ClickHouseSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """An hour of one service, which fails from minute 20 to 45; another one, imported, does all along."""
    prepare(database, RetentionSettings(windows_days=10_000))
    around(database, monkeypatch)
    columns = "pane, grouping, pane_start, key1, partition, imported, version, written_at, requests, errors"
    start = "toDateTime('2026-03-01 10:00:00', 'UTC') + 60 * number"
    with connect(database) as client:
        client.command(
            f"INSERT INTO windows ({columns}) SELECT '1m', 'service', {start}, 'chat', p, false, 1, now(), "
            "10, if(number >= 20 AND number < 45, 10, 0) FROM numbers(60) ARRAY JOIN [0, 1] AS p"
        )
        client.command(
            f"INSERT INTO windows ({columns}) SELECT '1m', 'service', {start}, 'old', 0, true, 1, now(), "
            "10, 10 FROM numbers(90)"
        )
        yield client


def around(clickhouse: ClickHouseSettings, monkeypatch: pytest.MonkeyPatch, kafka: str | None = None) -> None:
    """The settings of the command; without Kafka, if none is given."""
    for name, value in {
        "CHATGAUGE_CLICKHOUSE_PORT": str(clickhouse.port),
        "CHATGAUGE_CLICKHOUSE_DATABASE": clickhouse.database,
        "CHATGAUGE_CLICKHOUSE_PASSWORD": clickhouse.password.get_secret_value(),
        "CHATGAUGE_WINDOWS_TIMEZONE": "Europe/Vienna",
        "CHATGAUGE_KAFKA_BOOTSTRAP": kafka or f"127.0.0.1:{free_port()}",
    }.items():
        monkeypatch.setenv(name, value)


def backtest(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["backtest", *map(str, arguments)])


def test_the_alerts_and_who_would_have_been_told_by_rule_and_endpoints_of_kafka(
    tables: Client,
    database: ClickHouseSettings,
    kafka: str,
    topic_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    file: Path,
) -> None:
    around(database, monkeypatch, kafka)
    rules, endpoints = (replace(topic, name=f"{topic_prefix}.{topic.name}") for topic in (RULES, ENDPOINTS))
    asyncio.run(create(kafka, partitions=1, topics=[rules, endpoints]))
    monkeypatch.setattr(definitions, "RULES", rules)
    monkeypatch.setattr(definitions, "ENDPOINTS", endpoints)
    failing = dumped(rule_of_file(str(file)))
    pager = {"id": "pager", "channel": "webhook", "url": "https://example.org/hook"}
    asyncio.run(published(kafka, [(rules, "failing", failing), (endpoints, "pager", pager)]))

    done = backtest("failing", "--from", START, "--to", END)

    assert (done.exit_code, done.stderr.count("\n")) == (0, 1)
    head, fired, resolved, _, told, *notified, _, total = done.stdout.splitlines()
    assert head.split() == ["event", "time", "state", "group", "value", "summary"]
    # By the clock of the service's time zone; the window of two minutes is over half at its second one.
    assert fired.startswith("2026-03-01 11:22:00  firing    service=chat  100 %")
    assert resolved.startswith("2026-03-01 11:46:00  resolved  service=chat  50 %")
    assert told.split() == ["notified", "at", "endpoint", "type", "tells", "of"]
    assert [line.split()[2:4] for line in notified] == [
        ["pager", "alert.firing"],
        ["pager", "alert.reminder"],
        ["pager", "alert.reminder"],
        ["pager", "alert.resolved"],
    ]
    assert total == "1 alert would have fired (0 not over yet), 4 notifications to 1 endpoint"


async def published(bootstrap: str, made: list[tuple[Topic, str, dict[str, Any]]]) -> None:
    publisher = DefinitionPublisher(bootstrap)
    for topic, name, definition in made:
        await publisher.publish(topic, Definition(name, 1, False, 0, "test", definition))
    await publisher.stop()


def test_everything_as_json_of_a_rule_in_a_file_without_kafka(tables: Client, file: Path) -> None:
    done = backtest(file, "--from", START, "--to", END, "--json")

    assert done.exit_code == 0
    assert "nobody would be told" in done.stderr
    found = json.loads(done.stdout)
    assert [(alert["state"], alert["changed_at"]) for alert in found["alerts"]] == [
        ("firing", "2026-03-01T10:22:00+00:00"),
        ("resolved", "2026-03-01T10:46:00+00:00"),
    ]
    assert (found["rule"]["threshold"], found["notifications"]) == ("50 %", [])
    assert found["through"] == "2026-03-01T11:00:00+00:00"
    assert found["decisions"]["evaluated"] == 60
    assert found["decisions"]["unmatched"] == 2


def test_imported_requests_are_judged_when_asked_for_and_told_of_when_there_are_no_others(
    tables: Client, file: Path
) -> None:
    later = ("--from", "2026-03-01T11:05Z", "--to", "2026-03-01T11:20Z", "--json")
    none = backtest(file, *later)
    imported = backtest(file, *later, "--include", "imported")

    assert "there are no live requests in that time, but imported ones: --include imported" in none.stderr
    assert json.loads(none.stdout)["alerts"] == []
    assert [alert["group"] for alert in json.loads(imported.stdout)["alerts"]] == [["service=old"]]


def test_ctrl_c_ends_it_and_what_was_found_is_told(
    tables: Client, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = command.run_backtest

    def interrupted(*arguments: Any, **more: Any) -> Iterator[Any]:
        for step in whole(*arguments, **more):
            signal.raise_signal(signal.SIGINT)
            yield step

    monkeypatch.setattr(command, "run_backtest", interrupted)
    before = signal.getsignal(signal.SIGINT)
    done = backtest(file, "--from", START, "--to", END)

    assert done.exit_code == 130
    assert "1 alert would have fired (1 not over yet)" in done.stdout
    assert "interrupted at 2026-03-01T10:22:00+00:00" in done.stderr
    assert signal.getsignal(signal.SIGINT) is before


def test_without_tables_or_without_clickhouse_it_says_what_to_do(
    database: ClickHouseSettings, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    around(database, monkeypatch)
    empty = backtest(file, "--from", START, "--to", END)
    around(database.model_copy(update={"port": free_port()}), monkeypatch)
    away = backtest(file, "--from", START, "--to", END)

    assert (empty.exit_code, away.exit_code) == (1, 1)
    assert "chatgauge sink" in empty.stderr
    assert "does not answer" in away.stderr


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("eror-rate", "there is no rule 'eror-rate': did you mean error-rate?"),
        ("nowhere.yaml", "nowhere.yaml can't be read"),
        ("wrong.yaml", "wrong.yaml:3:5: failing: rules[0].window: '2 moons'"),
        ("two.yaml", "has 2 rules (failing, other): say which, as in"),
        ("two.yaml#third", "there is no rule 'third'"),
    ],
)
def test_a_rule_that_is_not_there_or_wrong_is_told_with_its_place(
    clickhouse: ClickHouseSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rule: str,
    said: str,
) -> None:
    around(clickhouse, monkeypatch)
    monkeypatch.chdir(tmp_path)
    head = RULE.splitlines()
    Path("wrong.yaml").write_text("rules:\n  - id: failing\n    window: 2 moons\n" + "\n".join(head[2:7]))
    Path("two.yaml").write_text(RULE + RULE.partition("rules:\n")[2].replace("failing", "other"))

    done = backtest(rule, "--from", START, "--to", END)

    assert done.exit_code == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("start", "end", "advice"),
    [
        ("2026-03-01T10:00", END, "2026-11-20T10:00Z"),
        (END, START.replace("10", "09"), "before --to"),
        ("2100-01-01T00:00Z", None, "before --to"),
    ],
)
def test_times_that_make_no_sense_are_refused(file: Path, start: str, end: str | None, advice: str) -> None:
    done = backtest(file, "--from", start, *(["--to", end] if end else []))
    assert done.exit_code == 2
    assert advice in done.stderr


def test_rules_are_found_in_files_and_among_those_that_are_shipped(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATGAUGE_ALERTS_RULES", str(tmp_path))
    assert rule_of_file(f"{file}#failing").name == "Too many failures"
    assert rule_of_files("failing").name == "Too many failures"
    assert rule_of_files("error-rate").kind == "threshold"
    monkeypatch.setenv("CHATGAUGE_ALERTS_DEFAULT_RULES", "false")
    with pytest.raises(NoSuchRuleError, match="did you mean failing"):
        rule_of_files("failin")
