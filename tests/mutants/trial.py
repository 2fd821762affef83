"""Runs the tests of a changed module, in a child process each. The parent has imported what doesn't need it.

It also runs the Kafka of those tests that need one: its address is in the environment.
"""

import gc
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
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, ModuleType
from typing import Final

import pytest

KAFKA: Final = "CHATGAUGE_TEST_KAFKA"
"""The address of a Kafka to test with, in the environment."""
_PATIENCE: Final = 3.0
"""So many times the CPU that the unchanged module takes, and _AT_LEAST_S, is for ever."""
_AT_LEAST_S: Final = 3.0
_IDLE: Final = 4.0
"""A change may make the tests wait: so many times what the unchanged module takes by the clock, and
_IDLE_AT_LEAST_S, is for ever too."""
_IDLE_AT_LEAST_S: Final = 15.0
_OPTIONS: Final = (
    *("-x", "-q", "--hypothesis-profile=mutants", "-p", "no:cacheprovider"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # of plugins that are imported already
)
_MOST_BYTES: Final = 6 * 2**30
"""A change may ask for all the memory there is."""
_UNSAFE: Final = ("chdb", "tests", "conftest")
"""Modules that aren't for two processes, or are of the tests."""


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
    kafka: bool = False
    """The tests need one."""

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
    cpu, clock = _prepare(module, unchanged, output)
    gc.freeze()  # what the children share with this process they need not look through
    limit, idle = round(_AT_LEAST_S + _PATIENCE * cpu), _IDLE_AT_LEAST_S + _IDLE * clock
    left = list(enumerate(sources))[::-1]
    running: dict[int, tuple[int, float]] = {}
    try:
        while left or running:
            while left and len(running) < at_once:
                number, source = left.pop()
                pid = _fork(lambda source=source: _test(module, source, limit))
                running[pid] = number, time.monotonic()
            for pid, code in _ended(running, idle):
                number, _ = running.pop(pid)
                yield number, _verdict(code)
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@contextmanager
def kafka(directory: Path) -> Iterator[None]:
    """A Kafka for the tests of all changes, meanwhile. Raises TrialError when there is none to be had."""
    from infra.errors import LocalServerError
    from infra.kafka import LocalKafka
    from infra.ports import free_port

    with TemporaryDirectory(dir=directory, prefix="kafka-") as data:
        local = LocalKafka(Path(data), port=free_port())
        try:
            local.start()
        except LocalServerError as error:
            raise TrialError(f"no Kafka to test with: {error}") from error
        os.environ[KAFKA] = local.bootstrap
        try:
            yield
        finally:
            del os.environ[KAFKA]
            local.stop()


def _prepare(module: Module, unchanged: str, output: Path) -> tuple[float, float]:
    """Run the tests as they are, and import here what they need. Of a second run, the seconds of CPU, and
    those by the clock."""
    if module.name in sys.modules:
        raise TrialError(f"{module.path} is imported by this tool itself, which can't try it")
    imported = output.with_name("imported.txt")

    def first() -> int:
        code = _test(module, unchanged)
        imported.write_text("\n".join(_safe(sys.modules.values())))
        return code

    for number, run in enumerate((first, lambda: _test(module, unchanged))):
        began = time.monotonic()
        _, status, usage = os.wait4(_fork(run, output), 0)
        clock = time.monotonic() - began
        if (code := os.waitstatus_to_exitcode(status)) != 0:
            raise TrialError(f"{module.path}, unchanged: its tests end with {code}:\n{output.read_text()}")
        if number == 0:
            _import(imported.read_text().split(), without=module)
    if (others := threading.active_count() - 1) > 0:
        raise TrialError(f"{others} threads run, which no child will have")
    return usage.ru_utime + usage.ru_stime, clock


def _safe(modules: Iterable[ModuleType]) -> Iterator[str]:
    """Those of which one is enough for all processes, the module that is changed among them."""
    for each in list(modules):
        if getattr(each, "__file__", None) and not each.__name__.startswith(_UNSAFE):
            yield each.__name__


def _import(names: Iterable[str], *, without: Module) -> None:
    """Import modules, but for the one that is changed, and those that need it."""
    sys.meta_path.insert(0, missing := _Missing(without))
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:  # it can't be had by itself: the children import it
            sys.modules.pop(name, None)
    sys.meta_path.remove(missing)


class _Missing(importlib.abc.MetaPathFinder):
    """Doesn't find the module."""

    def __init__(self, module: Module) -> None:
        self._module = module

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name == self._module.name:
            raise ModuleNotFoundError(name)
        return None


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
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, _MOST_BYTES))
    sys.meta_path.insert(0, _Changed(module, source))
    return int(pytest.main([*_OPTIONS, *([] if module.kafka else ["--fast"]), *module.tests]))


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
