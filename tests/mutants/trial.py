"""Runs the tests of a changed module, in a child process each. The parent has imported the rest."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

import pytest

_PATIENCE: Final = 3.0
"""So many times the CPU that the unchanged module takes, and _AT_LEAST_S, is for ever."""
_AT_LEAST_S: Final = 3.0
_IDLE: Final = 10.0
"""A change may make the tests wait: so many times the limit of CPU, by the clock, is for ever too."""
_OPTIONS: Final = (
    *("-x", "-q", "--fast", "--hypothesis-profile=mutants", "-p", "no:cacheprovider"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # of plugins that are imported already
)
_UNSAFE: Final = ("chdb", "tests", "conftest")
"""Modules that aren't for two processes, or are the tests themselves."""


class Verdict(StrEnum):
    """What the tests say about a change."""

    NOTICED = "noticed"
    HUNG = "hung"
    SURVIVED = "survived"


class TrialError(Exception):
    """The tests can't be run, or fail with the module unchanged."""


@dataclass(frozen=True)
class Module:
    """A module and the tests that are to notice its changes."""

    path: Path
    """Below the root of the repository."""
    tests: Sequence[str]

    @property
    def name(self) -> str:
        return ".".join(self.path.with_suffix("").parts).removesuffix(".__init__")


def try_all(
    module: Module, sources: Sequence[str], root: Path, at_once: int = 2
) -> Iterator[tuple[int, Verdict]]:
    """The verdict for each of the sources, by its number, as they come.

    Raises TrialError when the unchanged module isn't found good.
    """
    unchanged = (root / module.path).read_text()
    output = root / "var" / "mutants" / "output.txt"
    output.parent.mkdir(parents=True, exist_ok=True)
    limit = round(_AT_LEAST_S + _PATIENCE * _prepare(module, unchanged, output))
    left = list(enumerate(sources))[::-1]
    running: dict[int, tuple[int, float]] = {}
    try:
        while left or running:
            while left and len(running) < at_once:
                number, source = left.pop()
                pid = _fork(lambda source=source: _test(module, source, limit))
                running[pid] = number, time.monotonic()
            for pid, code in _ended(running, _IDLE * limit):
                number, _ = running.pop(pid)
                yield number, _verdict(code)
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _prepare(module: Module, unchanged: str, output: Path) -> float:
    """Run the tests as they are, and import here what they need. CPU seconds of a second run."""
    imported = output.with_name("imported.txt")

    def first() -> int:
        code = _test(module, unchanged)
        imported.write_text("\n".join(_foreign(sys.modules.values())))
        return code

    for number, run in enumerate((first, lambda: _test(module, unchanged))):
        _, status, usage = os.wait4(_fork(run, output), 0)
        if (code := os.waitstatus_to_exitcode(status)) != 0:
            raise TrialError(f"{module.path}, unchanged: its tests end with {code}:\n{output.read_text()}")
        if number == 0:
            for name in imported.read_text().split():
                _import(name)
    if (others := threading.active_count() - 1) > 0:
        raise TrialError(f"{others} threads run, which no child will have")
    return usage.ru_utime + usage.ru_stime


def _foreign(modules: Iterable[ModuleType]) -> Iterator[str]:
    """Those that are installed rather than ours."""
    for each in list(modules):
        file = getattr(each, "__file__", None) or ""
        if "site-packages" in file and not each.__name__.startswith(_UNSAFE):
            yield each.__name__


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception:  # it can't be had by itself: the children import it
        sys.modules.pop(name, None)


def _fork(run: Callable[[], int], output: Path | None = None) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        there = os.open(output or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(there, 1)
        os.dup2(there, 2)
        code = run()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _test(module: Module, source: str, cpu_s: int | None = None) -> int:
    if cpu_s is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    sys.meta_path.insert(0, _Changed(module, source))
    return int(pytest.main([*_OPTIONS, *module.tests]))


def _ended(running: dict[int, tuple[int, float]], limit: float) -> Iterator[tuple[int, int | None]]:
    """Children that have ended, with their exit codes; None for one that took too long."""
    for pid, (_, began) in list(running.items()):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            yield pid, os.waitstatus_to_exitcode(status)
        elif time.monotonic() - began > limit:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            yield pid, None
    time.sleep(0.02)


def _verdict(code: int | None) -> Verdict:
    if code is None or code in (-signal.SIGKILL, -signal.SIGXCPU):
        return Verdict.HUNG
    if code in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
        return Verdict.NOTICED  # not even collected: the unchanged module is
    return Verdict.SURVIVED if code == pytest.ExitCode.OK else Verdict.NOTICED


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Loads the changed module in place of the one in the file."""

    def __init__(self, module: Module, source: str) -> None:
        self._module = module
        self._source = source

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._module.name:
            return None
        file = Path.cwd() / self._module.path
        return importlib.util.spec_from_file_location(name, file, loader=self)

    def get_source(self, fullname: str) -> str:
        return self._source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, str(Path.cwd() / self._module.path), "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        return self._module.path.name == "__init__.py"
