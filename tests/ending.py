"""A test that has timed out ends, and with it what it hangs in: a pytest plugin, in two steps.

At its time-out an async test is cancelled: to raise in whatever runs at that moment, as pytest-timeout does,
may hit a callback of the event loop, which swallows it and loses what it had to do. A test that has no
running loop is interrupted where it is, as ever. What goes on `timeout_grace` seconds later, in the test, a
fixture or the closing of a loop, ends its process, after the stacks of all threads: a worker's test is then
reported as failed and another worker takes over; without workers, the run ends.
"""

import asyncio
import faulthandler
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
import pytest_timeout

_ENDED: Final = 70
_timed_out: pytest.StashKey[str] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("timeout_grace", "seconds from a test's time-out to the end of its process", default="30")


def pytest_configure(config: pytest.Config) -> None:
    # Nothing is captured yet: this is where pytest itself writes.
    config.pluginmanager.register(Ending(float(config.getini("timeout_grace")), os.dup(2)), "ending")


class Ending:
    """Ends tests after their time-out, and their process after `grace` seconds more."""

    def __init__(self, grace: float, stderr: int) -> None:
        self._grace = grace
        self._stderr = stderr
        self._debugging = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        timeout = pytest_timeout._get_item_settings(item).timeout
        if not timeout:
            return (yield)
        with self._watching(item.nodeid, timeout):
            return (yield)

    @contextmanager
    def _watching(self, what: str, timeout: float) -> Iterator[None]:
        over = threading.Event()

        def watch() -> None:
            if not over.wait(timeout + self._grace) and not (
                self._debugging or pytest_timeout.is_debugging()
            ):
                self._end(f"{what} goes on {self._grace:g} s after its time-out of {timeout:g} s")

        threading.Thread(target=watch, name="time-out", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _end(self, why: str) -> None:
        os.write(self._stderr, f"\n{why}: its process ends\n".encode())
        faulthandler.dump_traceback(self._stderr)
        os._exit(_ENDED)

    def pytest_enter_pdb(self) -> None:
        self._debugging = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool | None:
        if settings.method != "signal" or threading.current_thread() is not threading.main_thread():
            return None

        def timed_out(*_: object) -> None:
            if not settings.disable_debugger_detection and pytest_timeout.is_debugging():
                return
            os.write(self._stderr, f"\n{item.nodeid}: time-out after {settings.timeout:g} s\n".encode())
            faulthandler.dump_traceback(self._stderr)
            item.stash[_timed_out] = message = f"Timeout (>{settings.timeout:g} s) from pytest-timeout."
            running = asyncio._get_running_loop()
            task = None if running is None else _main_task(running)
            if running is None or task is None:
                pytest.fail(message)
            running.call_soon_threadsafe(task.cancel)

        def cancel() -> None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

        item.cancel_timeout = cancel  # type: ignore[attr-defined]
        signal.signal(signal.SIGALRM, timed_out)
        signal.setitimer(signal.ITIMER_REAL, settings.timeout)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        return (yield from _failing(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        return (yield from _failing(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        return (yield from _failing(item))

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        if hasattr(config, "workerinput"):
            return  # xdist's controller ends it, when all others have ended theirs
        # Threads and atexit handlers may hold up the end of the process, too.
        faulthandler.dump_traceback_later(2 * self._grace, exit=True, file=self._stderr)


def _main_task(loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any] | None:
    """The task whose end is the end of the running loop: the test's, or its fixture's."""
    return next((task for task in asyncio.all_tasks(loop) if "_run_until_complete_cb" in repr(task)), None)


def _failing(item: pytest.Item) -> Iterator[Any]:
    """A phase of a test whose time-out has come meanwhile fails, also when nothing else makes it."""
    before = item.stash.get(_timed_out, None)
    try:
        result = yield
    except asyncio.CancelledError as cancelled:
        if (message := item.stash.get(_timed_out, None)) is None:
            raise
        raise pytest.fail.Exception(message) from cancelled
    if before is None and (message := item.stash.get(_timed_out, None)) is not None:
        pytest.fail(message)
    return result
