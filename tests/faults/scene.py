"""What a fault has in hand while it happens: the stack, the feed, chance, and how its end is known."""

import random
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.faults.feed import Feed
from tests.faults.process import End, Process
from tests.faults.schedule import Fault
from tests.faults.stack import GROUP, PARTS, Stack


@dataclass(frozen=True)
class Until:
    """What a fault waits for. It has failed if that doesn't come in time."""

    what: str
    holds: Callable[[], bool]
    within_s: float = 60.0


Course = Generator[Until, None, None]
"""How a fault goes: from one thing to wait for to the next."""


@dataclass
class Recovery:
    """From the moment a part could work again (or its successor could begin), to its having caught up."""

    began: float
    took: float | None = None


@dataclass
class Scene:
    """One fault's."""

    fault: Fault
    stack: Stack
    feed: Feed
    lag: int = 0
    """The most records that any of its parts had still to acknowledge."""
    notes: list[str] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.fault.seed)
        self.parts = tuple(part for part in self.fault.lanes if part in PARTS) or tuple(PARTS)

    @property
    def part(self) -> str:
        """The part that it happens to."""
        return self.parts[0]

    @property
    def process(self) -> Process:
        return self.stack.processes[self.part]

    @property
    def recovery(self) -> float:
        """The longest, in seconds; 0 if there was none."""
        return max((one.took for one in self.recoveries if one.took is not None), default=0.0)

    def observe(self) -> None:
        """Called all the time."""
        look = self.stack.watch.last
        self.lag = max([self.lag, *(look.lag(*GROUP[part]) for part in self.parts)])

    def recovered(self, within_s: float = 90.0) -> Course:
        """Until its parts have acknowledged more than was produced up to now; the time that takes counts."""
        recovery = Recovery(time.monotonic())
        self.recoveries.append(recovery)
        yield from self.going_on(within_s)
        recovery.took = time.monotonic() - recovery.began

    def going_on(self, within_s: float = 90.0) -> Course:
        """The same, and no time is taken."""
        now, watch = time.monotonic(), self.stack.watch
        yield Until("the broker says how much there is", lambda: watch.last.at >= now, within_s)
        ends = dict(watch.last.ends)

        def passed() -> bool:
            places = [GROUP[part] for part in self.parts]
            return all(watch.last.has_passed(group, topic, ends[topic]) for group, topic in places)

        yield Until(f"{', '.join(self.parts)} go on from what there was", passed, within_s)

    def lasting(self, seconds: float) -> Course:
        """That long, and no condition: the length of the fault itself."""
        until = time.monotonic() + seconds
        yield Until(f"{seconds:.1f} s are over", lambda: time.monotonic() >= until, seconds + 30)

    def reaching(self, process: Process, point: str, within_s: float = 90.0) -> Course:
        """Until the process has stopped at a point."""
        try:
            yield Until(f"{process.name} comes to {point}", lambda: process.has_reached(point), within_s)
        finally:
            process.disarm(point)

    def asking(self, process: Process, what: Mapping[str, object]) -> Generator[Until, None, Any]:
        """What a process answers about its tasks."""
        process.ask(what)
        yield Until(f"{process.name} answers", process.has_answered)
        return process.answer()

    def ended(self, process: Process, known: int) -> End | None:
        """How the process ended unasked, after the first `known` ends of the stack."""
        return next((end for end in self.stack.ended[known:] if end.name == process.name), None)

    def beside(self, what: str, work: Callable[[], None], within_s: float = 60.0) -> Course:
        """Until `work`, on a thread of its own, has returned. What it raises fails the fault."""
        failures: list[BaseException] = []

        def run() -> None:
            try:
                work()
            except BaseException as failure:
                failures.append(failure)

        thread = threading.Thread(target=run, name=what, daemon=True)
        thread.start()
        yield Until(what, lambda: not thread.is_alive(), within_s)
        if failures:
            raise AssertionError(f"{what}: {failures[0]!r}") from failures[0]
