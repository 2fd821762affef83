"""Tests that hang, run by a pytest of their own: they end, are named, and the others are run."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATIENCE_S = 180.0
"""What hangs here would hang for an hour."""

CANCELLED = """
import asyncio

async def test_hangs():
    await asyncio.Event().wait()

def test_after():
    pass
"""
TEARDOWN = """
import time
import pytest

@pytest.fixture
def held():
    yield
    time.sleep(3600)

def test_hangs(held):
    pass

def test_after():
    pass
"""
ASYNC_TEARDOWN = """
import asyncio
import pytest

@pytest.fixture
async def held():
    yield
    await deaf()

async def deaf():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def test_hangs(held):
    assert False

def test_after():
    pass
"""
DEAF = """
import asyncio

class Load:
    async def __aenter__(self):
        pass

    async def __aexit__(self, *_):
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

async def test_hangs():
    async with Load():
        await asyncio.sleep(3600)

def test_after():
    pass
"""
SWALLOWED = """
import asyncio
import contextlib

async def test_hangs():
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(3600)

def test_after():
    pass
"""


def _run(tmp_path: Path, source: str, *options: str) -> tuple[int, str]:
    (tmp_path / "test_given.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "tests.ending", "-c", "/dev/null", "--rootdir", tmp_path]
    settings = ["-o", "timeout=1", "-o", "timeout_grace=2", "-o", "asyncio_mode=auto"]
    began = time.monotonic()
    ended = subprocess.run(
        [*command, *settings, "-p", "no:cacheprovider", *options, tmp_path / "test_given.py"],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE_S,
    )
    assert time.monotonic() - began < PATIENCE_S
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("source", [CANCELLED, SWALLOWED], ids=["cancelled", "swallowed"])
def test_an_async_test_is_cancelled_at_its_time_out_and_the_next_one_runs(
    tmp_path: Path, source: str
) -> None:
    code, output = _run(tmp_path, source)

    assert code == 1
    assert re.search(r"FAILED \S*test_given.py::test_hangs - Failed: Timeout \(>1 s\)", output)
    assert "1 failed, 1 passed" in output


def test_a_sync_teardown_is_interrupted_at_the_time_out(tmp_path: Path) -> None:
    code, output = _run(tmp_path, TEARDOWN)

    assert code == 1
    assert re.search(r"ERROR \S*test_given.py::test_hangs - Failed: Timeout \(>1 s\)", output)
    assert "2 passed, 1 error" in output


@pytest.mark.parametrize("source", [ASYNC_TEARDOWN, DEAF], ids=["teardown", "exit of a context"])
def test_what_goes_on_after_the_grace_ends_the_run_and_is_named(tmp_path: Path, source: str) -> None:
    code, output = _run(tmp_path, source)

    assert code == 70
    assert "test_given.py::test_hangs goes on 2 s after its time-out of 1 s: its process ends" in output
    assert "Current thread" in output


@pytest.mark.parametrize("source", [ASYNC_TEARDOWN, DEAF], ids=["teardown", "exit of a context"])
def test_with_workers_the_test_is_reported_once_and_the_others_run(tmp_path: Path, source: str) -> None:
    code, output = _run(tmp_path, source, "-p", "tests.sharing", "-n", "2", "--dist", "loadfile")

    assert code == 1
    assert output.count("crashed while running 'test_given.py::test_hangs'") >= 1
    assert output.count("replacing crashed worker") == 1
    assert "1 passed" in output
