"""What Docker would build and run, as far as that can be told without Docker."""

import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from pydantic_settings import BaseSettings
from ruamel.yaml import YAML

from cli.main import _COMMANDS
from infra import settings
from infra.kafka import jars

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PARTS = ("topics", "rollup", "usage", "alerts", "deliveries", "sink", "api")
DOCKERFILE = (ROOT / "infra/images/Dockerfile").read_text()
KNOWN = {
    f"{each.model_config['env_prefix']}{field}".upper()
    for each in vars(settings).values()
    if isinstance(each, type) and issubclass(each, BaseSettings)
    for field in each.model_fields
}


def test_all_parts_and_what_they_need_are_there() -> None:
    assert set(SERVICES) == {"kafka", "clickhouse", *PARTS}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_given_settings_that_exist(part: str) -> None:
    assert set(SERVICES[part]["environment"]) <= KNOWN


@pytest.mark.parametrize("part", PARTS)
def test_a_part_runs_a_command_that_exists(part: str) -> None:
    assert SERVICES[part]["command"][0] in _COMMANDS


def test_the_settings_of_the_parts_can_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in SERVICES["api"]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:?[-?]?(.*)\}", r"\1", value))

    api = settings.ApiSettings()

    assert settings.KafkaSettings().bootstrap.split(":")[0] in SERVICES
    assert settings.ClickHouseSettings().host in SERVICES
    assert set(api.parts) == {"rollup", "usage", "alerts", "deliveries", "sink"}
    ports = settings.WorkerSettings(), settings.SinkSettings()
    wanted = {
        "rollup": ports[0].rollup_metrics_port,
        "usage": ports[0].usage_metrics_port,
        "alerts": ports[0].alerts_metrics_port,
        "deliveries": ports[0].deliveries_metrics_port,
        "sink": ports[1].metrics_port,
    }
    for part, url in api.parts.items():
        assert url == f"http://{part}:{wanted[part]}/metrics"
        assert f":{wanted[part]}/health/live" in " ".join(SERVICES[part]["healthcheck"]["test"])


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "topics"])
def test_what_runs_on_is_started_again_and_watched(service: str) -> None:
    assert SERVICES[service]["restart"] == "unless-stopped"
    assert SERVICES[service]["healthcheck"]["test"][0] == "CMD"


def test_parts_wait_for_what_they_need() -> None:
    for part in ("rollup", "usage", "alerts", "deliveries", "sink", "api"):
        needs = SERVICES[part]["depends_on"]
        assert needs["topics"] == {"condition": "service_completed_successfully"}
        assert needs["clickhouse"] == {"condition": "service_healthy"}
    assert SERVICES["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}


def test_data_are_on_volumes() -> None:
    for server in ("kafka", "clickhouse"):
        named, _ = SERVICES[server]["volumes"][0].split(":")
        assert named in COMPOSE["volumes"]


def test_nothing_is_open_to_other_machines() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_kafka_is_the_version_that_runs_here_and_takes_as_large_blocks() -> None:
    kafka = SERVICES["kafka"]

    assert kafka["image"] == f"apache/kafka:{jars.version()}"
    assert int(kafka["environment"]["KAFKA_MESSAGE_MAX_BYTES"]) > 16 * 1024 * 1024
    assert kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_no_password_has_a_default() -> None:
    assert ":?" in SERVICES["clickhouse"]["environment"]["CLICKHOUSE_PASSWORD"]
    assert ":?" in SERVICES["api"]["environment"]["CHATGAUGE_CLICKHOUSE_PASSWORD"]


def test_the_image_is_built_from_locked_requirements_and_runs_as_nobody() -> None:
    stages = DOCKERFILE.split("\nFROM ")

    assert len(stages) == 3  # what stands before, the build, the image
    installs = [line for line in DOCKERFILE.splitlines() if "pip install" in line]
    assert all("--require-hashes" in line or "/wheels/" in line for line in installs)
    assert re.search(r"^USER (?!root)\w+", stages[-1], re.MULTILINE)


def test_the_locked_build_backend_is_complete() -> None:
    chosen = re.search(r"\^\(([\w|-]+)\)==", DOCKERFILE)
    assert chosen is not None
    needed = {
        requirement.name
        for requirement in map(Requirement, requires("hatchling") or ())
        if requirement.marker is None or requirement.marker.evaluate({"python_version": "3.11", "extra": ""})
    }
    locked = set(re.findall(r"^([\w-]+)==", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE))

    assert set(chosen[1].split("|")) == {"hatchling", *needed}
    assert set(chosen[1].split("|")) <= locked


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    let_through = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))

    assert {source for source in copied if not (ROOT / source).exists()} == set()
    assert {source.split("/")[0] for source in copied} <= let_through


def test_the_wheel_carries_what_is_not_python(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        env=os.environ,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())

    for pattern in (
        "schemas/*.avsc",
        "schemas/history/*/*.avsc",
        "sinks/migrations/*.sql",
        "infra/kafka/*.xml",
    ):
        files = {str(path.relative_to(ROOT)) for path in ROOT.glob(pattern)}
        assert files
        assert files <= held
