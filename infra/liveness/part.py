"""How a part is: what its units have declared, and which tasks it needs."""

import asyncio
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from infra.liveness.unit import Unit, cpu_clock

Check = Callable[[], str | None]
"""What is wrong, in words; None when nothing is."""

_NUMBERS: Final = itertools.count()
_TOLD_AFTER_S: Final = 1.0
"""What a unit waits for no longer than that is not told: it is a part of working."""
_FAILED: Final = 70
"""Exit status of a part that could not go on (EX_SOFTWARE)."""
_LOG: Final = logging.getLogger(__name__)


def leave(status: int) -> None:
    """End the process at once, and say nothing more."""
    logging.disable(logging.CRITICAL)
    logging.shutdown()
    os._exit(status)


class State(StrEnum):
    """How a part is. The first that holds is told."""

    STALLED = "stalled"
    """Work is there, nothing is declared, and nothing gets on: the part is about to end."""
    WAITING = "waiting"
    """For something that it can't go on without; it goes on by itself."""
    STARTING = "starting"
    HALTED = "halted"
    """One partition or more, until a person has seen to it; all others are taken."""
    RUNNING = "running"


@dataclass(frozen=True)
class Waiting:
    """A unit waits: for what, and for how many seconds it has."""

    unit: str
    what: str
    seconds: float


@dataclass(frozen=True)
class Halted:
    """A unit takes no more of a partition, and why."""

    unit: str
    partition: int
    why: str


@dataclass(frozen=True)
class Report:
    """How a part is at one moment."""

    part: str
    state: State
    reason: str | None
    """Why it is stalled."""
    waiting: tuple[Waiting, ...]
    halted: tuple[Halted, ...]
    starting: tuple[str, ...]
    """The units that are not in place yet."""
    moves: int
    """Grows whenever the part gets on."""

    @property
    def is_ready(self) -> bool:
        """Everything is in place and taken."""
        return self.state is State.RUNNING


class Part:
    """The liveness of this process. All methods may be called from any thread.

    `exit` ends the process with a status, at once; tests give another.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        exit: Callable[[int], object] = leave,  # noqa: A002
    ) -> None:
        self.name = name
        self._clock = clock
        self._exit = exit
        self._lock = threading.Lock()
        self._units: dict[str, Unit] = {}
        self._loops: dict[str, Loop] = {}
        self._guards: dict[int, tuple[str, Check]] = {}
        self._stalled: str | None = None
        self._ended = False
        self._gone_by: float | None = None

    def unit(self, name: str) -> Unit:
        """The unit of this name, made at the first call."""
        with self._lock:
            if name not in self._units:
                self._units[name] = Unit(name, self._clock)
            return self._units[name]

    def without(self, name: str) -> None:
        """There is no unit of this name any more."""
        with self._lock:
            self._units.pop(name, None)

    def units(self) -> list[Unit]:
        """All of them."""
        with self._lock:
            return list(self._units.values())

    def attend(self, name: str = "main") -> None:
        """Watch over the event loop that runs in this thread: it has to turn, or to compute."""
        loop = Loop(name, cpu_clock())
        with self._lock:
            self._loops[name] = loop
        loop.beat(asyncio.get_running_loop())

    def loops(self) -> list["Loop"]:
        """The event loops that are watched over."""
        with self._lock:
            return [loop for loop in self._loops.values() if not loop.closed]

    def need(self, task: "asyncio.Future[Any]", name: str, *, may_return: bool = False) -> Callable[[], None]:
        """The task is needed: if it ends before `stopping` was called, the process ends with the reason.

        With `may_return` it may end by returning. What is returned, when called, takes it back.
        """
        needed = True

        def ended(done: "asyncio.Future[Any]") -> None:
            if self._gone_by is not None or not needed:
                return
            if done.cancelled():
                self.end(f"the task {name} was cancelled")
            elif (error := done.exception()) is not None:
                self.end(f"the task {name} failed: {described(error)}", error)
            elif not may_return:
                self.end(f"the task {name} ended")

        def release() -> None:
            nonlocal needed
            needed = False

        task.add_done_callback(ended)
        return release

    @contextmanager
    def guarding(self, name: str, check: Check) -> Iterator[None]:
        """Meanwhile `check` is asked every second what is wrong, from any thread: what has been wrong for
        five seconds ends the process. For what has tasks of its own, as Kafka's client does."""
        number = next(_NUMBERS)
        with self._lock:
            self._guards[number] = (name, check)
        try:
            yield
        finally:
            with self._lock:
                del self._guards[number]

    def guards(self) -> dict[int, tuple[str, Check]]:
        """The checks, by number."""
        with self._lock:
            return dict(self._guards)

    def stopping(self, within: float) -> None:
        """The part stops: tasks may end. What still runs after `within` seconds is ended hard."""
        with self._lock:
            if self._gone_by is None:
                self._gone_by = self._clock() + within

    @property
    def is_stopping(self) -> bool:
        """Whether it has been told to stop."""
        return self._gone_by is not None

    def is_overdue(self) -> bool:
        """Whether it should have stopped by now."""
        return self._gone_by is not None and self._clock() > self._gone_by

    def stall(self, reason: str) -> None:
        """The part is stalled; ends the process."""
        self._stalled = reason
        self.end(f"stalled: {reason}")

    def end(self, reason: str, error: BaseException | None = None) -> None:
        """Ends the process, hard, with the reason as the last line of the log.

        Nothing is lost: what was not acknowledged comes again, to the next process.
        """
        with self._lock:
            if self._ended:
                return
            self._ended = True
        if error is not None:
            _LOG.error("what ended %s:", self.name, exc_info=error)
        _LOG.critical("%s ends: %s", self.name, reason)
        self._exit(_FAILED)

    def report(self) -> Report:
        """How it is now."""
        now, units = self._clock(), self.units()
        waiting = tuple(
            Waiting(unit.name, wait.what, now - wait.since)
            for unit in units
            for wait in unit.waits()
            if wait.bound is None and now - wait.since >= _TOLD_AFTER_S
        )
        halted = tuple(
            Halted(unit.name, partition, why)
            for unit in units
            for partition, why in sorted(unit.halts().items())
        )
        starting = tuple(unit.name for unit in units if not unit.is_started)
        moves = sum(unit.moves() for unit in units)
        state = State.RUNNING
        for found, holds in (
            (State.STALLED, self._stalled is not None),
            (State.WAITING, bool(waiting)),
            (State.STARTING, bool(starting) or not units),
            (State.HALTED, bool(halted)),
        ):
            if holds:
                state = found
                break
        return Report(self.name, state, self._stalled, waiting, halted, starting, moves)


class Loop:
    """An event loop's sign of life."""

    EVERY_S: Final = 0.5

    def __init__(self, name: str, cpu_clock: int) -> None:
        self.name = name
        self.cpu_clock = cpu_clock
        self.beats = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._loop is not None and self._loop.is_closed()

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """It turns; called by the loop itself."""
        self._loop = loop
        self.beats += 1
        loop.call_later(self.EVERY_S, self.beat, loop)


def described(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
