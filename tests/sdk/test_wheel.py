"""What `pip install chatgauge` brings."""

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chatgauge.transport import REQUESTS, SAMPLES, SPANS

ROOT = Path(__file__).parents[2]
CONTRACT = ("request_event.avsc", "sample.avsc", "span_event.avsc")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, the wheel made from it, and one made from the tree."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation"]
    run([*build, "--outdir", str(folder), str(ROOT / "sdk")])
    run([*build, "--wheel", "--outdir", str(folder / "tree"), str(ROOT / "sdk")])
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("venv")
    uv = [sys.executable, "-m", "uv"]
    run([*uv, "venv", "-q", "--python", sys.executable, str(folder)])
    python = folder / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    run([*uv, "pip", "install", "-q", "--python", str(python), str(wheel)])
    return python


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def contract_of(name: str) -> bytes:
    return (ROOT / "schemas" / name).read_bytes()


def test_the_wheels_carry_the_contract_itself(built: Path) -> None:
    for path in (*built.glob("*.whl"), *(built / "tree").glob("*.whl")):
        with zipfile.ZipFile(path) as wheel:
            names = {name for name in wheel.namelist() if ".dist-info/" not in name}
            (licence,) = (name for name in wheel.namelist() if name.endswith("licenses/LICENSE"))
            assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
            for name in CONTRACT:
                assert wheel.read(f"chatgauge/_avro/{name}") == contract_of(name)
        assert {name.split("/")[0] for name in names} == {"chatgauge"}
        assert "chatgauge/py.typed" in names
    assert len(list(built.rglob("*.whl"))) == 2


def test_the_source_distribution_carries_files_and_no_links(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        assert [member.name for member in archive if not member.isfile()] == []
        prefix = path.name.removesuffix(".tar.gz")
        for name in CONTRACT:
            member = archive.extractfile(f"{prefix}/src/chatgauge/_avro/{name}")
            assert member is not None
            assert member.read() == contract_of(name)


def test_in_the_tree_the_contract_is_linked_and_not_copied() -> None:
    for name in CONTRACT:
        link = ROOT / "sdk/src/chatgauge/_avro" / name
        assert link.is_symlink()
        assert link.resolve() == ROOT / "schemas" / name


def test_it_brings_few_packages_and_none_of_the_platforms_names(installed: Path) -> None:
    script = "from importlib.metadata import packages_distributions as p; print(*sorted(p()))"
    names = set(run([str(installed), "-I", "-c", script]).split())
    assert "chatgauge" in names
    platform = {"api", "cli", "clients", "infra", "schemas", "sinks", "streams", "traffic", "tests", "bench"}
    assert names & platform == set()
    distributions = "from importlib.metadata import distributions as d; print(*sorted({x.name for x in d()}))"
    distributions = set(run([str(installed), "-I", "-c", script]).split())
    assert {"aiokafka", "chatgauge", "fastavro"} < distributions
    assert len(distributions) <= 8


def test_installed_alone_it_publishes_what_fastavro_reads(
    installed: Path,
    chat_kafka: str,
    service: str,
    published: Callable[[str, str, str], list[tuple[bytes, dict[str, Any]]]],
) -> None:
    script = f"""
import chatgauge
gauge = chatgauge.Gauge({service!r}, kafka={chat_kafka!r})
with gauge.request(provider="openai", model="gpt-4o", user_id="u1") as request:
    with gauge.span("tool", "search"):
        pass
    request.first_token()
    request.usage(prompt_tokens=812, completion_tokens=96, cached_tokens=512, reasoning_tokens=32)
gauge.sample("open_websockets", 12)
"""
    run([str(installed), "-I", "-c", script])
    started, finished = (record for _, record in published(chat_kafka, REQUESTS, service))
    assert (started["phase"], finished["phase"]) == ("started", "finished")
    assert (finished["prompt_tokens"], finished["cached_tokens"]) == (812, 512)
    assert [r["phase"] for _, r in published(chat_kafka, SPANS, service)] == ["started", "finished"]
    assert [r["value"] for _, r in published(chat_kafka, SAMPLES, service)] == [12.0]
