"""One thing of a part that gets on by itself, and says so: a consumer, an agent, a follower."""

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final, ParamSpec, TypeVar

from infra.liveness.judging import Sighting, Wait

_P = ParamSpec("_P")
_T = TypeVar("_T")
_NUMBERS: Final = itertools.count()


def cpu_clock() -> int:
    """The clock of the CPU that this thread uses; of the whole process, where a thread has none (macOS).

    It may be read from any thread, and can't be read once the thread has ended.
    """
    if hasattr(time, "pthread_getcpuclockid"):
        return time.pthread_getcpuclockid(threading.get_ident())
    return time.CLOCK_PROCESS_CPUTIME_ID


class Unit:
    """What a unit declares. Its methods may be called from any thread; all but the waits return at once.

    A unit is *starting* until `started`. From then on it is *occupied* while a step is under way or `work`
    waits. While it is occupied it has to get on: begin and end steps, call `progress`, or compute. What it
    waits for it declares, by `waiting` when the wait may last, by `bounded` when it must not.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._moves = 0
        self._started = False
        self._work = False
        self._steps: dict[int, str] = {}
        self._waits: dict[int, Wait] = {}
        self._lasting: Wait | None = None
        self._halted: dict[int, str] = {}
        self._computing: dict[int, int] = {}

    def started(self) -> None:
        """It is in place: what it needed to begin is there."""
        with self._lock:
            self._moves += not self._started
            self._started = True

    def starts_anew(self) -> None:
        """It is starting once more, as after a rebalance; `started` ends that."""
        with self._lock:
            self._moves += self._started
            self._started = False

    def progress(self) -> None:
        """It has got on."""
        with self._lock:
            self._moves += 1

    def work(self, waits: bool) -> None:
        """Whether there is work that it has yet to take. Of halted partitions there is none."""
        with self._lock:
            self._moves += waits and not self._work
            self._work = waits

    def halted(self, partition: int, why: str) -> None:
        """Takes no more of this partition, until it is started again."""
        with self._lock:
            self._halted[partition] = why

    def resumed(self, partition: int | None = None) -> None:
        """Takes this partition again, or is no longer concerned with it; None: with any."""
        with self._lock:
            if partition is None:
                self._halted.clear()
            else:
                self._halted.pop(partition, None)

    @contextmanager
    def step(self, what: str = "a step is under way", *, progress: bool = True) -> Iterator[None]:
        """A step is under way meanwhile. Steps may overlap.

        Without `progress` it is one that is taken whether there is work or not: that it begins and ends is no
        sign that work gets on.
        """
        number = next(_NUMBERS)
        with self._lock:
            self._steps[number] = what
            self._moves += progress
        try:
            yield
        finally:
            with self._lock:
                del self._steps[number]
                self._moves += progress

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Waits for something that may take as long as it takes: an outage, an assignment. Not progress.

        Each attempt to end such a wait has to be `bounded`.
        """
        with self._wait(what, None):
            yield

    def wait_for(self, what: str | None) -> None:
        """As `waiting`, from now on and until it is called with None; the wait it declares may be another
        one at each call. For what begins in one place and ends in another."""
        with self._lock:
            before = self._lasting
            if what is None:
                self._lasting = None
            else:
                since = before.since if before else self._clock()
                self._lasting = Wait(before.number if before else next(_NUMBERS), what, since)
            if before is not None:
                del self._waits[before.number]
            if self._lasting is not None:
                self._waits[self._lasting.number] = self._lasting

    @asynccontextmanager
    async def bounded(self, what: str, seconds: float, *, progress: bool = True) -> AsyncIterator[None]:
        """Waits for something that must not take longer than `seconds`. Raises TimeoutError when it does.

        If the wait goes on in spite of that, it is a stall. That it succeeds is progress, unless `progress`
        is false: what only looks how far the unit has come doesn't get it on.
        """
        with self._wait(what, seconds):
            try:
                async with asyncio.timeout(seconds) as limit:
                    yield
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise TimeoutError(f"{what} took longer than {seconds:g} s") from error
        if progress:
            self.progress()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """This thread computes for the unit meanwhile: as long as it uses CPU, the unit gets on."""
        number, cpu = next(_NUMBERS), cpu_clock()
        with self._lock:
            self._computing[number] = cpu
        try:
            yield
        finally:
            with self._lock:
                del self._computing[number]
                self._moves += 1

    async def compute(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The function's result, computed in a thread of the event loop's executor."""

        def run() -> _T:
            with self.computing():
                return function(*args, **kwargs)

        return await asyncio.to_thread(run)

    @property
    def is_started(self) -> bool:
        """Whether it is in place."""
        return self._started

    def waits(self) -> tuple[Wait, ...]:
        """What it waits for now, the first begun first."""
        with self._lock:
            return tuple(self._waits.values())

    def halts(self) -> Mapping[int, str]:
        """Why, by halted partition."""
        with self._lock:
            return dict(self._halted)

    def cpu_clocks(self) -> frozenset[int]:
        """The CPU clocks of the threads that compute for it now."""
        with self._lock:
            return frozenset(self._computing.values())

    def moves(self) -> int:
        """How often it has got on."""
        return self._moves

    def sighting(self, *, computing: bool) -> Sighting:
        """What there is to see of it now."""
        with self._lock:
            if self._steps:
                doing = next(iter(self._steps.values()))
            else:
                doing = "work waits" if self._started else "it is starting"
            occupied = bool(self._steps) or self._work or not self._started
            return Sighting(self._moves, occupied, tuple(self._waits.values()), computing, doing)

    @contextmanager
    def _wait(self, what: str, bound: float | None) -> Iterator[None]:
        number = next(_NUMBERS)
        with self._lock:
            self._waits[number] = Wait(number, what, self._clock(), bound)
        try:
            yield
        finally:
            with self._lock:
                del self._waits[number]
