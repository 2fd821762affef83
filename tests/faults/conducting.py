"""Lets the faults of a schedule happen, those of different parts side by side, and tends the stack."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.faults.catalogue import CATALOGUE
from tests.faults.feed import Feed
from tests.faults.notifications import Notifications
from tests.faults.process import End
from tests.faults.scene import Course, Scene, Until
from tests.faults.schedule import Fault, ready
from tests.faults.stack import Stack

_LOOK_EVERY_S = 0.05
_WEIGH_EVERY_S = 1.0

Memory = dict[str, int]
"""Bytes by process."""


@dataclass(frozen=True)
class Outcome:
    """How one fault went."""

    fault: Fault
    began: float
    """Seconds since the schedule began, as all times here."""
    ended: float
    recovery: float
    """The longest of it, in seconds."""
    allowed: float
    lag: int
    memory_before: Memory
    memory_most: Memory
    memory_after: Memory
    notes: Sequence[str]
    failed: str = ""
    """What was waited for in vain."""

    @property
    def too_slow(self) -> bool:
        return self.recovery > self.allowed


@dataclass
class _Running:
    scene: Scene
    course: Course
    began: float
    memory_before: Memory
    memory_most: Memory
    patience: float = 1.0
    waits: Until | None = None
    deadline: float = 0.0

    def step(self) -> bool:
        """Go on as far as can be; whether it is over. TimeoutError if what it waits for doesn't come."""
        while self.waits is None or self.waits.holds():
            self.waits = next(self.course, None)
            if self.waits is None:
                return True
            self.deadline = time.monotonic() + self.patience * self.waits.within_s
        if time.monotonic() > self.deadline:
            within_s = self.patience * self.waits.within_s
            raise TimeoutError(f"not within {within_s:.0f} s: {self.waits.what}")
        return False


@dataclass
class Conductor:
    """`told` is called with the outcome of each fault, when it is over; `ended` with a process that ended
    though nobody had killed it."""

    stack: Stack
    feed: Feed
    notifications: Notifications
    told: Callable[[Outcome], None]
    ended: Callable[[End], None]
    patience: float = 1.0
    """How many times as long as is allowed anything may take."""
    begun: float = field(default_factory=time.monotonic)
    _running: list[_Running] = field(default_factory=list)
    _weighed_at: float = 0.0

    def play(self, faults: Sequence[Fault]) -> list[Outcome]:
        """Let them happen; returns when the last is over."""
        waiting, outcomes = list(faults), []
        while waiting or self._running:
            self.tend()
            for running in list(self._running):
                if (outcome := self._step(running)) is not None:
                    self._running.remove(running)
                    outcomes.append(outcome)
                    self.told(outcome)
            busy = frozenset(lane for one in self._running for lane in one.scene.fault.lanes)
            while (fault := ready(waiting, busy)) is not None:
                waiting.remove(fault)
                self._begin(fault)
                busy |= frozenset(fault.lanes)
            time.sleep(_LOOK_EVERY_S)
        return outcomes

    def wait(self, what: str, holds: Callable[[], bool], within_s: float) -> None:
        """Tend the stack until it holds. TimeoutError if it doesn't."""
        deadline = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {within_s:.0f} s: {what}")
            self.tend()
            time.sleep(_LOOK_EVERY_S)

    def tend(self) -> None:
        """What is to be done all the time."""
        known = len(self.stack.ended)
        self.stack.tend()
        for end in self.stack.ended[known:]:
            self.ended(end)
        for running in self._running:
            running.scene.observe()
        if time.monotonic() - self._weighed_at >= _WEIGH_EVERY_S:
            self._weighed_at = time.monotonic()
            memory = self.stack.resident()
            for running in self._running:
                for name, size in memory.items():
                    running.memory_most[name] = max(size, running.memory_most.get(name, 0))

    def _begin(self, fault: Fault) -> None:
        scene = Scene(fault, self.stack, self.feed)
        memory = self.stack.resident()
        course = CATALOGUE[fault.kind].course(scene)
        begun = time.monotonic()
        self._running.append(_Running(scene, course, begun, memory, dict(memory), self.patience))

    def _step(self, running: _Running) -> Outcome | None:
        failed = ""
        try:
            if not running.step():
                return None
        except (TimeoutError, ProcessLookupError, AssertionError) as trouble:
            failed = str(trouble) or repr(trouble)
            running.course.close()
        scene = running.scene
        return Outcome(
            fault=scene.fault,
            began=running.began - self.begun,
            ended=time.monotonic() - self.begun,
            recovery=scene.recovery,
            allowed=self.patience * CATALOGUE[scene.fault.kind].within_s,
            lag=scene.lag,
            memory_before=running.memory_before,
            memory_most=running.memory_most,
            memory_after=self.stack.resident(),
            notes=scene.notes,
            failed=failed,
        )
