"""The commands that run the parts of a stack on this machine."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from cli.supervision import stack as stacks
from cli.supervision.stack import Ports
from infra.ports import free_port


def ports() -> Ports:
    return Ports(*(free_port() for _ in range(8)))


def test_files_of_the_working_directory_are_none_of_the_parts(tmp_path: Path) -> None:
    for name in ("api", "cli", "infra", "streams"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('somebody else is meant')\n")
    built = stacks.build(tmp_path / "var", ports(), simulate=False)
    (api,) = (part for part in built.services if part.name == "api")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = subprocess.run(
            api.prepare().command,
            cwd=tmp_path,
            env=os.environ | {"CHATGAUGE_API_PORT": str(taken.getsockname()[1])},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    assert "The API can't listen on" in ended.stderr


def test_every_service_is_asked_how_it_is_and_may_take_as_long_as_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATGAUGE_LIVENESS_START_WITHIN", "PT3M")
    chosen = ports()
    built = stacks.build(tmp_path, chosen, simulate=True)

    assert {part.name: part.health for part in built.services} == {
        name: getattr(chosen, name) for name in ("sink", "usage", "rollup", "alerts", "deliveries", "api")
    }
    assert {part.start_within for part in built.parts} == {180.0}
