"""How long a process that starts is waited for: as long as it gets on, within reason."""

from dataclasses import dataclass, field
from typing import Final

import psutil

MOST: Final = 10
"""A start may take so many times as long, in all, as it may show no progress."""
_LEAST_CPU: Final = 0.05
"""Of a core, on average: less is what a server uses that does nothing."""


@dataclass(frozen=True)
class Signs:
    """What is seen of a process: bytes of its log, seconds of CPU, and steps, if it counts any."""

    log: int = 0
    cpu: float = 0.0
    steps: int = 0


@dataclass
class Patience:
    """Of who waits for a process that started at `began`. Pure: times in seconds of any clock.

    `within` is how long it may show no progress; progress is a log that grows, a count of steps that
    changes, or CPU that is used.
    """

    within: float
    began: float
    _moved_at: float = field(init=False)
    _mark: Signs = field(default_factory=Signs, init=False)

    def __post_init__(self) -> None:
        self._moved_at = self.began

    def exhausted(self, now: float, signs: Signs) -> str | None:
        """What the process did not do in time, or None when it is to be waited for."""
        if now - self.began > MOST * self.within:
            return f"did not answer within {MOST * self.within:.0f} s"
        mark = self._mark
        worked = signs.cpu - mark.cpu > max(0.1, _LEAST_CPU * self.within)
        if worked or (signs.log, signs.steps) != (mark.log, mark.steps):
            self._mark, self._moved_at = signs, now
        if now - self._moved_at > self.within:
            return f"did not answer within {self.within:.0f} s of its last sign of progress"
        return None


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process and its children have used; 0 when it has ended."""
    used = 0.0
    try:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            used += times.user + times.system
    except psutil.Error:
        pass
    return used
