"""A child process: its log, its end, and that it cannot outlive its parent."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from infra.errors import DiskFullError, StartFailedError
from infra.process import Child


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


def test_its_output_goes_to_the_log_and_its_end_is_known(tmp_path: Path) -> None:
    child = Child("talker", python("print('hello'); raise SystemExit(3)"), tmp_path / "log" / "talker.log")

    child.start()
    wait_for(lambda: not child.running)

    assert child.returncode == 3
    assert child.tail() == "hello"


def test_the_tail_is_of_this_run_alone(tmp_path: Path) -> None:
    log = tmp_path / "it.log"
    log.write_text("of an earlier run\n")
    child = Child("it", python("print('one'); print('two'); print('three')"), log)

    child.start()
    wait_for(lambda: not child.running)

    assert child.tail(2) == "two\nthree"
    assert "earlier" not in child.tail(100)


def test_a_child_that_ends_while_starting_is_reported_with_its_last_words(tmp_path: Path) -> None:
    child = Child("it", python("raise SystemExit('the cable is not plugged in')"), tmp_path / "it.log")
    child.start()

    with pytest.raises(StartFailedError, match="it ended with status 1 while starting") as failure:
        child.wait_until(lambda: False, timeout=20)

    assert failure.value.log_tail == "the cable is not plugged in"


def test_a_full_disk_is_called_by_its_name(tmp_path: Path) -> None:
    child = Child("it", python("raise OSError(28, 'No space left on device')"), tmp_path / "it.log")
    child.start()

    with pytest.raises(DiskFullError, match="free some space"):
        child.wait_until(lambda: False, timeout=20)


def test_a_child_that_does_not_answer_is_reported(tmp_path: Path) -> None:
    child = Child("it", python("import time; time.sleep(60)"), tmp_path / "it.log")
    child.start()

    with pytest.raises(StartFailedError, match="did not answer within 0 s"):
        child.wait_until(lambda: False, timeout=0.2)
    child.stop()


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = Child("deaf", python(deaf), tmp_path / "it.log")
    child.start()
    wait_for(lambda: child.tail() == "up")

    child.stop(grace=0.3)

    assert child.returncode == -signal.SIGKILL


def test_signals_reach_a_child_of_a_parent_that_ignores_them(tmp_path: Path) -> None:
    child = Child("it", python("print('up', flush=True); import time; time.sleep(60)"), tmp_path / "it.log")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child.start()
    finally:
        signal.signal(signal.SIGINT, before)
    wait_for(lambda: child.tail() == "up")

    psutil.Process(child.pid).send_signal(signal.SIGINT)
    wait_for(lambda: not child.running)

    assert "KeyboardInterrupt" in child.tail()


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import time; from pathlib import Path; from infra.process import Child\n"
        f"child = Child('it', ['sleep', '600'], Path({str(tmp_path / 'it.log')!r})); child.start()\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        python(code), stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        wait_for(lambda: child.name() == "sleep")

        parent.kill()

    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert not psutil.pid_exists(child.pid) or child.status() == psutil.STATUS_ZOMBIE


def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    child = Child("it", ["no-such-command"], tmp_path / "it.log")

    child.start()
    wait_for(lambda: not child.running)

    assert child.tail() == "cannot run no-such-command: No such file or directory"
