"""The command line: what there is, and what `topics` and `doctor` say and return."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import checks
from infra.ports import free_port
from infra.settings import ClickHouseSettings
from schemas import unpacking
from schemas.topics import TOPICS


def chatgauge(
    *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env=os.environ | {"COLUMNS": "200"} | (env or {}),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


COMMANDS = ("up", "worker", "sink", "api", "topics", "doctor", "simulate", "replay", "rebuild", "backtest")


def test_help_lists_every_command() -> None:
    listed = chatgauge("--help")

    assert listed.returncode == 0
    for command in COMMANDS:
        assert f" {command} " in listed.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    explained = chatgauge(command, "--help")

    assert explained.returncode == 0
    assert f"Usage: chatgauge {command}" in explained.stdout or f"{command} [OPTIONS]" in explained.stdout


def test_what_does_not_exist_is_refused() -> None:
    assert chatgauge("dance").returncode == 2
    assert chatgauge("worker", "dance").returncode == 2


def test_topics_are_looked_at_created_and_left_alone(fresh_kafka: str) -> None:
    env = {"CHATGAUGE_KAFKA_BOOTSTRAP": fresh_kafka, "CHATGAUGE_KAFKA_PARTITIONS": "3"}

    looked = chatgauge("topics", "--dry-run", env=env)
    created = chatgauge("topics", env=env)
    again = chatgauge("topics", env=env)
    other = chatgauge("topics", env=env | {"CHATGAUGE_KAFKA_PARTITIONS": "5"})

    assert (looked.returncode, looked.stdout.count("missing")) == (1, len(TOPICS))
    assert (created.returncode, created.stdout.count("created")) == (0, len(TOPICS))
    assert (again.returncode, again.stdout.count("created")) == (0, 0)
    assert other.returncode == 1
    assert "chat.requests has 3 and needs 5" in other.stderr


def test_topics_without_kafka_say_so() -> None:
    failed = chatgauge("topics", env={"CHATGAUGE_KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}"})

    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert "does not answer" in failed.stderr


def verdicts(output: str) -> dict[str, str]:
    """The verdict of each check, by its name."""
    lines = [line for line in output.splitlines() if line[:8].strip() in ("ok", "FAULT", "skipped")]
    return {line[8:24].strip(): line[:8].strip() for line in lines}


def test_the_doctor_tells_what_is_well_and_what_is_not(
    fresh_kafka: str, database: ClickHouseSettings, tmp_path: Path
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    env = {
        "CHATGAUGE_KAFKA_BOOTSTRAP": fresh_kafka,
        "CHATGAUGE_KAFKA_PARTITIONS": "3",
        "CHATGAUGE_CLICKHOUSE_PORT": str(database.port),
        "CHATGAUGE_CLICKHOUSE_PASSWORD": database.password.get_secret_value(),
        "CHATGAUGE_CLICKHOUSE_DATABASE": database.database,
        "CHATGAUGE_API_PORT": str(free_port()),
        "CHATGAUGE_API_PARTS": f'{{"rollup": "{nowhere}/metrics"}}',
        "CHATGAUGE_SCHEMA_REGISTRY_URL": nowhere,
        "CHATGAUGE_DATA": str(tmp_path),
    }
    chatgauge("topics", env=env)

    found = chatgauge("doctor", env=env)

    assert found.returncode == 1
    told = verdicts(found.stdout)
    for well in (
        "Python",
        "Java",
        "Maven",
        "Kafka's jars",
        "codecs",
        "disk",
        "Kafka",
        "topics",
        "ClickHouse",
    ):
        assert told[well] == "ok", found.stdout
    for fault in ("tables", "schema registry", "rollup", "api"):
        assert told[fault] == "FAULT", found.stdout
    assert told["consumer lag"] == "skipped"
    assert "start it: `chatgauge worker rollup`" in found.stdout
    assert found.stdout.splitlines()[-1] == "4 of these need attention"


async def test_the_doctor_tries_every_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await checks.codecs()
    assert (found.ok, found.found) == (True, "all that Kafka has can be read: none, gzip, snappy, lz4, zstd")

    def corrupt(*_: object) -> Iterator[bytes]:
        raise EOFError("cut off")

    monkeypatch.setitem(unpacking._UNPACKING, "lz4", corrupt)
    found = await checks.codecs()
    assert (found.ok, found.found) == (False, "can't be read: lz4 (CorruptStreamError)")


def test_the_doctor_knows_a_wrong_password(database: ClickHouseSettings) -> None:
    found = chatgauge(
        "doctor",
        env={"CHATGAUGE_CLICKHOUSE_PORT": str(database.port), "CHATGAUGE_CLICKHOUSE_PASSWORD": "guess"},
    )

    assert "refuses the user default — set CHATGAUGE_CLICKHOUSE_USER" in found.stdout
