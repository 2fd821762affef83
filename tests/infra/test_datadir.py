"""One process per data directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.datadir import held
from infra.errors import DirectoryInUseError, StartFailedError

HOLDER = (
    "import sys, time; from pathlib import Path; from infra.datadir import held\n"
    "with held(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
)


def test_a_second_process_is_told_who_holds_it(tmp_path: Path) -> None:
    var = tmp_path / "var"

    with held(var), pytest.raises(DirectoryInUseError, match=rf"\(pid {os.getpid()}\).*--data"), held(var):
        pass


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DirectoryInUseError, match=f"pid {other.pid}"), held(tmp_path):
            pass
        other.kill()

    with held(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(StartFailedError, match="choose another directory with --data"),
        held(tmp_path / "file" / "var"),
    ):
        pass
