"""Looks at a part again and again, from a thread of its own, and ends it when it is stalled."""

import threading
import time
from collections.abc import Callable
from typing import Final

from infra.liveness.judging import Sighting, Standing, looked, stalled
from infra.liveness.part import Loop, Part

_EVERY_S: Final = 1.0
_LEAST_CPU_S: Final = 0.001
_WRONG_S: Final = 5.0
"""What a guard finds wrong for longer ends the part: a client that is being stopped has ended tasks too."""


def cpu_used(clock: int) -> float | None:
    """Seconds of CPU by a thread's clock; None when the thread has ended."""
    try:
        return time.clock_gettime(clock)
    except OSError:
        return None


class Watchdog:
    """Judges the units and the event loops of a part, a look every second.

    An event loop that is blocked and uses CPU computes: meanwhile nobody who runs on it can get on, and
    nobody is stalled. One that is blocked and uses none is stalled itself, after the same time.
    """

    def __init__(self, part: Part, stall_after: float, cpu: Callable[[int], float | None] = cpu_used) -> None:
        self._part = part
        self._stall_after = stall_after
        self._cpu_of = cpu
        self._units: dict[str, Standing] = {}
        self._loops: dict[str, Standing] = {}
        self._cpu: dict[int, float] = {}
        self._wrong: dict[int, float] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look from now on, until the process ends."""
        self._thread = threading.Thread(target=self._run, daemon=True, name="watchdog")
        self._thread.start()

    def _run(self) -> None:
        before = time.monotonic()
        while True:
            time.sleep(_EVERY_S)
            now = time.monotonic()
            # What is more was not lived: the process was stopped, or had no turn.
            self.look(min(now - before, 2 * _EVERY_S))
            before = now

    def look(self, elapsed: float) -> None:
        """One look, `elapsed` seconds after the one before; ends the part if it is stalled."""
        if self._part.is_stopping:
            if self._part.is_overdue():
                self._part.end("it was told to stop and did not")
            return
        self._ask_guards(elapsed)
        reasons = []
        busy = self._computing()
        blocked = False
        standings = {}
        for loop in self._part.loops():
            before = self._loops.get(loop.name, Standing())
            blocked |= loop.beats == before.moves and loop.cpu_clock in busy
            seen = _of(loop, computing=loop.cpu_clock in busy)
            standings[loop.name] = looked(before, seen, elapsed)
            if (why := stalled(standings[loop.name], seen, self._stall_after)) is not None:
                reasons.append(why)
        self._loops = standings
        standings = {}
        for unit in self._part.units():
            seen = unit.sighting(computing=blocked or bool(unit.cpu_clocks() & busy))
            standings[unit.name] = looked(self._units.get(unit.name, Standing()), seen, elapsed)
            if (why := stalled(standings[unit.name], seen, self._stall_after)) is not None:
                reasons.append(f"{unit.name}: {why}")
        self._units = standings
        if reasons:
            self._part.stall("; ".join(reasons))

    def _ask_guards(self, elapsed: float) -> None:
        wrong = {}
        for number, (name, check) in self._part.guards().items():
            if (what := check()) is not None:
                wrong[number] = self._wrong.get(number, 0.0) + elapsed
                if wrong[number] > _WRONG_S:
                    self._part.end(f"{name}: {what}")
        self._wrong = wrong

    def _computing(self) -> frozenset[int]:
        """The clocks of the threads that have used CPU since the look before."""
        clocks = {loop.cpu_clock for loop in self._part.loops()}
        clocks.update(*(unit.cpu_clocks() for unit in self._part.units()))
        used = {clock: seconds for clock in clocks if (seconds := self._cpu_of(clock)) is not None}
        busy = frozenset(
            clock for clock, seconds in used.items() if seconds - self._cpu.get(clock, 0.0) >= _LEAST_CPU_S
        )
        self._cpu = used
        return busy


def _of(loop: Loop, *, computing: bool) -> Sighting:
    doing = f"the event loop {loop.name} is blocked and does not compute"
    return Sighting(loop.beats, occupied=True, computing=computing, doing=doing)
