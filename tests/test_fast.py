"""`--fast`, in a pytest of its own: what it leaves out is counted by the reason."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

GIVEN = """
import subprocess
import sys
import pytest

@pytest.fixture
def kafka():
    raise AssertionError("started")

@pytest.fixture
def broker(kafka):
    pass

def test_of_nothing_but_python():
    pass

def test_with_a_server(broker):
    pass

@pytest.mark.slow
def test_slow():
    pass

@pytest.mark.timeout(600)
def test_patient():
    pass

def test_with_a_process():
    try:
        subprocess.run([sys.executable, "-c", ""])
    except Exception:
        pass
    assert False, "goes on"
"""


@pytest.mark.slow
def test_what_needs_servers_processes_or_time_is_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "test_given.py").write_text(GIVEN)
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.fast", "-c", "/dev/null", "--rootdir", tmp_path),
            *("-o", "timeout=120", "-p", "no:cacheprovider", "--fast", tmp_path / "test_given.py"),
        ],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout
    said = next(line for line in ended.stdout.splitlines() if line.startswith("fast: "))
    assert said.startswith("fast: left out 4 tests: ")
    assert set(said.removeprefix("fast: left out 4 tests: ").split(", ")) == {
        "1 needs kafka",
        "1 is marked slow",
        "1 may take long",
        "1 starts a process",
    }
    assert "1 passed" in ended.stdout
